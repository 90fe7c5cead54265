//! The network between the worker and the broker. Upstream and the consumers of events have another.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::row::{Row, longest};
use crate::stage::Stage;
use crate::support::{AmqpProxy, Process};
use crate::upstream::Upstream;

/// Requests a second.
const RATE: u32 = 250;

/// What all of them begin with: a worker behind the proxy, and requests that flow and will go on to after the fault.
async fn flow(stage: &mut Stage, fault: Duration) -> (AmqpProxy, Process, Upstream) {
    let proxy = AmqpProxy::start(stage.broker.uri()).await;
    stage.set_setting("amqp.uri", &proxy.uri());
    let worker = stage.worker().await;
    let seconds = usize::try_from(fault.as_secs()).unwrap();
    let upstream = stage.upstream(stage.pick(100 * (seconds + 6), 20_000), stage.pick(100, RATE));
    stage.more_events(50).await;
    (proxy, worker, upstream)
}

/// Connections are reset, and refused.
pub async fn cut(stage: &mut Stage) -> Row {
    let lasts = stage.pick(Duration::from_secs(8), Duration::from_secs(60));
    let (mut proxy, worker, upstream) = flow(stage, lasts).await;
    proxy.cut().await;
    sleep(lasts).await;
    stage.not_ready(&worker, "no session with the broker").await;
    proxy.restore().await;
    let mended = stage.mended();
    let recovery = stage.recovery(mended).await;
    upstream.finish().await;
    stage.verdict(vec![worker], 1, recovery).await
}

/// Nothing passes, and no connection ends. Afterwards what was sent arrives.
pub async fn silent(stage: &mut Stage) -> Row {
    let lasts = heartbeats(stage);
    let (proxy, worker, upstream) = flow(stage, lasts).await;
    proxy.silence().await;
    sleep(lasts).await;
    proxy.resume();
    let mended = stage.mended();
    let recovery = stage.recovery(mended).await;
    upstream.finish().await;
    stage.verdict(vec![worker], 1, recovery).await
}

/// The same, and no connection from before the end ever carries anything again.
pub async fn forgotten(stage: &mut Stage) -> Row {
    let lasts = heartbeats(stage);
    let (proxy, worker, upstream) = flow(stage, lasts).await;
    proxy.silence().await;
    sleep(lasts).await;
    proxy.forget();
    let mended = stage.mended();
    let recovery = stage.recovery(mended).await;
    upstream.finish().await;
    stage.verdict(vec![worker], 1, recovery).await
}

/// How long the network stays silent: longer than it takes to notice.
fn heartbeats(stage: &mut Stage) -> Duration {
    if stage.pick(true, false) {
        stage.set_setting("amqp.heartbeat", "2s");
    }
    stage.pick(Duration::from_secs(10), Duration::from_secs(60))
}

/// Publishes are never confirmed on the connections that there are, again and again. Nothing else is wrong with them: only the
/// time-out tells, and each fault ends with it.
pub async fn no_confirms(stage: &mut Stage) -> Row {
    let limit = stage.pick(Duration::from_secs(4), Duration::from_secs(30));
    stage.set_setting("amqp.confirm_timeout", &format!("{}s", limit.as_secs()));
    let times = stage.pick(2, 5);
    let (proxy, worker, upstream) = flow(stage, limit * times).await;
    let mut recovery = Some(Duration::ZERO);
    for _ in 0..times {
        let since = Instant::now();
        proxy.drop_confirms();
        let connections = proxy.connections();
        sleep(limit.saturating_sub(since.elapsed())).await;
        let mended = stage.mended();
        recovery = longest(recovery, stage.recovery(mended).await);
        assert!(proxy.connections() > connections, "the session went on without confirms");
        stage.more_events(50).await;
    }
    upstream.finish().await;
    stage.verdict(vec![worker], usize::try_from(times).unwrap(), recovery).await
}
