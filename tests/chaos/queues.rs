//! Queues that are taken away.

use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::row::{Row, longest};
use crate::support::{Amqp, Process};
use crate::test_env::TestEnv;

/// Under load, nothing is bound to the exchange of events for a while: what is published there comes back.
pub async fn no_binding(env: &mut TestEnv) -> Row {
    without_results(env, false).await
}

/// The same, and the queue of events is deleted meanwhile. What lies in a queue that is deleted is gone whatever a worker does,
/// so it is emptied first.
pub async fn results_recreated(env: &mut TestEnv) -> Row {
    without_results(env, true).await
}

/// A worker that does not mend the topology itself.
pub async fn verifying_worker(env: &mut TestEnv) -> Process {
    let mut declaring = env.worker().await;
    declaring.signal("TERM");
    assert!(declaring.wait().await.success());
    env.set_setting("amqp.topology.declare", "false");
    env.worker().await
}

async fn without_results(env: &mut TestEnv, delete: bool) -> Row {
    let times = env.pick(2, 5);
    let lasts = env.pick(Duration::from_secs(4), Duration::from_secs(20));
    let worker = verifying_worker(env).await;
    let upstream = env.upstream(env.pick(1_000, 20_000), env.pick(100, 200));
    let amqp = Amqp::connect(env.broker.uri()).await;
    let channel = amqp.channel().await;
    let (queue, exchange, key) = (env.name("results"), env.name("events"), "operation.#");
    let none = FieldTable::default;
    let mut recovery = Some(Duration::ZERO);
    for _ in 0..times {
        env.more_events(100).await;
        channel.queue_unbind(queue.as_str().into(), exchange.as_str().into(), key.into(), none()).await.unwrap();
        // Until the collector has taken and acknowledged everything.
        sleep(Duration::from_secs(1)).await;
        assert_eq!(amqp.queue_depth(&queue).await, Some(0));
        let before = env.collector().count();
        if delete {
            channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
        }
        sleep(lasts).await;
        assert_eq!(env.collector().count(), before, "an event came although no queue was bound");
        env.not_ready(&worker, "does not take what the worker publishes").await;
        if delete {
            amqp.declare_queue(&queue).await;
        }
        let bind = QueueBindOptions::default();
        channel.queue_bind(queue.as_str().into(), exchange.as_str().into(), key.into(), bind, none()).await.unwrap();
        recovery = longest(recovery, env.recovery(env.mended()).await);
        env.ready(&worker).await;
    }
    upstream.finish().await;
    env.verdict(vec![worker], times, recovery).await
}

