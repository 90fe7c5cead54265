//! Messages that end the process, or every session that they are delivered in, where nobody sees to it.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::Process;
use crate::test_env::{TestEnv, event_id, request};
use crate::wire::{LARGEST_HEADERS, Raw, Wire, long, nested, property, short};

#[tokio::test]
async fn headers_that_are_nested_as_deep_as_a_frame_allows_crash_nobody() {
    let mut env = TestEnv::new().await;
    let worker = env.worker().await;
    // Arrays in arrays, tables in tables: 26,000 and 21,000 levels. Each is read, and what can be used is answered.
    for (id, kind) in [("cancels-arrays", b'A'), ("cancels-tables", b'F')] {
        publish(&env, bomb(kind, request(id, json!({})).to_string())).await;
        assert_eq!(env.event_for(id).await.outcome(), "cancelled");
    }
    // What cannot be used is written again, with all its headers, or as many as fit beside ours.
    for (dead, kind) in [(1, b'A'), (2, b'F')] {
        publish(&env, bomb(kind, "{}".to_owned())).await;
        env.depth_becomes("dead", dead).await;
    }
    env.request("cancels-after").await;
    assert_eq!(env.event_for("cancels-after").await.outcome(), "cancelled");
    assert_eq!(lines_with(&worker, "\"consuming\""), 1, "no session was lost");
    env.end().await;
}

fn bomb(kind: u8, body: String) -> Raw {
    Raw::new(&[(property::HEADERS, long(&nested(kind, LARGEST_HEADERS)))], body)
}

#[tokio::test]
async fn a_message_that_ends_every_session_takes_none_of_a_thousand_others_with_it() {
    let mut env = TestEnv::new().await;
    let ids = thousand();
    fill(&mut env, &ids, 1).await;
    let worker = env.worker().await;
    all_but_the_poison_are_answered(&env, &ids, 1).await;
    // Each delivery up to the limit cost a session.
    assert!(lines_with(&worker, SESSION_LOST) > 20);
    env.end().await;
}

#[tokio::test]
async fn nor_do_three_of_them_that_go_back_and_forth_between_two_workers() {
    let mut env = TestEnv::new().await;
    let ids = thousand();
    fill(&mut env, &ids, 3).await;
    let workers = [env.worker().await, env.worker().await];
    all_but_the_poison_are_answered(&env, &ids, 3).await;
    assert!(workers.iter().all(|worker| lines_with(worker, SESSION_LOST) > 0));
    env.end().await;
}

const SESSION_LOST: &str = "the session is over";

/// No client library takes a string that is not UTF-8: its connection ends.
const NOT_UTF8: &[u8] = b"\xff\xfe";

/// Requests, some of which take so long that sessions end while they are in hand.
fn thousand() -> Vec<String> {
    let scripts = ["cancels-500ms", "cancels", "completes-300ms", "unimplemented", "cancels-2s", "flaky-1"];
    (0..1000).map(|number| format!("{}-n{number}", scripts[number % scripts.len()])).collect()
}

/// Fills the queue, from which nobody consumes yet: 500 requests, the poison, 500 requests.
async fn fill(env: &mut TestEnv, ids: &[String], poisons: usize) {
    env.set("amqp.reconnect_initial", "50ms");
    env.set("amqp.reconnect_max", "100ms");
    let mut declares = env.worker().await;
    declares.signal("TERM");
    declares.wait().await;
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (before, after) = ids.split_at(ids.len() / 2);
    assert_eq!(env.flood(before, 100).await.len(), before.len());
    for number in 0..poisons {
        publish(env, Raw::new(&[(property::MESSAGE_ID, short(NOT_UTF8))], format!("poison {number}"))).await;
    }
    assert_eq!(env.flood(after, 100).await.len(), after.len());
}

async fn all_but_the_poison_are_answered(env: &TestEnv, ids: &[String], poisons: usize) {
    let wanted: BTreeSet<_> = ids.iter().map(|id| (event_id(id), expected(id).to_owned())).collect();
    let answers = env.answers(wanted.len()).await;
    // What else was taken along is known only when the poison has reached its limit.
    env.depth_becomes("dead", u32::try_from(poisons).unwrap()).await;
    assert_eq!(answers, wanted);
    for queue in ["requests", "followups"] {
        env.depth_becomes(queue, 0).await;
    }
    let dead = take_raw(env, "dead").await;
    let bodies: BTreeSet<String> = dead.iter().map(|letter| String::from_utf8(letter.body.clone()).unwrap()).collect();
    assert_eq!(bodies, (0..poisons).map(|number| format!("poison {number}")).collect());
    assert!(dead.iter().all(|letter| letter.has(&short(NOT_UTF8))), "as they were published: {dead:?}");
}

fn expected(id: &str) -> &str {
    match id.split('-').next().unwrap() {
        "completes" => "completed",
        "unimplemented" => "unimplemented",
        _ => "cancelled",
    }
}

/// Publishes a message as it is, as a request.
async fn publish(env: &TestEnv, message: Raw) {
    let exchange = env.queue("requests");
    let publishing = move || Wire::open().publish(exchange.as_bytes(), b"cancel", &message);
    tokio::task::spawn_blocking(publishing).await.unwrap().unwrap();
}

/// Takes all messages of one of the worker's queues, as they are.
pub async fn take_raw(env: &TestEnv, queue: &str) -> Vec<Raw> {
    let queue = env.queue(queue);
    let taking = move || {
        let mut wire = Wire::open();
        std::iter::from_fn(|| wire.get(&queue)).collect()
    };
    tokio::task::spawn_blocking(taking).await.unwrap()
}

fn lines_with(worker: &Process, text: &str) -> usize {
    worker.lines().iter().filter(|line| line.contains(text)).count()
}
