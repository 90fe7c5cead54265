//! What the broker does not take: answers that are ready wait in the broker with what is known, for as long as it lasts,
//! and nothing is done twice for them.

use std::time::Duration;

use cancel_worker::worker::Clock;
use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, sleep};

use crate::support::{Broker, persistent};
use crate::test_env::{PATIENCE, TestEnv, event_id, key_of, operation};

/// On a node that may be looked into, with a short limit and short waits.
async fn impatient() -> TestEnv {
    let mut env = TestEnv::on(Broker::observable()).await;
    env.set("amqp.unsettled_limit", "2s");
    env.set("amqp.topology.wait_levels", "1s,3s");
    env
}

/// Removes a node's policies for a test's queues.
fn clear_policy(name: &str) {
    Broker::observable().ctl(["clear_policy", name]);
}

#[tokio::test]
async fn an_answer_that_nobody_takes_waits_with_its_conclusion_and_no_call_is_made_again() {
    let mut env = impatient().await;
    env.set("amqp.topology.results", "false");
    env.set("admin.listen", "127.0.0.1:0");
    let mut worker = env.worker().await;
    for id in ["cancels-a", "denied-a", "completes-a"] {
        env.request(id).await;
    }
    // Not in hand any more, and not for a moment.
    env.census_becomes(&[("wait.3s", (3, 0))]).await;
    let (status, reasons) = worker.readyz().await;
    assert!(status == 503 && reasons[0].contains("did not take"), "{status} {reasons:?}");
    let before = env.api.stats().await;
    // It comes back and waits again, also through another worker.
    sleep(Duration::from_secs(6)).await;
    worker.signal("TERM");
    worker.wait().await;
    let _worker = env.worker().await;
    sleep(Duration::from_secs(2)).await;

    let (queue, exchange) = (env.queue("results"), env.queue("events"));
    env.amqp.declare_queue(&queue).await;
    let (key, options) = ("operation.#".into(), QueueBindOptions::default());
    env.amqp
        .channel()
        .await
        .queue_bind(queue.into(), exchange.into(), key, options, FieldTable::default())
        .await
        .unwrap();
    let mended = Instant::now();
    env.collect_events().await;
    for (id, verdict) in
        [("cancels-a", "cancelled"), ("denied-a", "failed: permission_denied"), ("completes-a", "completed")]
    {
        assert_eq!(env.event_for(id).await.verdict(), verdict);
    }
    assert!(mended.elapsed() < Duration::from_secs(8), "{:?} after the mend", mended.elapsed());
    assert_eq!(env.events(4, Duration::from_secs(2)).await.len(), 3);
    let after = env.api.stats().await;
    assert_eq!((&before["cancel_calls"], &before["get_calls"]), (&after["cancel_calls"], &after["get_calls"]));
    env.depth_becomes("dead", 1).await;
    env.end().await;
}

#[tokio::test]
async fn a_dead_letter_that_is_not_taken_waits_and_its_event_is_published_once() {
    let mut env = impatient().await;
    let _worker = env.worker().await;
    let (policy, pattern) = (env.queue("full"), format!("^{}$", env.queue("dead")));
    let full = r#"{"max-length":1,"overflow":"reject-publish"}"#;
    Broker::observable().ctl(["set_policy", "--apply-to", "queues", "--priority", "9", &policy, &pattern, full]);
    let mut dead = 0;
    let mut ids = Vec::new();
    // It takes one or two more than its length.
    while dead + 3 > ids.len() {
        let id = format!("denied-{}", ids.len());
        env.request(&id).await;
        assert_eq!(env.event_for(&id).await.verdict(), "failed: permission_denied");
        ids.push(id);
        sleep(Duration::from_millis(200)).await;
        dead = env.depth("dead").await as usize;
        assert!(ids.len() < 20, "the dead queue is not full");
    }
    // An unusable request, too.
    env.publish(b"{}", persistent()).await;
    sleep(Duration::from_secs(8)).await;
    env.depth_becomes("requests", 0).await;
    clear_policy(&policy);
    env.depth_becomes("dead", u32::try_from(ids.len() + 1).unwrap()).await;
    for letter in env.dead_letters(u16::try_from(ids.len() + 1).unwrap()).await {
        let headers = letter.properties.headers().clone().unwrap();
        assert!(headers.inner().contains_key("cancel-worker-reason"), "{headers:?}");
        assert!(!headers.inner().contains_key("cancel-worker-kind"), "{headers:?}");
    }
    assert_eq!(env.events(ids.len() + 1, Duration::from_secs(1)).await.len(), ids.len(), "no event twice");
    assert_eq!(env.api.stats().await["cancel_calls"], ids.len());
    env.end().await;
}

/// A newer worker would know it. One that is not there cannot answer: so this one does, a minute after the deadline.
#[tokio::test]
async fn a_follow_up_of_a_newer_worker_waits_for_one_until_a_minute_after_its_deadline() {
    let mut env = impatient().await;
    let _worker = env.worker().await;
    let deadline = Clock::system().now() - Duration::from_secs(50);
    let newer = json!({
        "v": 2,
        "request": { "identity": "r-1", "name": operation("cancels-b") },
        "progress": { "phase": "dreaming", "deadline": deadline.format(&Rfc3339).unwrap() },
        "dreams": { "of": "sheep" },
    });
    let body = newer.to_string();
    let published = Instant::now();
    env.amqp.publish(&env.queue("followups"), "followup", body.as_bytes(), persistent()).await;
    let event = env.event_for("r-1").await;
    let (verdict, key) = ("failed: unreadable_follow_up", key_of("message_id", "r-1", &operation("cancels-b")));
    assert_eq!((event.verdict().as_str(), event.id()), (verdict, event_id(&key, verdict).as_str()));
    let took = published.elapsed().as_secs();
    assert!((8..16).contains(&took), "it took {took} s");
    let letter = env.dead_letters(1).await.remove(0);
    assert_eq!(letter.data, body.as_bytes(), "byte by byte");
    assert_eq!(env.api.stats().await["cancel_calls"], 0, "nobody knows whether it was cancelled");
    env.end().await;
}

/// The broker closes the channel on what is larger than it takes. A session cannot know before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_larger_than_the_broker_takes_is_given_in_its_least_form() {
    let node = tokio::task::block_in_place(Broker::private);
    let mut env = TestEnv::on(&node).await;
    for (setting, value) in [("amqp.reconnect_initial", "10ms"), ("amqp.reconnect_max", "10ms")] {
        env.set(setting, value);
    }
    // What is open already keeps what it began with.
    let limit = "application:set_env(rabbit, max_message_size, 20000), persistent_term:put(max_message_size, 20000).";
    tokio::task::block_in_place(|| node.ctl(["eval", limit]));
    let _worker = env.worker().await;
    // The context fits with the request, and not with the request, the operation and all else.
    let context = json!({ "text": "x".repeat(19_500) });
    env.request_with("cancels-a", json!({ "context": context })).await;
    env.request("cancels-b").await;
    assert_eq!(env.event_for("cancels-b").await.outcome(), "cancelled");
    let event = env.event_for("cancels-a").await;
    assert_eq!(event.verdict(), "failed: gave_up");
    assert_eq!(event.data().get("context"), None);
    let letter = env.dead_letters(1).await.remove(0);
    let body: serde_json::Value = serde_json::from_slice(&letter.data).unwrap();
    assert_eq!(body["context"], context, "whole, for whoever looks into it");
    env.request("cancels-c").await;
    assert_eq!(env.event_within("cancels-c", PATIENCE).await.outcome(), "cancelled");
}