/// Nobody takes events any more, and the queue that they go to is full: it refuses what is published to it.
pub async fn results_full(env: &mut TestEnv) -> Row {
    const ROOM: u32 = 50;
    let times = env.pick(1, 3);
    let lasts = env.pick(Duration::from_secs(6), Duration::from_secs(60));
    let worker = env.worker().await;
    let upstream = env.upstream(env.pick(1_500, 20_000), env.pick(100, 200));
    let amqp = Amqp::connect(env.broker.uri()).await;
    let queue = env.name("results");
    let pattern = format!("^{}$", queue.replace('.', "[.]"));
    let policy = format!(r#"{{"max-length":{ROOM},"overflow":"reject-publish"}}"#);
    block_in_place(|| env.broker.ctl(["--silent", "set_policy", "full", &pattern, &policy, "--apply-to", "queues"]));
    let mut recovery = Some(Duration::ZERO);
    for _ in 0..times {
        env.more_events(100).await;
        env.collector_mut().pause().await;
        sleep(lasts).await;
        // The limit is one that the broker reaches, and does not stop at: what is under way is still taken.
        let depth = amqp.queue_depth(&queue).await.unwrap();
        assert!((ROOM..ROOM + 600).contains(&depth), "{depth} events in a queue with room for {ROOM}");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(amqp.queue_depth(&queue).await, Some(depth), "a full queue took more");
        env.not_ready(&worker, "does not take what the worker publishes").await;
        let mended = env.mended();
        env.collector_mut().resume();
        recovery = longest(recovery, env.recovery(mended).await);
        env.ready(&worker).await;
    }
    upstream.finish().await;
    let said = worker.lines().iter().filter(|line| line.contains("does not take what the worker publishes")).count();
    let mut row = env.verdict(vec![worker], times, recovery).await;
    row.expect(said >= times, format!("{said} lines told of {times} times that the queue was full"));
    block_in_place(|| env.broker.ctl(["--silent", "clear_policy", "full"]));
    row
}

/// Between two bursts, when it is empty, a queue that the worker consumes from is deleted: the broker cancels the consumer, and
/// the worker makes the queue anew. Requests and follow-ups in turn.
pub async fn consumer_cancelled(env: &mut TestEnv) -> Row {
    let times = env.pick(2, 20);
    let burst = env.pick(100, 1_000);
    let worker = env.worker().await;
    let amqp = Amqp::connect(env.broker.uri()).await;
    let mut recovery = Some(Duration::ZERO);
    for turn in 0..times {
        env.upstream(burst, 1_000).finish().await;
        env.settled().await;
        let queue = env.name(["requests", "followups"][turn % 2]);
        amqp.channel().await.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
        let mended = env.mended();
        // Upstream's publishes are returned until there is a queue again, and are made again.
        let probe = env.upstream(burst, 1_000);
        recovery = longest(recovery, env.recovery(mended).await);
        probe.finish().await;
        // What was in hand of the deleted queue is answered in the old session.
        env.settled().await;
    }
    let sessions = worker.lines().iter().filter(|line| line.contains("the session is over")).count();
    let mut row = env.verdict(vec![worker], times, recovery).await;
    row.expect(sessions == times, format!("{sessions} sessions ended by {times} cancelled consumers"));
    row
}

/// Under load, somebody deletes one part after the other, and the worker makes each anew: exchanges as they are, queues of
/// which nothing is lost but what is in them when they are empty, or hold copies only. In the long form also the exchanges
/// that the worker only looks at, once a minute.
pub async fn parts_deleted(env: &mut TestEnv) -> Row {
    let parts =
        [("exchange", "events"), ("exchange", "wait"), ("queue", "dead"), ("queue", "wait.5m"), ("exchange", "dead")];
    let rounds = env.pick(1, 5);
    let worker = env.worker().await;
    let upstream = env.upstream(env.pick(1_000, 20_000), env.pick(100, 200));
    let amqp = Amqp::connect(env.broker.uri()).await;
    let channel = amqp.channel().await;
    let mut recovery = Some(Duration::ZERO);
    for (kind, part) in parts.iter().cycle().take(rounds * parts.len()) {
        env.more_events(100).await;
        let name = env.name(part);
        match *kind {
            "queue" => drop(channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap()),
            _ => channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.unwrap(),
        }
        recovery = longest(recovery, env.recovery(env.mended()).await);
    }
    let unseen = env.pick(&[][..], &["followups", "requests"][..]);
    for part in unseen {
        channel.exchange_delete(env.name(part).into(), ExchangeDeleteOptions::default()).await.unwrap();
        let deleted = Instant::now();
        while is_missing(&amqp, &env.name(part)).await {
            assert!(deleted.elapsed() < Duration::from_secs(65), "{part} was not made anew");
            sleep(Duration::from_millis(500)).await;
        }
        // What waits is sent again by the broker when its own time is over.
        recovery = longest(recovery, env.recovery(env.mended()).await);
    }
    upstream.finish().await;
    let told = worker.lines().iter().filter(|line| line.contains("have been made anew")).count();
    let mut row = env.verdict(vec![worker], rounds * parts.len() + unseen.len(), recovery).await;
    row.expect(told > 0, "nothing was said of what was missing");
    row
}

async fn is_missing(amqp: &Amqp, exchange: &str) -> bool {
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let kind = ExchangeKind::Topic;
    amqp.channel().await.exchange_declare(exchange.into(), kind, options, FieldTable::default()).await.is_err()
}
