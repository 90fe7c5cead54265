use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::Stream as _;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::super::connection::BrokerConnection;
use super::super::outbound::Outbound;
use super::super::refusal::connection_lost;
use super::super::session_end::SessionEnd;
use super::confirmed::Confirmed;
use super::refusals::Refusals;
use super::returns::Returns;
use super::wake_flag::WakeFlag;
use crate::broker::error::BrokerError;
use crate::broker::publish_error::PublishError;
use crate::broker::role::Role;

/// At most this many publishes wait for their confirm at once.
const MAX_UNCONFIRMED: usize = 1024;

type Answer = Result<Confirmed, PublishError>;

/// A message to be published, and where the answer goes.
pub(in super::super) struct Job {
    pub(in super::super) message: Outbound,
    pub(in super::super) answer: oneshot::Sender<Answer>,
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

/// The one owner of a publishing channel, and of the truth about which of its publishes are safe.
///
/// lapin hands a returned (unroutable) message to whichever confirm completes next, so a confirm alone says nothing
/// about its own publish. What holds: the broker sends a return before the confirm of the same publish, and a
/// completing confirm takes the oldest return that waits. So when my confirm brought no return, none was waiting, and
/// mine, had there been one, was taken by a confirm that completed before mine. Therefore, at each wake-up:
///
/// 1. every confirm that is ready is taken, before any is judged ([`Ledger::drain`]);
/// 2. every return among them is entered against the publishes that it may belong to ([`Returns`]);
/// 3. then each is judged: entered means unroutable; a confirm without return is a proof; a confirm with another
///    publish's return says nothing, and the message is published again.
///
/// For 1 all publishes have to start here, too, so that no confirm is ever outside `unconfirmed`.
///
/// A channel on which refusals last gives its jobs to the ledger of a new one ([`Refusals`]), settles what it has published,
/// and ends.
pub(in super::super) struct Ledger {
    channel: Arc<Channel>,
    context: LedgerContext,
    refusals: Refusals,
    unconfirmed: FuturesUnordered<Attempt>,
    wake_flag: Arc<WakeFlag>,
    /// When each attempt began; the first is the oldest.
    started: BTreeMap<u64, Instant>,
    /// When the connection was last seen blocked: waiting is no fault until then.
    blocked: Option<Instant>,
    returns: Returns,
    next_attempt: u64,
}

/// What the ledgers of a session share.
#[derive(Clone)]
pub(in super::super) struct LedgerContext {
    /// The session's: it ends with that, whoever still publishes.
    pub(in super::super) connection: Weak<BrokerConnection>,
    pub(in super::super) over: SessionEnd,
    pub(in super::super) confirm_timeout: Duration,
    /// How many publishes were made again because their confirm came with another's return.
    pub(in super::super) repeated: Arc<AtomicU64>,
}

impl Ledger {
    /// Opens a channel.
    pub(in super::super) async fn open(context: LedgerContext) -> Result<Self, BrokerError> {
        Self::open_after(Refusals::default(), context).await
    }

    async fn open_after(refusals: Refusals, context: LedgerContext) -> Result<Self, BrokerError> {
        let connection = context.connection.upgrade().ok_or(BrokerError::Closed)?;
        let channel = connection.channel().await?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
        confirms.map_err(|error| connection_lost(connection.role(), &error))?;
        Ok(Self {
            channel: Arc::new(channel),
            context,
            refusals,
            unconfirmed: FuturesUnordered::new(),
            wake_flag: Arc::default(),
            started: BTreeMap::new(),
            blocked: None,
            returns: Returns::default(),
            next_attempt: 0,
        })
    }

