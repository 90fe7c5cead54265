use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection, ConnectionProperties};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::requests;
use crate::support::persistent;

/// Unconfirmed at once.
const WINDOW: usize = 200;

/// A publish without a confirm for so long is made again on a new connection.
const CONFIRM: Duration = Duration::from_secs(10);

/// How long everything may take to be confirmed once it is waited for.
const LIMIT: Duration = Duration::from_secs(300);

/// The service upstream: publishes numbered requests, each again until the broker has confirmed it, whatever happens to
/// its connection.
pub struct Upstream {
    confirmed: Arc<AtomicUsize>,
    task: JoinHandle<()>,
    count: usize,
}

impl Upstream {
    /// The nodes of one cluster are tried in turn.
    pub fn start(uris: Vec<String>, exchange: String, first: usize, count: usize, per_second: u32) -> Self {
        let confirmed = Arc::new(AtomicUsize::new(0));
        let done = Arc::clone(&confirmed);
        let task = tokio::spawn(async move {
            let mut left: Vec<usize> = (first..first + count).rev().collect();
            for uri in uris.iter().cycle() {
                let before = left.len();
                let _broken = publish(uri, &exchange, &mut left, &done, per_second).await;
                if left.is_empty() {
                    return;
                }
                if left.len() == before {
                    sleep(Duration::from_millis(100)).await;
                }
            }
        });
        Self { confirmed, task, count }
    }

    /// Waits until all requests are confirmed.
    pub async fn finish(self) {
        let ended = timeout(LIMIT, self.task).await;
        let confirmed = self.confirmed.load(SeqCst);
        ended
            .unwrap_or_else(|_| panic!("{confirmed} of {} requests were confirmed within {LIMIT:?}", self.count))
            .unwrap();
    }
}

/// Publishes on one connection for as long as it lasts. What is not confirmed goes back to `left`.
async fn publish(
    uri: &str,
    exchange: &str,
    left: &mut Vec<usize>,
    confirmed: &AtomicUsize,
    per_second: u32,
) -> lapin::Result<()> {
    let uri = format!("{uri}?heartbeat=2");
    let connecting = Connection::connect(&uri, ConnectionProperties::default());
    let Ok(connection) = timeout(Duration::from_secs(5), connecting).await else { return Ok(()) };
    let connection = connection?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut tick = interval(Duration::from_secs(1) / per_second);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut waiting = FuturesUnordered::new();
    // What was published here and is not confirmed; published again if the connection breaks, so the broker may have it twice.
    let mut unknown = BTreeSet::new();
    let mut since = Instant::now();
    let mut whole = true;
    while whole && !(left.is_empty() && unknown.is_empty()) {
        tokio::select! {
            Some((number, taken)) = waiting.next() => {
                whole = taken;
                if taken {
                    since = Instant::now();
                    unknown.remove(&number);
                    confirmed.fetch_add(1, SeqCst);
                }
            }
            () = sleep(CONFIRM.saturating_sub(since.elapsed())), if !unknown.is_empty() => whole = false,
            _ = tick.tick(), if unknown.len() < WINDOW && !left.is_empty() => {
                if unknown.is_empty() {
                    since = Instant::now();
                }
                let Some(number) = left.pop() else { continue };
                unknown.insert(number);
                waiting.push(one(&channel, exchange, number));
            }
        }
    }
    left.extend(unknown.into_iter().rev());
    Ok(())
}

/// Publishes one request, and tells whether the broker has taken it.
async fn one(channel: &Channel, exchange: &str, number: usize) -> (usize, bool) {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = persistent().with_content_type("application/json".into());
    let body = requests::body(number);
    let sent = channel.basic_publish(exchange.into(), "cancel".into(), options, &body, properties).await;
    let taken = match sent {
        Ok(confirm) => matches!(confirm.await, Ok(Confirmation::Ack(None))),
        Err(_) => false,
    };
    (number, taken)
}
