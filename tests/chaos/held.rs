//! Deliveries that are held for longer than the broker allows.

use std::time::Duration;

use serde_json::json;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::row::Row;
use crate::test_env::TestEnv;

/// The broker's `consumer_timeout` is shorter than the API's silence: it closes the channel under the deliveries in hand.
pub async fn consumer_timeout(env: &mut TestEnv) -> Row {
    let lasts = env.pick(Duration::from_secs(8), Duration::from_secs(30));
    limit(env, 2_000, 500);
    let worker = env.worker().await;
    let upstream = env.upstream(env.pick(1_500, 20_000), env.pick(100, 400));
    env.more_events(100).await;
    env.api.set_weather(&json!({ "hang": true })).await;
    sleep(lasts).await;
    env.api.set_weather(&json!({})).await;
    let mended = env.mended();
    let recovery = env.recovery(mended).await;
    upstream.finish().await;
    let closed = worker.lines().iter().filter(|line| line.contains("the session is over")).count();
    let row = env.verdict(vec![worker], closed, recovery).await;
    no_limit(env);
    row
}

/// RabbitMQ's own.
pub fn no_limit(env: &TestEnv) {
    limit(env, 1_800_000, 60_000);
}

/// In milliseconds: how long a delivery may be unacknowledged, and how often the broker looks. For channels from now on.
pub fn limit(env: &TestEnv, timeout: u32, look: u32) {
    let set = |name: &str, value: u32| format!("application:set_env(rabbit, {name}, {value})");
    let both = format!("{}, {}.", set("consumer_timeout", timeout), set("channel_tick_interval", look));
    block_in_place(|| env.broker.ctl(["--silent", "eval", &both]));
}
