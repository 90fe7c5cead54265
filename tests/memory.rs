//! Memory while large messages flow, and after. `CANCEL_WORKER_TEST_LONG=1` takes 1,000 messages and the default prefetch,
//! instead of 200 and 64.
//!
//! A program of its own, since tests beside it that measure times would measure it.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

#[path = "integration/event.rs"]
#[expect(dead_code, reason = "shared with the integration tests, which need more of it")]
mod event;
#[path = "integration/mailbox.rs"]
mod mailbox;
#[path = "support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the integration tests, which need more of it")]
mod support;
#[path = "integration/test_env.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the integration tests, which need more of it")]
mod test_env;

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::{Act, Process, RawServer, Request};
use crate::test_env::TestEnv;

/// Of one request.
const SIZE: usize = 900 << 10;

const MIB: u64 = 1 << 20;

/// Resident now, in bytes.
fn memory(worker: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// The most of it that is resident until all are answered.
async fn peak(env: &TestEnv, worker: &Process, count: usize) -> u64 {
    let mut peak = 0;
    let end = Instant::now() + Duration::from_secs(120);
    while env.events(count, Duration::from_millis(20)).await.len() < count {
        peak = peak.max(memory(worker));
        assert!(Instant::now() < end, "not all are answered");
    }
    peak
}

/// What is in hand at most: of requests as much as of follow-ups.
const fn in_hand(prefetch: usize) -> u64 {
    2 * (prefetch * SIZE) as u64
}

/// Large messages flow, and are answered.
async fn flow(mut env: TestEnv, script: &str, context: usize) {
    let (count, prefetch) = if std::env::var_os("CANCEL_WORKER_TEST_LONG").is_some() { (1000, 256) } else { (200, 64) };
    env.set("amqp.prefetch", &prefetch.to_string());
    let worker = env.worker().await;
    // What is needed in any case.
    for number in 0..50 {
        env.request(&format!("cancels-w{number}")).await;
    }
    env.events(50, Duration::from_secs(30)).await;
    let start = memory(&worker);
    let fields = json!({ "context": { "text": "x".repeat(context) } });
    for number in 0..count {
        env.request_with(&format!("{script}-{number}"), fields.clone()).await;
    }
    let peak = peak(&env, &worker, 50 + count).await;
    sleep(Duration::from_secs(2)).await;
    let after = memory(&worker);
    let [start_mib, peak_mib, after_mib, in_hand_mib] = [start, peak, after, in_hand(prefetch)].map(|it| it / MIB);
    let words = format!(
        "{script}: {start_mib} MiB at the start, {peak_mib} at most, {after_mib} after; {in_hand_mib} in hand at most"
    );
    assert!((peak - start) * 2 <= in_hand(prefetch) * 3, "{words}");
    assert!(after * 2 <= start * 3, "{words}");
    env.end().await;
}

#[tokio::test]
async fn large_requests_take_memory_as_long_as_they_are_in_hand() {
    flow(TestEnv::new().await, "cancels-3s", SIZE).await;
}

#[tokio::test]
async fn large_answers_take_memory_as_long_as_they_are_in_hand() {
    let metadata = "x".repeat(SIZE);
    let api = RawServer::start(move |request: &Request| {
        let (_, id) = request.target.rsplit_once('/').unwrap();
        let name = format!("projects/p/locations/global/operations/{id}");
        let body = match request.method.as_str() {
            "POST" => json!({}),
            _ => json!({ "name": name, "metadata": metadata, "done": true, "error": { "code": 1, "message": "" } }),
        };
        Act::json("200 OK", &body.to_string())
    })
    .await;
    let mut env = TestEnv::new().await;
    env.set("api.endpoint", &api.url());
    flow(env, "o", 1).await;
}
