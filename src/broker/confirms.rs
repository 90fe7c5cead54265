use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::Stream as _;
use futures_util::stream::FuturesUnordered;
use futures_util::task::AtomicWaker;
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, ConnectionStatus};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::outbound::Outbound;
use super::publisher::PublishError;
use super::{BrokerError, Role, SessionEnd};

/// At most this many publishes wait for their confirm at once.
const MAX_UNCONFIRMED: usize = 1024;

/// Proof that the broker has a message safe in a queue. Only the publisher makes one, and acknowledging takes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "it is the proof that acknowledging a delivery takes"]
pub struct Confirmed(());

type Answer = Result<Confirmed, PublishError>;

/// A message to be published, and where the answer goes.
pub(super) struct Job {
    pub(super) message: Outbound,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// A job whose publish waits for its confirm.
struct InFlight {
    job: Job,
    key: u64,
    /// Of the job, ascending.
    number: u64,
    /// Of the publish, ascending: a job may need more than one.
    attempt: u64,
}

type Attempt = Pin<Box<dyn Future<Output = (InFlight, lapin::Result<Confirmation>)> + Send>>;

/// The one owner of the publishing channel, and of the truth about which publishes are safe.
///
/// lapin hands a returned (unroutable) message to whichever confirm completes next, so a confirm alone says nothing
/// about its own publish. What holds: the broker sends a return before the confirm of the same publish, and a
/// completing confirm takes the oldest return that waits. So when my confirm brought no return, none was waiting, and
/// mine, had there been one, was taken by a confirm that completed before mine. Therefore, at each wake-up:
///
/// 1. every confirm that is ready is taken, before any is judged ([`Ledger::drain`]);
/// 2. every return among them is entered against the publishes that it may belong to ([`Returns`]);
/// 3. then each is judged: entered means unroutable; a confirm without return is a proof; a confirm with somebody
///    else's return says nothing, and the message is published again.
///
/// For 1 all publishes have to start here, too, so that no confirm is ever outside `unconfirmed`.
pub(super) struct Ledger {
    channel: Arc<Channel>,
    connection: ConnectionStatus,
    over: SessionEnd,
    confirm_timeout: Duration,
    unconfirmed: FuturesUnordered<Attempt>,
    bell: Arc<WakeFlag>,
    /// When each attempt began; the first is the oldest.
    started: BTreeMap<u64, Instant>,
    /// When the connection was last seen blocked: waiting is no fault until then.
    blocked: Option<Instant>,
    returns: Returns,
    next_attempt: u64,
    repeated: Arc<AtomicU64>,
}

impl Ledger {
    pub(super) fn new(
        channel: Channel,
        connection: ConnectionStatus,
        over: SessionEnd,
        confirm_timeout: Duration,
        repeated: Arc<AtomicU64>,
    ) -> Self {
        Self {
            channel: Arc::new(channel),
            connection,
            over,
            confirm_timeout,
            unconfirmed: FuturesUnordered::new(),
            bell: Arc::default(),
            started: BTreeMap::new(),
            blocked: None,
            returns: Returns::default(),
            next_attempt: 0,
            repeated,
        }
    }

