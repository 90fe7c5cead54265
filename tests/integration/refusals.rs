//! Refusals that are the worker's own fault (a role that was revoked, something else where the API should be, credentials)
//! and one that is a request's: a project that is not ours.
//!
//! `CANCEL_WORKER_TEST_LONG=1` takes 20,000 requests and three minutes, instead of 1,000 and 15 s.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::event::Event;
use crate::readiness::becomes;
use crate::support::Process;
use crate::test_env::{PATIENCE, TestEnv, properties};

/// The longest backoff, 32 s, twice: a wait may have begun just before the mend, and a get may follow.
const BACK: Duration = Duration::from_secs(90);

fn is_long() -> bool {
    std::env::var_os("CANCEL_WORKER_TEST_LONG").is_some()
}

async fn env(grace: &str) -> TestEnv {
    let mut env = TestEnv::new().await;
    for (setting, value) in [("api.refusal_grace", grace), ("admin.listen", "127.0.0.1:0"), ("amqp.prefetch", "512")] {
        env.set(setting, value);
    }
    env
}

fn ids(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}-{number:05}")).collect()
}

async fn request_all(env: &TestEnv, ids: &[String]) {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(env.flood(&ids, 256).await.len(), ids.len());
}

/// How many lines of the worker have this level and these words.
fn lines(worker: &Process, level: &str, words: &str) -> usize {
    let level = format!("\"level\":\"{level}\"");
    worker.lines().iter().filter(|line| line.contains(&level) && line.contains(words)).count()
}

/// The API answers all calls so for a while, with requests waiting: some that come meanwhile, and some whose cancel had been
/// accepted. None of them fails.
async fn none_fails_that_meets(weather: Value, reason: &str) {
    let (count, lasts) = if is_long() { (20_000, Duration::from_secs(180)) } else { (1_000, Duration::from_secs(15)) };
    let mut env = env("5m").await;
    let worker = env.worker().await;
    let (before, accepted, during) = (ids("cancels-a", 20), ids("cancels-5s-b", 20), ids("cancels-c", count));
    request_all(&env, &before).await;
    env.events(before.len(), PATIENCE).await;
    request_all(&env, &accepted).await;
    while env.api.stats().await["cancel_calls"].as_u64() < Some(40) {
        sleep(Duration::from_millis(50)).await;
    }

    env.api.set_weather(&weather).await;
    let began = Instant::now();
    request_all(&env, &during).await;
    becomes(&worker, &[reason], Duration::from_secs(60)).await;
    sleep(lasts.saturating_sub(began.elapsed())).await;
    becomes(&worker, &[reason], Duration::from_secs(1)).await;
    let all = before.len() + accepted.len() + during.len();
    assert_eq!(env.events(all, Duration::from_millis(1)).await.len(), before.len(), "nothing is answered meanwhile");

    env.api.set_weather(&json!({})).await;
    let events = env.events(all, BACK + Duration::from_millis(10) * u32::try_from(count).unwrap()).await;
    let outcomes: Vec<&str> = events.iter().map(Event::outcome).filter(|it| *it != "cancelled").collect();
    assert_eq!((events.len(), outcomes), (all, vec![]));
    becomes(&worker, &[], Duration::from_secs(10)).await;
    assert_eq!(lines(&worker, "WARN", ""), 1, "{}", worker.lines().join("\n"));
    assert_eq!(lines(&worker, "WARN", "an endpoint refuses whoever calls"), 1);
    assert_eq!(lines(&worker, "INFO", "the endpoint that refused whoever called serves calls again"), 1);
    env.end().await;
}

#[tokio::test]
async fn a_role_that_was_revoked_for_a_while_fails_no_request_and_is_told_once() {
    let reason = "the API answered 403 PERMISSION_DENIED";
    none_fails_that_meets(json!({ "status": 403 }), reason).await;
}

#[tokio::test]
async fn a_page_that_stood_where_the_api_should_fails_no_request_and_is_told_once() {
    let reason = "the API answered 404 Not Found with an HTML page";
    none_fails_that_meets(json!({ "status": 404, "html": true }), reason).await;
}

