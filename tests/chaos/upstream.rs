use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
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

/// Between two requests of those that are beyond the asked count.
const TRICKLE: Duration = Duration::from_millis(20);

/// The service upstream: publishes numbered requests, each again until the broker has confirmed it, whatever happens to
/// its connection. It never falls silent before it is told to: however long a fault takes to mend on a slow machine, there
/// are requests to see the recovery by.
pub struct Upstream {
    confirmed: Arc<AtomicUsize>,
    /// No more than was asked for.
    enough: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Publishes so many requests at this rate, and then 50 a second until [`finish`](Self::finish). `numbers` is the
    /// next request's. The nodes of one cluster are tried in turn.
    pub fn start(uris: Vec<String>, to: Target, numbers: Arc<AtomicUsize>, count: usize, per_second: u32) -> Self {
        let (confirmed, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut open = Open { numbers, asked: count, again: Vec::new(), enough: Arc::clone(&enough) };
        let done = Arc::clone(&confirmed);
        let task = tokio::spawn(async move {
            for uri in uris.iter().cycle() {
                let before = done.load(SeqCst);
                let _broken = publish(uri, &to, &mut open, &done, per_second).await;
                if open.is_over() {
                    return;
                }
                if done.load(SeqCst) == before {
                    sleep(Duration::from_millis(100)).await;
                }
            }
        });
        Self { confirmed, enough, task }
    }

    /// Begins no request beyond the asked count, and waits until all are confirmed.
    pub async fn finish(self) {
        self.enough.store(true, SeqCst);
        let ended = timeout(LIMIT, self.task).await;
        let confirmed = self.confirmed.load(SeqCst);
        ended.unwrap_or_else(|_| panic!("only {confirmed} requests were confirmed within {LIMIT:?}")).unwrap();
    }
}

/// Where requests are published, and what they are for.
pub struct Target {
    pub exchange: String,
    pub location: &'static str,
}

/// What is still to be published.
struct Open {
    /// The number of the next request that was never published.
    numbers: Arc<AtomicUsize>,
    /// Of those, how many there have to be.
    asked: usize,
    /// Were published, and not confirmed.
    again: Vec<usize>,
    enough: Arc<AtomicBool>,
}

impl Open {
    fn is_over(&self) -> bool {
        self.again.is_empty() && self.asked == 0 && self.enough.load(SeqCst)
    }

    fn next(&mut self) -> Option<usize> {
        if let Some(number) = self.again.pop() {
            return Some(number);
        }
        if self.is_over() {
            return None;
        }
        self.asked = self.asked.saturating_sub(1);
        Some(self.numbers.fetch_add(1, SeqCst))
    }

    fn is_trickle(&self) -> bool {
        self.again.is_empty() && self.asked == 0
    }
}

/// Publishes on one connection for as long as it lasts. What is not confirmed is open again.
async fn publish(
    uri: &str,
    to: &Target,
    open: &mut Open,
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
    while whole && !(open.is_over() && unknown.is_empty()) {
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
            _ = tick.tick(), if unknown.len() < WINDOW && !open.is_over() => {
                if unknown.is_empty() {
                    since = Instant::now();
                }
                let Some(number) = open.next() else { continue };
                unknown.insert(number);
                waiting.push(one(&channel, to, number));
                if open.is_trickle() {
                    tick.reset_after(TRICKLE);
                }
            }
        }
    }
    open.again.extend(unknown.into_iter().rev());
    Ok(())
}

/// Publishes one request, and tells whether the broker has taken it.
async fn one(channel: &Channel, to: &Target, number: usize) -> (usize, bool) {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = persistent().with_content_type("application/json".into());
    let body = requests::body(number, to.location);
    let sent = channel.basic_publish(to.exchange.as_str().into(), "cancel".into(), options, &body, properties).await;
    let taken = match sent {
        Ok(confirm) => matches!(confirm.await, Ok(Confirmation::Ack(None))),
        Err(_) => false,
    };
    (number, taken)
}
