use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::Stream as _;
use futures_util::stream::FuturesUnordered;
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation, ConnectionStatus};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::super::outbound::Outbound;
use super::super::refusal::connection_lost;
use super::super::session_end::SessionEnd;
use super::confirmed::Confirmed;
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

/// The one owner of the publishing channel, and of the truth about which publishes are safe.
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
pub(in super::super) struct Ledger {
    channel: Arc<Channel>,
    connection: ConnectionStatus,
    over: SessionEnd,
    confirm_timeout: Duration,
    unconfirmed: FuturesUnordered<Attempt>,
    wake_flag: Arc<WakeFlag>,
    /// When each attempt began; the first is the oldest.
    started: BTreeMap<u64, Instant>,
    /// When the connection was last seen blocked: waiting is no fault until then.
    blocked: Option<Instant>,
    returns: Returns,
    next_attempt: u64,
    repeated: Arc<AtomicU64>,
}

impl Ledger {
    pub(in super::super) fn new(
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
            wake_flag: Arc::default(),
            started: BTreeMap::new(),
            blocked: None,
            returns: Returns::default(),
            next_attempt: 0,
            repeated,
        }
    }

    /// Publishes jobs until the session is over. Jobs that are unanswered then are dropped, and with them their answer.
    pub(in super::super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
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
                self.over.end(connection_lost(Role::Publish, &error));
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
            (Ok(Confirmation::Ack(None)), None) => Ok(Confirmed::new()),
            (Ok(Confirmation::Ack(Some(_))), None) => {
                self.repeated.fetch_add(1, Ordering::Relaxed);
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
