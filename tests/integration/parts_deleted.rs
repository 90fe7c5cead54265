//! Queues and exchanges that somebody, or a policy, deletes while the worker runs: it makes them anew or says what is
//! missing, and all that the broker still has is answered, without a restart.

use std::collections::HashSet;
use std::time::Duration;

use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::broker_setup::Administered;
use crate::support::{Amqp, Process};
use crate::test_env::{PATIENCE, TestEnv, request_key};

/// From the deletion: the topology is looked at once a minute.
const LIMIT: Duration = Duration::from_secs(70);

async fn delete_queue(env: &TestEnv, name: &str) {
    let queue = env.queue(name);
    env.amqp.channel().await.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
}

async fn delete_exchange(env: &TestEnv, name: &str) {
    let exchange = env.queue(name);
    env.amqp.channel().await.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.unwrap();
}

fn ids(script: &str, letter: char, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{script}-{letter}{number}")).collect()
}

async fn request_all(env: &TestEnv, ids: &[String]) {
    let borrowed: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(env.flood(&borrowed, 100).await.len(), ids.len());
}

/// Waits until each of these is answered, no later than this moment.
async fn all_answered(env: &TestEnv, ids: &[String], end: Instant) {
    loop {
        let events = env.events(0, Duration::ZERO).await;
        let answered: HashSet<String> = events.iter().map(crate::event::Event::request_key).collect();
        let missing: Vec<&String> = ids.iter().filter(|id| !answered.contains(&request_key(id))).collect();
        if missing.is_empty() {
            return;
        }
        let (count, all) = (missing.len(), ids.len());
        assert!(Instant::now() < end, "{count} of {all} have no answer, such as {:?}", missing[0]);
        env.events(events.len() + 1, Duration::from_millis(500)).await;
    }
}