    /// Publishes jobs until the session is over. Jobs that are unanswered then are dropped, and with them their answer.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let over = self.over.clone();
        let mut tick = interval((self.confirm_timeout / 10).clamp(Duration::from_millis(20), Duration::from_secs(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while over.cause().is_none() {
            let room = self.unconfirmed.len() < MAX_UNCONFIRMED;
            tokio::select! {
                biased;
                _ = over.ended() => return,
                ready = std::future::poll_fn(|context| self.drain(context)) => self.settle(ready),
                Some(job) = jobs.recv(), if room => self.begin(job),
                now = tick.tick() => self.check_time(now),
            }
            while self.unconfirmed.len() < MAX_UNCONFIRMED
                && let Ok(job) = jobs.try_recv()
            {
                self.begin(job);
            }
        }
    }

    fn begin(&mut self, job: Job) {
        let Outbound { exchange, routing_key, properties, .. } = &job.message;
        let key = self.returns.key(exchange, routing_key, properties.message_id().as_ref());
        let number = self.returns.open(key);
        self.publish(InFlight { job, key, number, attempt: 0 });
    }

    fn publish(&mut self, publish: InFlight) {
        let attempt = self.next_attempt;
        self.next_attempt += 1;
        self.started.insert(attempt, Instant::now());
        let channel = Arc::clone(&self.channel);
        self.unconfirmed.push(Box::pin(confirmed(channel, InFlight { attempt, ..publish })));
    }

    /// Everything that is ready, and all of it. `FuturesUnordered` may say `Pending` with futures still queued, and wakes
    /// itself then: the bell tells that apart from having nothing left.
    fn drain(&mut self, context: &mut Context<'_>) -> Poll<Vec<(InFlight, lapin::Result<Confirmation>)>> {
        self.bell.task.register(context.waker());
        let bell = Waker::from(Arc::clone(&self.bell));
        let mut ready = Vec::new();
        loop {
            self.bell.rung.store(false, Ordering::SeqCst);
            match Pin::new(&mut self.unconfirmed).poll_next(&mut Context::from_waker(&bell)) {
                Poll::Ready(Some(done)) => ready.push(done),
                Poll::Ready(None) => break,
                Poll::Pending if self.bell.rung.load(Ordering::SeqCst) => {}
                Poll::Pending => break,
            }
        }
        if ready.is_empty() { Poll::Pending } else { Poll::Ready(ready) }
    }

    fn settle(&mut self, ready: Vec<(InFlight, lapin::Result<Confirmation>)>) {
        for (_, result) in &ready {
            if let Ok(Confirmation::Ack(Some(message)) | Confirmation::Nack(Some(message))) = result {
                self.returns.enter(message);
            }
        }
        for (publish, result) in ready {
            self.started.remove(&publish.attempt);
            self.judge(publish, result);
        }
    }

    fn judge(&mut self, publish: InFlight, result: lapin::Result<Confirmation>) {
        let returned = self.returns.of(publish.key, publish.number);
        let Outbound { exchange, routing_key, .. } = &publish.job.message;
        let answer = match (result, returned) {
            (Err(error), _) => {
                self.over.end(BrokerError::lost(Role::Publish, &error));
                return;
            }
            (Ok(Confirmation::NotRequested), _) => {
                let problem = "the channel is not in confirm mode".to_owned();
                self.over.end(BrokerError::Lost { role: Role::Publish, problem });
                return;
            }
            (Ok(_), Some(reason)) => Err(PublishError::Unroutable {
                exchange: exchange.to_string(),
                routing_key: routing_key.to_string(),
                reason: reason.to_owned(),
            }),
            (Ok(Confirmation::Nack(_)), None) => {
                Err(PublishError::Refused { exchange: exchange.to_string(), routing_key: routing_key.to_string() })
            }
            (Ok(Confirmation::Ack(None)), None) => Ok(Confirmed(())),
            (Ok(Confirmation::Ack(Some(_))), None) => {
                self.repeated.fetch_add(1, Ordering::Relaxed);
                self.publish(publish);
                return;
            }
        };
        self.returns.close(publish.key);
        // Nobody waits for the answer any more: then nothing depends on it.
        let _ = publish.job.answer.send(answer);
    }

    /// Ends the session when the oldest publish has waited too long. Not while an alarm blocks the connection: that may
    /// last for hours, and a new session would be blocked as well.
    fn check_time(&mut self, now: Instant) {
        if self.connection.blocked() {
            self.blocked = Some(now);
            return;
        }
        if let Some((_, started)) = self.started.first_key_value() {
            let since = self.blocked.map_or(*started, |blocked| blocked.max(*started));
            if now.saturating_duration_since(since) > self.confirm_timeout {
                self.over.end(BrokerError::ConfirmTimeout(self.confirm_timeout));
            }
        }
    }
}

/// Publishes and waits for the confirm. The first poll numbers the publish and queues its frames, so that publishes go
/// out in the order of their first polls.
async fn confirmed(channel: Arc<Channel>, publish: InFlight) -> (InFlight, lapin::Result<Confirmation>) {
    let Outbound { exchange, routing_key, body, properties } = &publish.job.message;
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let sent = channel.basic_publish(exchange.clone(), routing_key.clone(), options, body, properties.clone()).await;
    let result = match sent {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    (publish, result)
}

/// Wakes the task, and remembers that it did.
#[derive(Default)]
struct WakeFlag {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        self.task.wake();
    }
}

/// Which open publishes were returned. A return names exchange, routing key and message id, which several publishes
/// may share (duplicates of one request have the same event id): it is entered against all of them that are open at
/// that moment. So none can be missed, and one that was routed after all is only published again. Publishes that are
/// opened later are not touched, or endless overlap would keep one return alive for ever.
#[derive(Default)]
struct Returns {
    hasher: RandomState,
    /// By key, while any publish with that key is open.
    open: HashMap<u64, Open>,
    next_number: u64,
}

#[derive(Default)]
struct Open {
    publishes: usize,
    /// Publishes up to this number were returned, for this reason.
    returned: Option<(u64, String)>,
}

impl Returns {
    /// A hash: where two differ and collide, they are taken for the same, which is safe.
    fn key(&self, exchange: &ShortString, routing_key: &ShortString, message_id: Option<&ShortString>) -> u64 {
        self.hasher.hash_one((exchange, routing_key, message_id))
    }

    /// Answers with the publish's number.
    fn open(&mut self, key: u64) -> u64 {
        self.open.entry(key).or_default().publishes += 1;
        self.next_number += 1;
        self.next_number
    }

    fn enter(&mut self, message: &BasicReturnMessage) {
        let delivery = &message.delivery;
        let key = self.key(&delivery.exchange, &delivery.routing_key, delivery.properties.message_id().as_ref());
        // None open: a duplicate's return has stood for this one, which is settled.
        if let Some(open) = self.open.get_mut(&key) {
            open.returned = Some((self.next_number, format!("{} {}", message.reply_code, message.reply_text)));
        }
    }

    /// Why the publish was returned, if it was.
    fn of(&self, key: u64, number: u64) -> Option<&str> {
        let (last, reason) = self.open.get(&key)?.returned.as_ref()?;
        (number <= *last).then_some(reason.as_str())
    }

    fn close(&mut self, key: u64) {
        if let Entry::Occupied(mut entry) = self.open.entry(key) {
            entry.get_mut().publishes -= 1;
            if entry.get().publishes == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(returns: &mut Returns, id: &str) -> (u64, u64) {
        let key = returns.key(&"x".into(), &"k".into(), Some(&id.into()));
        (key, returns.open(key))
    }

    /// As `enter` does, without a message, which only lapin can make.
    fn enter(returns: &mut Returns, id: &str) {
        let key = returns.key(&"x".into(), &"k".into(), Some(&id.into()));
        let last = returns.next_number;
        if let Some(open) = returns.open.get_mut(&key) {
            open.returned = Some((last, "312 NO_ROUTE".to_owned()));
        }
    }

    #[test]
    fn a_return_counts_against_all_open_publishes_of_its_id_and_no_later_ones() {
        let mut returns = Returns::default();
        let (key, first) = opened(&mut returns, "a");
        let (_, twin) = opened(&mut returns, "a");
        let (other, another) = opened(&mut returns, "b");
        enter(&mut returns, "a");
        let (_, later) = opened(&mut returns, "a");
        assert_eq!(returns.of(key, first), Some("312 NO_ROUTE"));
        assert_eq!(returns.of(key, twin), Some("312 NO_ROUTE"));
        assert_eq!(returns.of(key, later), None);
        assert_eq!(returns.of(other, another), None);
    }

    #[test]
    fn a_return_is_forgotten_with_the_last_publish_of_its_id() {
        let mut returns = Returns::default();
        let (key, _) = opened(&mut returns, "a");
        enter(&mut returns, "a");
        returns.close(key);
        assert!(returns.open.is_empty());
        enter(&mut returns, "a");
        let (key, number) = opened(&mut returns, "a");
        assert_eq!(returns.of(key, number), None);
    }
}
