//! Queues that are taken away.

use std::time::Duration;

use lapin::options::{QueueBindOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use tokio::time::sleep;

use crate::row::{Row, longest};
use crate::stage::Stage;
use crate::support::Amqp;

/// Under load, the queue of events is unbound, emptied and deleted; after a while the operator makes it anew. What lies in
/// a queue that is deleted is gone whatever a worker does, so it is emptied first.
pub async fn results_recreated(stage: &mut Stage) -> Row {
    let times = stage.pick(2, 5);
    let lasts = stage.pick(Duration::from_secs(4), Duration::from_secs(20));
    let worker = stage.worker().await;
    let upstream = stage.upstream(stage.pick(1_000, 20_000), stage.pick(100, 200));
    let amqp = Amqp::connect(stage.broker.uri()).await;
    let channel = amqp.channel().await;
    let (queue, exchange) = (stage.name("results"), stage.name("events"));
    let mut recovery = Some(Duration::ZERO);
    for _ in 0..times {
        stage.more_events(100).await;
        let (name, source, key) = (queue.as_str().into(), exchange.as_str().into(), "operation.#".into());
        channel.queue_unbind(name, source, key, FieldTable::default()).await.unwrap();
        // Until the collector has taken and acknowledged everything.
        sleep(Duration::from_secs(1)).await;
        assert_eq!(amqp.queue_depth(&queue).await, Some(0));
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
        sleep(lasts).await;
        amqp.declare_queue(&queue).await;
        let (name, source, key) = (queue.as_str().into(), exchange.as_str().into(), "operation.#".into());
        channel.queue_bind(name, source, key, QueueBindOptions::default(), FieldTable::default()).await.unwrap();
        recovery = longest(recovery, stage.recovery(stage.mended()).await);
    }
    upstream.finish().await;
    stage.verdict(vec![worker], times, recovery).await
}

/// Between two bursts, when it is empty, a queue that the worker consumes from is deleted: the broker cancels the consumer, and
/// the worker makes the queue anew. Requests and follow-ups in turn.
pub async fn consumer_cancelled(stage: &mut Stage) -> Row {
    let times = stage.pick(2, 20);
    let burst = stage.pick(100, 1_000);
    let worker = stage.worker().await;
    let amqp = Amqp::connect(stage.broker.uri()).await;
    let mut recovery = Some(Duration::ZERO);
    for turn in 0..times {
        stage.upstream(burst, 1_000).finish().await;
        stage.settled().await;
        let queue = stage.name(["requests", "followups"][turn % 2]);
        amqp.channel().await.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
        let mended = stage.mended();
        // Upstream's publishes are returned until there is a queue again, and are made again.
        let probe = stage.upstream(burst, 1_000);
        recovery = longest(recovery, stage.recovery(mended).await);
        probe.finish().await;
    }
    let sessions = worker.lines().iter().filter(|line| line.contains("the session is over")).count();
    let mut row = stage.verdict(vec![worker], times, recovery).await;
    row.expect(sessions == times, format!("{sessions} sessions ended by {times} cancelled consumers"));
    row
}
