//! Many requests, and one that takes its time.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::support::Broker;
use crate::test_env::{TestEnv, event_id, request_key};

const MANY: usize = 20_000;

/// Scripts that need no wait, and what they lead to.
const QUICK: [(&str, &str); 10] = [
    ("cancels", "cancelled"),
    ("cancels", "cancelled"),
    ("already-cancelled", "cancelled"),
    ("completes", "completed"),
    ("errs-5", "completed"),
    ("precondition-done", "completed"),
    ("unimplemented", "unimplemented"),
    ("denied", "failed: permission_denied"),
    ("notfound", "failed: not_found"),
    ("html404", "failed: bad_endpoint"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_requests_get_one_right_answer_each() {
    let mut env = TestEnv::on(Broker::observable()).await;
    env.set("amqp.prefetch", "512");
    let plan: HashMap<String, &str> = (0..MANY)
        .map(|number| {
            let (script, verdict) = QUICK[number % QUICK.len()];
            (format!("{script}-r{number}"), verdict)
        })
        .collect();
    let verdict_of: HashMap<String, &str> =
        plan.iter().map(|(id, verdict)| (event_id(&request_key(id), verdict), *verdict)).collect();
    // The queues are there once a worker has been.
    let mut first = env.worker().await;
    first.signal("TERM");
    assert!(first.wait().await.success());
    let ids: Vec<&str> = plan.keys().map(String::as_str).collect();
    let begun = Instant::now();
    assert_eq!(env.flood(&ids, 1000).await.len(), MANY);
    let published = begun.elapsed();

    let begun = Instant::now();
    // Without a line for each request that fails.
    env.set("log.filter", "cancel_worker::worker::dispatcher=info,error");
    let _worker = env.worker().await;
    let events = env.events(MANY, Duration::from_secs(180)).await;
    println!("{MANY} requests were published in {published:.1?}, and answered in {:.1?}", begun.elapsed());

    let mut seen = HashMap::new();
    for event in &events {
        *seen.entry(event.id()).or_insert(0) += 1;
        assert_eq!(verdict_of.get(event.id()), Some(&event.verdict().as_str()), "{}", event.data());
    }
    assert_eq!((events.len(), seen.len()), (MANY, MANY), "events, and different ids among them");
    let failed = u32::try_from(plan.values().filter(|verdict| verdict.starts_with("failed")).count()).unwrap();
    env.census_becomes(&[("dead", (failed, 0))]).await;
    assert_eq!(env.events(0, Duration::ZERO).await.len(), MANY, "nothing comes afterwards");
    env.end().await;
}

#[tokio::test]
async fn an_operation_of_ninety_seconds_waits_in_the_broker_and_outlives_its_worker() {
    let mut env = TestEnv::on(Broker::observable()).await;
    let mut first = env.worker().await;
    let begun = Instant::now();
    env.request("cancels-90s-a").await;

    // By now each wait for the next look is longer than `worker.inline_wait`, for which a delivery may be held.
    sleep_until(begun + Duration::from_secs(25)).await;
    for _ in 0..3 {
        nothing_is_unacknowledged(&env).await;
        sleep(Duration::from_secs(2)).await;
    }
    first.signal("TERM");
    assert_eq!(first.wait().await.code(), Some(0));
    let waiting: Vec<(u32, u32)> = env.census().await.into_values().collect();
    assert_eq!(waiting, [(1, 0)], "one message waits");
    let _second = env.worker().await;
    for _ in 0..3 {
        nothing_is_unacknowledged(&env).await;
        sleep(Duration::from_secs(2)).await;
    }

    let event = env.event_within("cancels-90s-a", Duration::from_secs(135)).await;
    let took = begun.elapsed();
    println!("answered after {took:.1?}");
    assert_eq!((event.verdict().as_str(), event.attempts().0), ("cancelled", 1));
    assert!((90..135).contains(&took.as_secs()), "answered after {took:?}");
    assert_eq!(env.api.calls("cancels-90s-a").await["cancel_calls"], 1);
    env.census_becomes(&[]).await;
    env.end().await;
}

/// A look at the operation takes a moment, in which its delivery is held, and what the broker tells may be some seconds old:
/// so it may show for a while, but not for as long as the wait between two looks takes.
async fn nothing_is_unacknowledged(env: &TestEnv) {
    let held = async || env.census().await.values().any(|(_, unacknowledged)| *unacknowledged > 0);
    let begun = Instant::now();
    while held().await {
        assert!(begun.elapsed() < Duration::from_secs(10), "held unacknowledged while the operation takes its time");
        sleep(Duration::from_millis(500)).await;
    }
}
