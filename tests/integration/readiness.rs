//! What a worker answers to those who ask whether it can do its work.

use std::time::Duration;

use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::support::{AmqpProxy, Broker, Process, get};
use crate::test_env::{PATIENCE, TestEnv};

/// From the mend of whatever was wrong.
const SOON: Duration = Duration::from_secs(5);

/// Waits until the worker has exactly these reasons not to be ready; each is given by words that it contains.
pub async fn becomes(worker: &Process, reasons: &[&str], within: Duration) {
    let end = Instant::now() + within;
    loop {
        let (status, said) = worker.readyz().await;
        let same = said.len() == reasons.len() && said.iter().zip(reasons).all(|(said, reason)| said.contains(reason));
        if same {
            assert_eq!(status, if reasons.is_empty() { 200 } else { 503 });
            return;
        }
        assert!(Instant::now() < end, "not ready because of {reasons:?}, but {said:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_worker_is_ready_while_it_has_a_session_and_is_not_started_anew_for_having_none() {
    let mut env = TestEnv::new().await;
    let mut proxy = AmqpProxy::start(Broker::shared().uri()).await;
    proxy.cut().await;
    for (setting, value) in [("amqp.uri", proxy.uri().as_str()), ("admin.listen", "127.0.0.1:0")] {
        env.set(setting, value);
    }
    let mut worker = env.starting_worker();
    becomes(&worker, &["no session with the broker: "], PATIENCE).await;
    let line = worker.line_with("answering probes", PATIENCE).await;
    let address = line.split(r#""address":""#).nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(get(&format!("http://{address}/livez")).await, (200, "live\n".to_owned()));
    assert_eq!(get(&format!("http://{address}/")).await.0, 404);

    proxy.restore().await;
    becomes(&worker, &[], SOON).await;
    proxy.cut().await;
    becomes(&worker, &["no session with the broker: "], SOON).await;
    proxy.restore().await;
    becomes(&worker, &[], SOON).await;

    // While it finishes what is in flight it takes nothing more.
    env.set("amqp.uri", Broker::shared().uri());
    env.request("hangs-a").await;
    while env.api.calls("hangs-a").await["cancel_calls"] != 1 {
        sleep(Duration::from_millis(20)).await;
    }
    worker.signal("TERM");
    becomes(&worker, &["stopping"], SOON).await;
    worker.kill9().await;
    env.amqp.purge(&env.queue("requests")).await;
    env.end().await;
}

#[tokio::test]
async fn connections_that_ask_nothing_keep_no_probe_from_its_answer_for_long() {
    let mut env = TestEnv::new().await;
    env.set("admin.listen", "127.0.0.1:0");
    let worker = env.worker().await;
    becomes(&worker, &[], SOON).await;
    let line = worker.line_with("answering probes", PATIENCE).await;
    let address = line.split(r#""address":""#).nth(1).unwrap().split('"').next().unwrap();
    let mut idle = Vec::new();
    for _ in 0..120 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    // They are taken one after the other.
    sleep(Duration::from_millis(500)).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", worker.id())).unwrap().count();
    assert!(open < 110, "{open} open files");
    // Each of them lasts for 2 s, 64 at once.
    becomes(&worker, &[], 2 * SOON).await;
    drop(idle);
    env.end().await;
}

#[tokio::test]
async fn a_worker_whose_events_nobody_takes_is_not_ready_and_says_which() {
    let mut env = TestEnv::new().await;
    env.set("admin.listen", "127.0.0.1:0");
    env.set("amqp.topology.results", "false");
    let worker = env.worker().await;
    becomes(&worker, &[], SOON).await;
    env.request("cancels-a").await;
    env.request("cancels-b").await;
    let exchange = env.queue("events");
    becomes(&worker, &[exchange.as_str()], PATIENCE).await;
    let (_, reasons) = worker.readyz().await;
    assert!(reasons[0].starts_with("the broker does not take what the worker publishes ("), "{reasons:?}");

    let queue = env.queue("results");
    env.amqp.declare_queue(&queue).await;
    let channel = env.amqp.channel().await;
    let options = QueueBindOptions::default();
    let key = "operation.#".into();
    channel.queue_bind(queue.into(), exchange.into(), key, options, FieldTable::default()).await.unwrap();
    becomes(&worker, &[], SOON).await;
    env.collect_events().await;
    assert_eq!(env.event_for("cancels-a").await.outcome(), "cancelled");
    assert_eq!(env.event_for("cancels-b").await.outcome(), "cancelled");
    let told = worker.lines().iter().filter(|line| line.contains("\"ERROR\"")).count();
    assert_eq!(told, 1, "one line for what is wrong, however often it is tried");
    env.end().await;
}
