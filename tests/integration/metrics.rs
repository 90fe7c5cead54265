//! What a scrape of a worker tells, while it works and afterwards.

use std::collections::BTreeMap;

use crate::support::{Process, get};
use crate::test_env::{PATIENCE, TestEnv};

/// Of each series, by its name with its labels.
type Scrape = BTreeMap<String, f64>;

async fn scrape(address: &str) -> Scrape {
    let (status, text) = get(&format!("http://{address}/metrics")).await;
    assert_eq!(status, 200);
    let series = text.lines().filter(|line| !line.starts_with('#'));
    series
        .map(|line| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap())).unwrap())
        .collect()
}

async fn address(worker: &mut Process) -> String {
    let line = worker.line_with("answering probes", PATIENCE).await;
    line.split(r#""address":""#).nth(1).unwrap().split('"').next().unwrap().to_owned()
}

/// The sum of the series whose name begins so.
fn sum(scrape: &Scrape, name: &str) -> f64 {
    scrape.iter().filter(|(series, _)| series.starts_with(name)).map(|(_, value)| value).sum()
}

#[tokio::test]
async fn at_every_scrape_deliveries_are_ended_or_in_hand_and_afterwards_every_answer_is_counted() {
    let mut env = TestEnv::new().await;
    env.set("admin.listen", "127.0.0.1:0");
    let mut worker = env.worker().await;
    let address = address(&mut worker).await;
    crate::readiness::becomes(&worker, &[], PATIENCE).await;
    let names: Vec<String> = (0..200).map(|number| format!("cancels-{number}")).collect();
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    let first = scrape(&address).await;
    let flood = env.flood(&ids, 50);
    let scrapes = async {
        let mut scrapes = Vec::new();
        for _ in 0..40 {
            scrapes.push(scrape(&address).await);
        }
        scrapes
    };
    let (_, scrapes) = tokio::join!(flood, scrapes);
    for scrape in &scrapes {
        for queue in ["requests", "followups", "quarantine"] {
            let of = |name: &str| sum(scrape, &format!("cancel_worker_{name}{{queue=\"{queue}\""));
            let (deliveries, ended, in_hand) =
                (of("deliveries_total"), of("deliveries_ended_total"), of("deliveries_in_hand"));
            assert!((deliveries - ended - in_hand).abs() < 0.5, "{queue}: {deliveries} = {ended} + {in_hand}");
        }
    }
    env.events(200, PATIENCE).await;
    let last = loop {
        let last = scrape(&address).await;
        if sum(&last, "cancel_worker_deliveries_in_hand") < 0.5 {
            break last;
        }
    };
    let names = |scrape: &Scrape| scrape.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&first), names(&last), "every series is there from the first scrape to the last");
    for (series, expected) in [
        ("cancel_worker_results_total{outcome=\"cancelled\",reason=\"\"}", 200.0),
        ("cancel_worker_request_duration_seconds_count{outcome=\"cancelled\"}", 200.0),
        ("cancel_worker_api_calls_total{method=\"cancel\",reply=\"accepted\"}", 200.0),
        ("cancel_worker_publishes_total{target=\"event\",result=\"confirmed\"}", 200.0),
        ("cancel_worker_deliveries_limit{queue=\"requests\"}", 256.0),
        ("cancel_worker_session_up{session=\"work\"}", 1.0),
        ("cancel_worker_ready", 1.0),
        ("cancel_worker_answers_late_total", 0.0),
    ] {
        assert!((last[series] - expected).abs() < 0.5, "{series} is {}", last[series]);
    }
    let answered = worker.lines().iter().filter(|line| line.contains(r#""answered""#)).count();
    assert_eq!(answered, 200, "one line for each answer");
    drop(worker);
    env.end().await;
}

#[tokio::test]
async fn tokens_that_were_had_and_those_that_were_not_are_counted() {
    let mut env = TestEnv::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "one").unwrap();
    env.set("admin.listen", "127.0.0.1:0");
    env.set("api.credentials.kind", "token_file");
    env.set("api.credentials.token_file", file.to_str().unwrap());
    let worker = env.worker().await;
    let address = worker.admin_address().await;
    let fetches = async |result: &str| {
        scrape(&address).await[&format!("cancel_worker_credentials_fetches_total{{result=\"{result}\"}}")]
    };
    env.request("cancels-a").await;
    env.event_for("cancels-a").await;
    assert!((fetches("ok").await - 1.0).abs() < 0.5 && fetches("failed").await < 0.5);
    std::fs::write(&file, "another").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    env.request("cancels-b").await;
    env.event_for("cancels-b").await;
    assert!((fetches("ok").await - 2.0).abs() < 0.5);
    std::fs::remove_file(&file).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    env.request("cancels-c").await;
    env.event_for("cancels-c").await;
    assert!(fetches("failed").await > 0.5, "the token before is used, and the fault is counted");
    drop(worker);
    env.end().await;
}

/// Why things wait, that answers come late, and what a publisher's clock tells: each in its own number.
#[tokio::test]
async fn waits_and_late_answers_are_counted_by_their_reasons() {
    let mut env = TestEnv::new().await;
    env.set("admin.listen", "127.0.0.1:0");
    env.set("worker.inline_wait", "0s");
    let worker = env.worker().await;
    let address = worker.admin_address().await;
    let hour_ago = cancel_worker::worker::now() - time::Duration::hours(1);
    let deadline = hour_ago.format(&time::format_description::well_known::Rfc3339).unwrap();
    env.request("cancels-2s-poll").await;
    env.request("flaky-1-backoff").await;
    env.request_with("cancels-late", serde_json::json!({ "deadline": deadline })).await;
    let published = u64::try_from(hour_ago.unix_timestamp()).unwrap();
    let properties = crate::test_env::properties().with_timestamp(published);
    env.publish(crate::test_env::request("cancels-old", serde_json::json!({})).to_string().as_bytes(), properties)
        .await;
    env.events(4, PATIENCE).await;
    let all = scrape(&address).await;
    for (series, least) in [
        ("cancel_worker_delayed_total{reason=\"poll\"}", 1.0),
        ("cancel_worker_delayed_total{reason=\"backoff\"}", 1.0),
        ("cancel_worker_answers_late_total", 1.0),
        ("cancel_worker_request_queue_seconds_count", 1.0),
        ("cancel_worker_request_queue_seconds_sum", 3590.0),
    ] {
        assert!(all[series] >= least, "{series} is {}", all[series]);
    }
    assert!(all["cancel_worker_answers_late_total"] < 1.5, "only one was late");
    drop(worker);
    env.end().await;
}
