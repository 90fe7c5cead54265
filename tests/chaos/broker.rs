//! The broker itself.

use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::row::{Row, longest};
use crate::stage::Stage;

/// The only node is killed, and started again with what it has on its disk.
pub async fn kill(stage: &mut Stage) -> Row {
    let times = stage.pick(2, 8);
    let worker = stage.worker().await;
    let upstream = stage.upstream(stage.pick(1_200, 20_000), stage.pick(100, 200));
    let mut recovery = Some(Duration::ZERO);
    for _ in 0..times {
        stage.more_events(100).await;
        block_in_place(|| {
            stage.broker.kill9();
            stage.broker.restart();
        });
        let mended = stage.mended();
        recovery = longest(recovery, stage.recovery(mended).await);
    }
    upstream.finish().await;
    stage.verdict(vec![worker], times, recovery).await
}

/// An operator closes all connections, again and again.
pub async fn connections_closed(stage: &mut Stage) -> Row {
    let times = stage.pick(3, 20);
    let worker = stage.worker().await;
    let upstream = stage.upstream(stage.pick(1_000, 20_000), stage.pick(100, 400));
    let mut recovery = Some(Duration::ZERO);
    for _ in 0..times {
        stage.more_events(100).await;
        block_in_place(|| stage.broker.ctl(["--silent", "close_all_connections", "--vhost", "/", "chaos"]));
        let mended = stage.mended();
        recovery = longest(recovery, stage.recovery(mended).await);
    }
    upstream.finish().await;
    stage.verdict(vec![worker], times, recovery).await
}

/// The disk is full: whoever publishes is blocked, until there is room again.
pub async fn disk_alarm(stage: &mut Stage) -> Row {
    let times = stage.pick(1, 3);
    let lasts = stage.pick(Duration::from_secs(5), Duration::from_secs(60));
    let worker = stage.worker().await;
    let upstream = stage.upstream(stage.pick(1_000, 20_000), stage.pick(100, 100));
    let mut recovery = Some(Duration::ZERO);
    for _ in 0..times {
        stage.more_events(100).await;
        block_in_place(|| stage.broker.ctl(["--silent", "set_disk_free_limit", "100000GB"]));
        let before = stage.collector().count();
        sleep(lasts).await;
        // What was under way when the alarm came.
        let through = stage.collector().count() - before;
        assert!(through < 500, "{through} events came through the alarm");
        stage.not_ready(&worker, "an alarm").await;
        // The command takes a second, and what it does is done before it ends: all of it counts.
        let mended = stage.mended();
        block_in_place(|| stage.broker.ctl(["--silent", "set_disk_free_limit", "10MB"]));
        recovery = longest(recovery, stage.recovery(mended).await);
        stage.ready(&worker).await;
    }
    upstream.finish().await;
    stage.verdict(vec![worker], times, recovery).await
}
