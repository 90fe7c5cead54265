//! What the broker counts towards a delivery limit: neither stops nor alarms, however many there are.

use std::time::Duration;

use lapin::types::AMQPValue;
use tokio::time::{Instant, sleep};

use crate::support::{Broker, Process};
use crate::test_env::{PATIENCE, TestEnv};

const ALARM: &str = "0.000001";
const NO_ALARM: &str = "0.6";

/// An alarm of the node, or its end.
fn set_memory_limit(node: &Broker, limit: &str) {
    tokio::task::block_in_place(|| node.ctl(["set_vm_memory_high_watermark", limit]));
}

async fn becomes_unready_for_an_alarm(worker: &Process) {
    let end = Instant::now() + PATIENCE;
    while !worker.readyz().await.1.iter().any(|reason| reason.contains("alarm")) {
        assert!(Instant::now() < end, "the alarm does not show");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn stopped(mut worker: Process) {
    worker.signal("TERM");
    assert_eq!(worker.wait().await.code(), Some(0), "{}", worker.lines().join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_stops_and_twenty_alarms_are_no_deliveries() {
    let node = tokio::task::block_in_place(Broker::private);
    let mut env = TestEnv::on(&node).await;
    for (setting, value) in [
        ("worker.shutdown_grace", "1s"),
        ("amqp.prefetch", "6"),
        ("amqp.topology.wait_levels", "500ms,1s"),
        ("admin.listen", "127.0.0.1:0"),
        // A call that hangs is under way at every stop.
        ("breaker.enabled", "false"),
    ] {
        env.set(setting, value);
    }
    stopped(env.worker().await).await;
    let hanging = (0..8).map(|number| format!("hangs-a{number}"));
    let ids: Vec<String> = hanging.chain((0..8).map(|number| format!("cancels-1h-a{number}"))).collect();
    for id in &ids {
        env.request(id).await;
    }
    for _ in 0..20 {
        let worker = env.worker().await;
        sleep(Duration::from_millis(200)).await;
        stopped(worker).await;
    }
    let worker = env.worker().await;
    for _ in 0..20 {
        set_memory_limit(&node, ALARM);
        becomes_unready_for_an_alarm(&worker).await;
        set_memory_limit(&node, NO_ALARM);
        sleep(Duration::from_millis(100)).await;
    }
    stopped(worker).await;

    // All that waits comes back.
    let end = Instant::now() + PATIENCE;
    while env.depth("requests").await + env.depth("followups").await < 16 {
        assert!(Instant::now() < end, "not all are in the queues");
        sleep(Duration::from_millis(100)).await;
    }
    for queue in ["requests", "followups"] {
        let count = u16::try_from(env.depth(queue).await).unwrap();
        for message in env.amqp.drain(&env.queue(queue), count, PATIENCE).await {
            let headers = message.properties.headers().clone().unwrap_or_default();
            let deliveries = headers.inner().get("x-delivery-count").cloned();
            let none = matches!(deliveries, None | Some(AMQPValue::LongLongInt(0) | AMQPValue::LongInt(0)));
            assert!(none, "{queue}: {deliveries:?} of {}", String::from_utf8_lossy(&message.data));
        }
    }
    assert_eq!(env.depth("quarantine").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_starts_in_an_alarm_takes_nothing_until_its_end() {
    let node = tokio::task::block_in_place(Broker::private);
    let mut env = TestEnv::on(&node).await;
    env.set("admin.listen", "127.0.0.1:0");
    stopped(env.worker().await).await;
    let ids = ["cancels-a", "unimplemented-b", "cancels-c"];
    for id in ids {
        env.request(id).await;
    }
    set_memory_limit(&node, ALARM);
    let worker = env.starting_worker();
    becomes_unready_for_an_alarm(&worker).await;
    sleep(Duration::from_secs(3)).await;
    assert_eq!(env.depth("requests").await, 3, "taken and unacknowledged are not counted here");
    assert_eq!(env.api.stats().await["cancel_calls"], 0);
    assert!(!worker.lines().iter().any(|line| line.contains("\"consuming\"")));

    set_memory_limit(&node, NO_ALARM);
    for id in ids {
        assert_eq!(
            env.event_within(id, Duration::from_secs(10)).await.outcome(),
            id.split('-').next().unwrap().replace("cancels", "cancelled")
        );
    }
    assert!(worker.readyz().await.1.is_empty());
}