/// Waits until so many calls are under way.
async fn calls_become(env: &TestEnv, count: u64) {
    let end = Instant::now() + PATIENCE;
    loop {
        let stats = env.api.stats().await;
        let calls = stats["cancel_calls"].as_u64().unwrap() + stats["get_calls"].as_u64().unwrap();
        if calls >= count {
            return;
        }
        assert!(Instant::now() < end, "{calls} of {count} calls: {stats}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until no reason is left why the worker were not ready.
async fn is_ready(worker: &Process, within: Duration) {
    let end = Instant::now() + within;
    while let (503, reasons) = worker.readyz().await {
        assert!(Instant::now() < end, "still not ready: {reasons:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the worker is not ready, with all these words in its reasons; answers with them.
async fn is_not_ready(worker: &Process, words: &[&str]) -> String {
    let end = Instant::now() + LIMIT;
    loop {
        let (_, reasons) = worker.readyz().await;
        let reasons = reasons.join("; ");
        if words.iter().all(|word| reasons.contains(word)) {
            return reasons;
        }
        assert!(Instant::now() < end, "not ready because of {words:?}, but {reasons:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn lines_with(worker: &Process, text: &str) -> usize {
    worker.lines().iter().filter(|line| line.contains(text)).count()
}

/// The line that names what was missing.
async fn is_told(worker: &Process, part: &str) {
    let parts = format!("{part:?}").trim_matches('"').to_owned();
    let end = Instant::now() + LIMIT;
    let told = |line: &String| line.contains("have been made anew") && line.contains(&parts) && line.contains("WARN");
    while !worker.lines().iter().any(told) {
        assert!(Instant::now() < end, "nothing was said of {part:?}:\n{}", worker.lines().join("\n"));
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_in_hand_when_its_queue_is_deleted_is_answered() {
    let mut env = TestEnv::new().await;
    // Half a minute for a call that is not answered, and two seconds to finish what is in hand: it is put aside.
    env.set("api.call_timeout", "30s");
    env.set("worker.shutdown_grace", "2s");
    env.set("breaker.enabled", "false");
    env.set("worker.inline_wait", "1s");
    let worker = env.worker().await;
    // In a call that is answered soon, in a wait, and in a call that is not answered.
    let (slow, held, hanging) = (ids("cancels", 'a', 8), ids("cancels-700ms", 'b', 8), ids("cancels", 'c', 8));
    request_all(&env, &held).await;
    calls_become(&env, 8).await;
    env.api.set_weather(&json!({ "latency": "800ms" })).await;
    request_all(&env, &slow).await;
    calls_become(&env, 16).await;
    env.api.set_weather(&json!({ "hang": true })).await;
    request_all(&env, &hanging).await;
    calls_become(&env, 24).await;

    delete_queue(&env, "requests").await;
    let deleted = Instant::now();
    env.api.set_weather(&json!({})).await;

    let all = [slow, held, hanging].concat();
    all_answered(&env, &all, deleted + Duration::from_secs(20)).await;
    println!("requests deleted: all were answered after {:.1?}", deleted.elapsed());
    is_told(&worker, &format!("queue {:?}", env.queue("requests"))).await;
    env.request("cancels-z").await;
    assert_eq!(env.event_for("cancels-z").await.outcome(), "cancelled");

    // The same with follow-ups.
    let parked = ids("cancels-3s", 'd', 24);
    request_all(&env, &parked).await;
    let calls = env.api.stats().await["get_calls"].as_u64().unwrap();
    sleep(Duration::from_millis(1500)).await;
    env.api.set_weather(&json!({ "latency": "1s" })).await;
    let stats = env.api.stats().await;
    println!("get calls: {calls}, then {}", stats["get_calls"]);
    calls_become(&env, stats["cancel_calls"].as_u64().unwrap() + stats["get_calls"].as_u64().unwrap() + 12).await;
    delete_queue(&env, "followups").await;
    let deleted = Instant::now();
    env.api.set_weather(&json!({})).await;
    all_answered(&env, &parked, deleted + LIMIT).await;
    println!("followups deleted: all were answered after {:.1?}", deleted.elapsed());
    is_told(&worker, &format!("queue {:?}", env.queue("followups"))).await;
    assert_eq!(lines_with(&worker, "the session is over"), 2);
    env.end().await;
}

#[tokio::test]
async fn a_queue_that_is_published_to_is_made_anew_at_once() {
    let mut env = TestEnv::new().await;
    env.set("worker.inline_wait", "0s");
    env.set("admin.listen", "127.0.0.1:0");
    let worker = env.worker().await;
    // So that the last look is long enough ago for another.
    sleep(Duration::from_secs(3)).await;
    for (queue, script, letter) in [("wait.1s", "cancels-300ms", 'w'), ("dead", "denied", 'd')] {
        delete_queue(&env, queue).await;
        let deleted = Instant::now();
        let ids = ids(script, letter, 50);
        request_all(&env, &ids).await;
        all_answered(&env, &ids, deleted + Duration::from_secs(15)).await;
        println!("{queue} deleted: all were answered after {:.1?}", deleted.elapsed());
        is_told(&worker, &format!("queue {:?}", env.queue(queue))).await;
        is_ready(&worker, Duration::from_secs(5)).await;
        sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(env.dead_letters(50).await.len(), 50);

    // Nobody consumes events here any more: a deleted queue ends its consumer.
    delete_queue(&env, "results").await;
    let ids = ids("cancels", 'r', 50);
    request_all(&env, &ids).await;
    let results = env.queue("results");
    is_told(&worker, &format!("queue {results:?}")).await;
    is_told(&worker, &format!("the binding of queue {results:?}")).await;
    assert_eq!(env.amqp.drain(&results, 50, PATIENCE).await.len(), 50);
    is_ready(&worker, Duration::from_secs(5)).await;
    assert_eq!(lines_with(&worker, "the session is over"), 0);
    env.end().await;
}

#[tokio::test]
async fn an_exchange_that_is_published_to_costs_a_session_and_is_made_anew_by_the_next() {
    for exchange in ["events", "wait", "dead"] {
        let mut env = TestEnv::new().await;
        env.set("worker.inline_wait", "0s");
        let worker = env.worker().await;
        let (before, after) = (ids("cancels-2s", 'a', 30), ids("cancels-1s", 'b', 30));
        request_all(&env, &before).await;
        delete_exchange(&env, exchange).await;
        let deleted = Instant::now();
        request_all(&env, &after).await;
        request_all(&env, &ids("denied", 'x', 5)).await;
        let all = [before, after, ids("denied", 'x', 5)].concat();
        all_answered(&env, &all, deleted + LIMIT).await;
        println!("exchange {exchange} deleted: all were answered after {:.1?}", deleted.elapsed());
        is_told(&worker, &format!("exchange {:?}", env.queue(exchange))).await;
        env.end().await;
    }
}

#[tokio::test]
async fn exchanges_that_nobody_publishes_to_here_are_made_anew_within_a_minute() {
    let mut env = TestEnv::new().await;
    env.set("worker.inline_wait", "0s");
    env.set("admin.listen", "127.0.0.1:0");
    let worker = env.worker().await;
    let parked = ids("cancels-3s", 'a', 200);
    request_all(&env, &parked).await;
    delete_exchange(&env, "followups").await;
    delete_exchange(&env, "requests").await;
    let deleted = Instant::now();
    all_answered(&env, &parked, deleted + LIMIT).await;
    println!("exchange followups deleted: all were answered after {:.1?}", deleted.elapsed());
    for exchange in ["followups", "requests"] {
        is_told(&worker, &format!("exchange {:?}", env.queue(exchange))).await;
    }
    assert_eq!(lines_with(&worker, "have been made anew"), 1, "one line for both");
    env.request("cancels-z").await;
    assert_eq!(env.event_for("cancels-z").await.outcome(), "cancelled");
    is_ready(&worker, Duration::from_secs(5)).await;
    assert_eq!(lines_with(&worker, "the session is over"), 0);
    env.end().await;
}

#[tokio::test]
async fn what_is_missing_and_not_to_be_declared_makes_not_ready_until_somebody_creates_it() {
    let mut env = TestEnv::new().await;
    env.set("admin.listen", "127.0.0.1:0");
    env.set("worker.inline_wait", "0s");
    let mut declaring = env.worker().await;
    declaring.signal("TERM");
    assert!(declaring.wait().await.success());
    env.set("amqp.topology.declare", "false");
    let worker = env.worker().await;
    is_ready(&worker, Duration::from_secs(5)).await;

    delete_queue(&env, "wait.1s").await;
    env.request("cancels-1s-a").await;
    let queue = format!("queue {:?} does not exist: create it", env.queue("wait.1s"));
    is_not_ready(&worker, &[&queue, "amqp.topology.declare = true"]).await;
    // Looked at several times meanwhile, and said once.
    sleep(Duration::from_secs(12)).await;
    assert_eq!(lines_with(&worker, "the topology is not as it has to be;"), 1);

    env.set("amqp.topology.declare", "true");
    let mut declaring = env.worker().await;
    declaring.signal("TERM");
    assert!(declaring.wait().await.success());
    assert_eq!(env.event_for("cancels-1s-a").await.outcome(), "cancelled");
    is_ready(&worker, Duration::from_secs(15)).await;
    assert_eq!(lines_with(&worker, "the topology is as it has to be again"), 1);
    assert_eq!(lines_with(&worker, "the session is over"), 0);
    env.end().await;
}

#[tokio::test]
async fn what_may_not_be_declared_makes_not_ready_and_disturbs_nothing_else() {
    let (vhost, uri) = Administered::vhost();
    let mut env = TestEnv::new().await;
    let amqp = Amqp::connect(&uri).await;
    env.set("amqp.uri", &uri);
    env.set("admin.listen", "127.0.0.1:0");
    let worker = env.starting_worker();
    worker.line_with("\"consuming\"", PATIENCE).await;
    Administered::ctl(["set_permissions", "-p", &vhost, &vhost, "", ".*", ".*"]);
    let (dead, wait) = (env.queue("dead"), env.queue("wait.5m"));
    // Its answer is kept in the queue that is missing.
    let request = |id| crate::test_env::request(id, json!({})).to_string();
    let publish = async |id| {
        let (exchange, body) = (env.queue("requests"), request(id));
        amqp.publish(&exchange, "cancel", body.as_bytes(), crate::test_env::properties()).await;
    };
    Administered::ctl(["delete_queue", "-p", &vhost, &dead]);
    publish("denied-a").await;
    let refused = format!("user {vhost:?} may not declare queue {dead:?}");
    let reasons = is_not_ready(&worker, &[&refused, "rabbitmqctl set_permissions"]).await;
    assert!(!reasons.contains(&wait), "what is there is enough: {reasons}");
    Administered::ctl(["set_permissions", "-p", &vhost, &vhost, ".*", ".*", ".*"]);
    is_ready(&worker, Duration::from_secs(15)).await;
    is_told(&worker, &format!("queue {dead:?}")).await;

    // Another kind of queue in its place.
    for queue in [&dead, &wait] {
        Administered::ctl(["delete_queue", "-p", &vhost, queue]);
    }
    let channel = amqp.channel().await;
    let (options, none) = (QueueDeclareOptions::durable(), FieldTable::default());
    channel.queue_declare(wait.as_str().into(), options, none).await.unwrap();
    publish("denied-b").await;
    let differs = format!("queue {wait:?} exists with another x-");
    is_not_ready(&worker, &[&differs, "rabbitmqctl delete_queue"]).await;
    Administered::ctl(["delete_queue", "-p", &vhost, &wait]);
    is_ready(&worker, Duration::from_secs(15)).await;
    assert_eq!(lines_with(&worker, "the session is over"), 0);
    // Gone with the worker: this vhost is nobody else's.
    Administered::ctl(["delete_vhost", &vhost]);
}

#[tokio::test]
async fn wait_queues_that_a_policy_deletes_when_nobody_uses_them_are_there_when_they_are_needed() {
    let (vhost, uri) = Administered::vhost();
    let amqp = Amqp::connect(&uri).await;
    let mut env = TestEnv::new().await;
    env.set("amqp.uri", &uri);
    env.set("worker.inline_wait", "0s");
    let worker = env.starting_worker();
    worker.line_with("\"consuming\"", PATIENCE).await;
    Administered::ctl([
        "set_policy",
        "-p",
        &vhost,
        "idle",
        r"[.]wait[.]",
        r#"{"expires":5000}"#,
        "--apply-to",
        "queues",
    ]);
    let end = Instant::now() + PATIENCE;
    while amqp.queue_depth(&env.queue("wait.1s")).await.is_some() {
        assert!(Instant::now() < end, "the queue has not expired");
        sleep(Duration::from_secs(1)).await;
    }
    for number in 0..20 {
        let request = crate::test_env::request(&format!("cancels-500ms-p{number}"), json!({}));
        let body = request.to_string();
        amqp.publish(&env.queue("requests"), "cancel", body.as_bytes(), crate::test_env::properties()).await;
    }
    let events = amqp.drain(&env.queue("results"), 20, PATIENCE).await;
    assert_eq!(events.len(), 20);
    is_told(&worker, &format!("queue {:?}", env.queue("wait.1s"))).await;
    Administered::ctl(["delete_vhost", &vhost]);
}
