//! The network between the worker and the broker. Upstream and the consumers of events have another.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::row::{Row, longest};
use crate::support::{AmqpProxy, Process};
use crate::test_env::TestEnv;
use crate::upstream::Upstream;

/// Requests a second.
const RATE: u32 = 250;

/// What all of them begin with: a worker behind the proxy, and requests that flow and will go on to after the fault.
async fn flow(env: &mut TestEnv, fault: Duration) -> (AmqpProxy, Process, Upstream) {
    let proxy = AmqpProxy::start(env.broker.uri()).await;
    env.set_setting("amqp.uri", &proxy.uri());
    let worker = env.worker().await;
    let seconds = usize::try_from(fault.as_secs()).unwrap();
    let upstream = env.upstream(env.pick(100 * (seconds + 6), 20_000), env.pick(100, RATE));
    env.more_events(50).await;
    (proxy, worker, upstream)
}

/// Connections are reset, and refused.
pub async fn cut(env: &mut TestEnv) -> Row {
    let lasts = env.pick(Duration::from_secs(8), Duration::from_secs(60));
    let (mut proxy, worker, upstream) = flow(env, lasts).await;
    proxy.cut().await;
    sleep(lasts).await;
    env.not_ready(&worker, "no session with the broker").await;
    proxy.restore().await;
    let mended = env.mended();
    let recovery = env.recovery(mended).await;
    upstream.finish().await;
    env.verdict(vec![worker], 1, recovery).await
}

/// Nothing passes, and no connection ends. Afterwards what was sent arrives.
pub async fn silent(env: &mut TestEnv) -> Row {
    let lasts = heartbeats(env);
    let (proxy, worker, upstream) = flow(env, lasts).await;
    proxy.silence().await;
    sleep(lasts).await;
    proxy.resume();
    let mended = env.mended();
    let recovery = env.recovery(mended).await;
    upstream.finish().await;
    env.verdict(vec![worker], 1, recovery).await
}

/// The same, and no connection from before the end ever carries anything again.
pub async fn forgotten(env: &mut TestEnv) -> Row {
    let lasts = heartbeats(env);
    let (proxy, worker, upstream) = flow(env, lasts).await;
    proxy.silence().await;
    sleep(lasts).await;
    proxy.forget();
    let mended = env.mended();
    let recovery = env.recovery(mended).await;
    upstream.finish().await;
    env.verdict(vec![worker], 1, recovery).await
}

/// How long the network stays silent: longer than it takes to notice.
fn heartbeats(env: &mut TestEnv) -> Duration {
    if env.pick(true, false) {
        env.set_setting("amqp.heartbeat", "2s");
    }
    env.pick(Duration::from_secs(10), Duration::from_secs(60))
}

/// Publishes are never confirmed on the connections that there are, again and again. Nothing else is wrong with them: only the
/// time-out tells, and each fault ends with it.
pub async fn no_confirms(env: &mut TestEnv) -> Row {
    let limit = env.pick(Duration::from_secs(4), Duration::from_secs(30));
    env.set_setting("amqp.confirm_timeout", &format!("{}s", limit.as_secs()));
    let times = env.pick(2, 5);
    let (proxy, worker, upstream) = flow(env, limit * times).await;
    let mut recovery = Some(Duration::ZERO);
    for _ in 0..times {
        let since = Instant::now();
        proxy.drop_confirms();
        let connections = proxy.connections();
        sleep(limit.saturating_sub(since.elapsed())).await;
        let mended = env.mended();
        recovery = longest(recovery, env.recovery(mended).await);
        assert!(proxy.connections() > connections, "the session went on without confirms");
        env.more_events(50).await;
    }
    upstream.finish().await;
    env.verdict(vec![worker], usize::try_from(times).unwrap(), recovery).await
}