    /// Publishes jobs until the session is over, or until the channel is replaced and all that was published on it is
    /// settled. Jobs that are unanswered at the session's end are dropped, and with them their answer.
    pub(in super::super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let over = self.context.over.clone();
        let interval_of_checks =
            (self.context.confirm_timeout / 10).clamp(Duration::from_millis(20), Duration::from_secs(1));
        let mut tick = interval(interval_of_checks);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if over.cause().is_some() {
                return;
            }
            let room = self.unconfirmed.len() < MAX_UNCONFIRMED;
            tokio::select! {
                biased;
                _ = over.ended() => return,
                ready = std::future::poll_fn(|context| self.drain(context)) => self.settle(ready),
                Some(job) = jobs.recv(), if room => self.begin(job),
                now = tick.tick() => {
                    self.check_time(now);
                    if self.refusals.last(now) {
                        break;
                    }
                }
            }
            while self.unconfirmed.len() < MAX_UNCONFIRMED
                && let Ok(job) = jobs.try_recv()
            {
                self.begin(job);
            }
        }
        tracing::debug!("the channel is replaced, since what is published on it is refused again and again");
        replace(self.refusals.handed_over(), self.context.clone(), jobs);
        while !self.unconfirmed.is_empty() && over.cause().is_none() {
            tokio::select! {
                biased;
                _ = over.ended() => return,
                ready = std::future::poll_fn(|context| self.drain(context)) => self.settle(ready),
                now = tick.tick() => self.check_time(now),
            }
        }
        // It fails only where the connection has ended, which its watch sees.
        let _ = self.channel.close(200, "OK".into()).await;
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
    /// itself then: the flag tells that apart from having nothing left.
    fn drain(&mut self, context: &mut Context<'_>) -> Poll<Vec<(InFlight, lapin::Result<Confirmation>)>> {
        self.wake_flag.register(context.waker());
        let waker = Waker::from(Arc::clone(&self.wake_flag));
        let mut ready = Vec::new();
        loop {
            self.wake_flag.reset();
            match Pin::new(&mut self.unconfirmed).poll_next(&mut Context::from_waker(&waker)) {
                Poll::Ready(Some(done)) => ready.push(done),
                Poll::Ready(None) => break,
                Poll::Pending if self.wake_flag.is_woken() => {}
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
                self.context.over.end(connection_lost(Role::Publish, &error));
                return;
            }
            (Ok(Confirmation::NotRequested), _) => {
                let problem = "the channel is not in confirm mode".to_owned();
                self.context.over.end(BrokerError::Lost { role: Role::Publish, problem });
                return;
            }
            (Ok(_), Some(reason)) => Err(PublishError::Unroutable {
                exchange: exchange.to_string(),
                routing_key: routing_key.to_string(),
                reason: reason.to_owned(),
            }),
            (Ok(Confirmation::Nack(_)), None) => {
                self.refusals.refused(exchange, routing_key, Instant::now());
                Err(PublishError::Refused { exchange: exchange.to_string(), routing_key: routing_key.to_string() })
            }
            (Ok(Confirmation::Ack(None)), None) => {
                self.refusals.taken(exchange, routing_key);
                Ok(Confirmed::new())
            }
            (Ok(Confirmation::Ack(Some(_))), None) => {
                self.context.repeated.fetch_add(1, Ordering::Relaxed);
                self.publish(publish);
                return;
            }
        };
        self.returns.close(publish.key);
        // Where the publisher was dropped, nothing depends on the answer.
        let _ = publish.job.answer.send(answer);
    }

    /// Ends the session when the oldest publish has waited too long. Not while an alarm blocks the connection: that may
    /// last for hours, and a new session would be blocked as well.
    fn check_time(&mut self, now: Instant) {
        let is_blocked =
            self.context.connection.upgrade().is_some_and(|connection| connection.lapin().status().blocked());
        if is_blocked {
            self.blocked = Some(now);
            return;
        }
        if let Some((_, started)) = self.started.first_key_value() {
            let since = self.blocked.map_or(*started, |blocked| blocked.max(*started));
            if now.saturating_duration_since(since) > self.context.confirm_timeout {
                self.context.over.end(BrokerError::ConfirmTimeout(self.context.confirm_timeout));
            }
        }
    }
}

/// Has a new channel do these jobs.
fn replace(refusals: Refusals, context: LedgerContext, jobs: mpsc::Receiver<Job>) {
    tokio::spawn(async move {
        let over = context.over.clone();
        match over_or(&over, Ledger::open_after(refusals, context)).await {
            Some(Ok(ledger)) => ledger.run(jobs).await,
            Some(Err(error)) => {
                over.end(error);
            }
            None => {}
        }
    });
}

/// None: the session is over.
async fn over_or<T>(over: &SessionEnd, what: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        _ = over.ended() => None,
        done = what => Some(done),
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
