//! Deliveries that are held for longer than the broker allows.

use std::time::Duration;

use serde_json::json;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::row::Row;
use crate::stage::Stage;

/// The broker's `consumer_timeout` is shorter than the API's silence: it closes the channel under the deliveries in hand.
pub async fn consumer_timeout(stage: &mut Stage) -> Row {
    let lasts = stage.pick(Duration::from_secs(8), Duration::from_secs(30));
    limit(stage, 2_000, 500);
    let worker = stage.worker().await;
    let upstream = stage.upstream(stage.pick(1_500, 20_000), stage.pick(100, 400));
    stage.more_events(100).await;
    stage.api.set_weather(&json!({ "hang": true })).await;
    sleep(lasts).await;
    stage.api.set_weather(&json!({})).await;
    let mended = stage.mended();
    let recovery = stage.recovery(mended).await;
    upstream.finish().await;
    let closed = worker.lines().iter().filter(|line| line.contains("the session is over")).count();
    let row = stage.verdict(vec![worker], closed, recovery).await;
    // RabbitMQ's own.
    limit(stage, 1_800_000, 60_000);
    row
}

/// In milliseconds: how long a delivery may be unacknowledged, and how often the broker looks. For channels from now on.
fn limit(stage: &Stage, timeout: u32, look: u32) {
    let set = |name: &str, value: u32| format!("application:set_env(rabbit, {name}, {value})");
    let both = format!("{}, {}.", set("consumer_timeout", timeout), set("channel_tick_interval", look));
    block_in_place(|| stage.broker.ctl(["--silent", "eval", &both]));
}