#[tokio::test]
async fn what_is_refused_for_longer_than_the_grace_fails_with_the_words_of_the_api() {
    let mut env = env("4s").await;
    let worker = env.worker().await;
    env.request("cancels-a").await;
    env.event_for("cancels-a").await;
    env.request("cancels-5s-b").await;
    while env.api.calls("cancels-5s-b").await["get_calls"] == 0 {
        sleep(Duration::from_millis(20)).await;
    }
    env.api.set_weather(&json!({ "status": 403 })).await;
    let began = Instant::now();
    env.request("cancels-c").await;
    for id in ["cancels-c", "cancels-5s-b"] {
        let event = env.event_for(id).await;
        assert_eq!(event.verdict(), "failed: permission_denied");
        let message = event.data()["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("the API answered 403 PERMISSION_DENIED"), "{message}");
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4), "after {took:?}");
    env.api.set_weather(&json!({ "status": 404, "html": true })).await;
    env.request_with("cancels-d", json!({ "timeout": "6s" })).await;
    let event = env.event_for("cancels-d").await;
    assert_eq!(event.verdict(), "failed: bad_endpoint");
    assert_eq!(lines(&worker, "WARN", "refuses whoever calls"), 0, "too few to tell");
    env.end().await;
}

#[tokio::test]
async fn a_foreign_project_among_good_traffic_is_answered_within_fifteen_seconds_and_leaves_the_worker_ready() {
    let mut env = env("5m").await;
    let worker = env.worker().await;
    let good = ids("cancels-g", 60);
    let traffic = async {
        for id in &good {
            env.request(id).await;
            sleep(Duration::from_millis(250)).await;
        }
    };
    let foreign = async {
        env.event_for(&good[0]).await;
        let began = Instant::now();
        for number in 0..20 {
            let id = format!("denied-f{number}");
            let name = format!("projects/foreign/locations/global/operations/{id}");
            let body = json!({ "name": name, "request_id": id }).to_string();
            env.publish(body.as_bytes(), properties()).await;
        }
        for number in 0..20 {
            let event = env.event_for(&format!("denied-f{number}")).await;
            assert_eq!(event.verdict(), "failed: permission_denied");
        }
        let took = began.elapsed();
        assert!(took > Duration::from_secs(9) && took < Duration::from_secs(15), "{took:?}");
    };
    tokio::join!(traffic, foreign);
    becomes(&worker, &[], Duration::from_secs(1)).await;
    assert_eq!(lines(&worker, "WARN", "refuses whoever calls"), 0);
    env.end().await;
}

#[tokio::test]
async fn credentials_that_are_refused_make_the_worker_not_ready_until_they_are_taken() {
    let mut env = env("5m").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "old-token").unwrap();
    env.set("api.credentials.kind", "token_file");
    env.set("api.credentials.token_file", file.path().to_str().unwrap());
    env.api.set_token("old-token").await;
    let worker = env.worker().await;
    env.request("cancels-a").await;
    env.event_for("cancels-a").await;

    env.api.set_token("new-token").await;
    let requests = ids("cancels-b", 15);
    for id in &requests {
        env.request(id).await;
        sleep(Duration::from_secs(1)).await;
    }
    let reason = "the worker's credentials are refused or cannot be had: the API answered 401";
    becomes(&worker, &[reason], Duration::from_secs(2)).await;
    std::fs::write(file.path(), "new-token").unwrap();
    for id in &requests {
        assert_eq!(env.event_for(id).await.outcome(), "cancelled");
    }
    becomes(&worker, &[], Duration::from_secs(1)).await;
    assert_eq!(lines(&worker, "WARN", "credentials are refused"), 1);
    assert_eq!(lines(&worker, "INFO", "credentials are taken again"), 1);
    let told = worker.lines().iter().any(|line| line.contains("old-token") || line.contains("new-token"));
    assert!(!told, "no token is told");
    env.end().await;
}
