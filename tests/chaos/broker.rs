//! The broker itself.

use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::row::{Row, longest};
use crate::test_env::TestEnv;

/// The only node is killed, and started again with what it has on its disk.
pub async fn kill(env: &mut TestEnv) -> Row {
    let times = env.pick(2, 8);
    let worker = env.worker().await;
    let upstream = env.upstream(env.pick(1_200, 20_000), env.pick(100, 200));
    let mut recovery = Some(Duration::ZERO);
    for _ in 0..times {
        env.more_events(100).await;
        block_in_place(|| {
            env.broker.kill9();
            env.broker.restart();
        });
        let mended = env.mended();
        recovery = longest(recovery, env.recovery(mended).await);
    }
    upstream.finish().await;
    env.verdict(vec![worker], times, recovery).await
}

/// An operator closes all connections, again and again.
pub async fn connections_closed(env: &mut TestEnv) -> Row {
    let times = env.pick(3, 20);
    let worker = env.worker().await;
    let upstream = env.upstream(env.pick(1_000, 20_000), env.pick(100, 400));
    let mut recovery = Some(Duration::ZERO);
    for _ in 0..times {
        env.more_events(100).await;
        block_in_place(|| env.broker.ctl(["--silent", "close_all_connections", "--vhost", "/", "chaos"]));
        let mended = env.mended();
        recovery = longest(recovery, env.recovery(mended).await);
    }
    upstream.finish().await;
    env.verdict(vec![worker], times, recovery).await
}

/// The disk is full: whoever publishes is blocked, until there is room again.
pub async fn disk_alarm(env: &mut TestEnv) -> Row {
    let times = env.pick(1, 3);
    let lasts = env.pick(Duration::from_secs(5), Duration::from_secs(60));
    let worker = env.worker().await;
    let upstream = env.upstream(env.pick(1_000, 20_000), env.pick(100, 100));
    let mut recovery = Some(Duration::ZERO);
    for _ in 0..times {
        env.more_events(100).await;
        block_in_place(|| env.broker.ctl(["--silent", "set_disk_free_limit", "100000GB"]));
        let before = env.collector().count();
        sleep(lasts).await;
        // What was under way when the alarm came.
        let through = env.collector().count() - before;
        assert!(through < 500, "{through} events came through the alarm");
        env.not_ready(&worker, "an alarm").await;
        // The command takes a second, and what it does is done before it ends: all of it counts.
        let mended = env.mended();
        block_in_place(|| env.broker.ctl(["--silent", "set_disk_free_limit", "10MB"]));
        recovery = longest(recovery, env.recovery(mended).await);
        env.ready(&worker).await;
    }
    upstream.finish().await;
    env.verdict(vec![worker], times, recovery).await
}
