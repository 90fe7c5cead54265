//! What is counted and measured, for `/metrics`.
//!
//! Counting is one addition to an atomic number, found by the label's index: no lock, no map, no text. Every series is there
//! from the start and none comes later, since labels are enumerations: nothing that a message says becomes a label.
//!
//! | file | subject |
//! |---|---|
//! | `labels` | [`Label`]: the labels and their values |
//! | `histogram` | [`Histogram`]: how long things took |

mod histogram;
mod labels;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::cancellation::{Outcome, Reason, Reply};
use crate::message::DeadReason;
use crate::telemetry::unix_time::unix_time;

pub use histogram::Histogram;
pub use labels::{
    ApiMethod, ApiReply, BreakerState, Consumed, DelayReason, Ended, Label, LogLevel, NotReady, PublishResult,
    PublishTarget, Redelivered, ReplyResult, SessionCause, SessionLabel, Watched,
};

/// From a call that answers at once to one that is cut: the buckets of OpenTelemetry's HTTP client.
const CALL_BOUNDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const REQUEST_BOUNDS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0];
const QUEUE_BOUNDS: &[f64] = &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];
const CONFIRM_BOUNDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// An answer that is published so long after its request's deadline is late.
pub const LATE: Duration = Duration::from_secs(60);

/// One number for each value of a label.
#[derive(Debug)]
pub(in crate::telemetry) struct Each<L>(Box<[AtomicU64]>, std::marker::PhantomData<fn(L)>);

impl<L: Label> Default for Each<L> {
    fn default() -> Self {
        Self(L::all().iter().map(|_| AtomicU64::new(0)).collect(), std::marker::PhantomData)
    }
}

impl<L: Label> Each<L> {
    pub(in crate::telemetry) fn of(&self, value: L) -> &AtomicU64 {
        &self.0[value.index()]
    }

    fn add(&self, value: L) {
        self.of(value).fetch_add(1, Relaxed);
    }

    pub(in crate::telemetry) fn get(&self, value: L) -> u64 {
        self.of(value).load(Relaxed)
    }
}

/// One `T` for each value of a label.
#[derive(Debug)]
pub(in crate::telemetry) struct Per<L, T>(Box<[T]>, std::marker::PhantomData<fn(L)>);

impl<L: Label, T> Per<L, T> {
    fn new(make: impl Fn() -> T) -> Self {
        Self(L::all().iter().map(|_| make()).collect(), std::marker::PhantomData)
    }

    pub(in crate::telemetry) fn of(&self, value: L) -> &T {
        &self.0[value.index()]
    }
}

impl<L: Label, T: Default> Default for Per<L, T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

/// All numbers of one worker. See the [module](self).
#[derive(Debug)]
pub struct Meters {
    pub(in crate::telemetry) deliveries: Per<Consumed, Each<Redelivered>>,
    pub(in crate::telemetry) in_hand: Each<Consumed>,
    pub(in crate::telemetry) limit: Each<Consumed>,
    pub(in crate::telemetry) ended: Per<Consumed, Each<Ended>>,
    pub(in crate::telemetry) results: Each<Outcome>,
    pub(in crate::telemetry) failed: Each<Reason>,
    pub(in crate::telemetry) delayed: Each<DelayReason>,
    pub(in crate::telemetry) dead_letters: Each<DeadReason>,
    pub(in crate::telemetry) request_duration: Per<Outcome, Histogram>,
    pub(in crate::telemetry) request_queue: Histogram,
    pub(in crate::telemetry) answers_late: AtomicU64,
    pub(in crate::telemetry) calls: Per<ApiMethod, Each<ApiReply>>,
    pub(in crate::telemetry) call_duration: Per<ApiMethod, Histogram>,
    pub(in crate::telemetry) calls_in_flight: AtomicU64,
    pub(in crate::telemetry) breakers: Each<BreakerState>,
    pub(in crate::telemetry) breaker_opened: AtomicU64,
    pub(in crate::telemetry) refusing_endpoints: AtomicU64,
    pub(in crate::telemetry) session_up: Each<SessionLabel>,
    pub(in crate::telemetry) session_start: Each<SessionLabel>,
    pub(in crate::telemetry) session_attempts_failed: Each<SessionLabel>,
    pub(in crate::telemetry) sessions_ended: Per<SessionLabel, Each<SessionCause>>,
    pub(in crate::telemetry) publishes: Per<PublishTarget, Each<PublishResult>>,
    pub(in crate::telemetry) confirm: Histogram,
    pub(in crate::telemetry) replies: Each<ReplyResult>,
    /// Since the last summary: how many replies were not sent, and why the last of them.
    pub(in crate::telemetry) replies_lost: Mutex<(u64, String)>,
    pub(in crate::telemetry) ready: Each<Watched>,
    pub(in crate::telemetry) consumers: Each<Watched>,
    pub(in crate::telemetry) observed: Each<Watched>,
    pub(in crate::telemetry) topology_problems: AtomicU64,
    pub(in crate::telemetry) loop_lag_micros: AtomicU64,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            deliveries: Per::default(),
            in_hand: Each::default(),
            limit: Each::default(),
            ended: Per::default(),
            results: Each::default(),
            failed: Each::default(),
            delayed: Each::default(),
            dead_letters: Each::default(),
            request_duration: Per::new(|| Histogram::new(REQUEST_BOUNDS)),
            request_queue: Histogram::new(QUEUE_BOUNDS),
            answers_late: AtomicU64::new(0),
            calls: Per::default(),
            call_duration: Per::new(|| Histogram::new(CALL_BOUNDS)),
            calls_in_flight: AtomicU64::new(0),
            breakers: Each::default(),
            breaker_opened: AtomicU64::new(0),
            refusing_endpoints: AtomicU64::new(0),
            session_up: Each::default(),
            session_start: Each::default(),
            session_attempts_failed: Each::default(),
            sessions_ended: Per::default(),
            publishes: Per::default(),
            confirm: Histogram::new(CONFIRM_BOUNDS),
            replies: Each::default(),
            replies_lost: Mutex::default(),
            ready: Each::default(),
            consumers: Each::default(),
            observed: Each::default(),
            topology_problems: AtomicU64::new(0),
            loop_lag_micros: AtomicU64::new(0),
        }
    }
}

/// A delivery in hand, from its coming to its end: dropped without [`acked`](Self::acked) it counts as lost.
#[derive(Debug)]
pub struct InHand<M: AsRef<Meters>> {
    meters: M,
    queue: Consumed,
    ended: Ended,
}

impl<M: AsRef<Meters>> InHand<M> {
    /// It was delivered.
    pub fn enter(meters: M, queue: Consumed, redelivered: Redelivered) -> Self {
        let all = meters.as_ref();
        all.in_hand.add(queue);
        all.deliveries.of(queue).add(redelivered);
        Self { meters, queue, ended: Ended::Lost }
    }

    /// It was acknowledged.
    pub const fn acked(&mut self) {
        self.ended = Ended::Acked;
    }
}

impl<M: AsRef<Meters>> Drop for InHand<M> {
    fn drop(&mut self) {
        let meters = self.meters.as_ref();
        meters.ended.of(self.queue).add(self.ended);
        meters.in_hand.of(self.queue).fetch_sub(1, Relaxed);
    }
}

/// A call under way.
#[derive(Debug)]
pub struct CallInFlight<'m>(&'m AtomicU64);

impl Drop for CallInFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Meters {
    /// At most so many deliveries of a queue are in hand.
    pub fn limit(&self, queue: Consumed, prefetch: u16) {
        self.limit.of(queue).store(prefetch.into(), Relaxed);
    }

    /// A request was answered: so long after it was first seen and, if so, after its deadline.
    pub fn answered(&self, outcome: Outcome, times: Option<(Duration, Duration)>) {
        self.results.add(outcome);
        if let Outcome::Failed(reason) = outcome {
            self.failed.add(reason);
        }
        if let Some((since_seen, since_deadline)) = times {
            self.request_duration.of(outcome).observe(since_seen);
            if since_deadline > LATE {
                self.answers_late.fetch_add(1, Relaxed);
            }
        }
    }

    /// A request was put into a wait queue.
    pub fn delayed(&self, reason: DelayReason) {
        self.delayed.add(reason);
    }

    /// A message was put into the dead queue.
    pub fn dead_letter(&self, reason: DeadReason) {
        self.dead_letters.add(reason);
    }

    /// A request was read for the first time, so long after it was published.
    pub fn queued(&self, queued: Duration) {
        self.request_queue.observe(queued);
    }

    /// A call begins.
    pub fn call_begins(&self) -> CallInFlight<'_> {
        self.calls_in_flight.fetch_add(1, Relaxed);
        CallInFlight(&self.calls_in_flight)
    }

    /// What came of a call, and how long that took.
    pub fn call(&self, method: ApiMethod, reply: &Reply, took: Duration) {
        self.calls.of(method).add(ApiReply::of(reply));
        if !matches!(reply, Reply::NotMade(_)) {
            self.call_duration.of(method).observe(took);
        }
    }

    /// So many circuit breakers are in this state now.
    pub fn breakers(&self, state: BreakerState, count: usize) {
        self.breakers.of(state).store(count as u64, Relaxed);
    }

    /// A circuit breaker opened.
    pub fn breaker_opened(&self) {
        self.breaker_opened.fetch_add(1, Relaxed);
    }

    /// So many endpoints refuse whoever calls.
    pub fn refusing_endpoints(&self, count: usize) {
        self.refusing_endpoints.store(count as u64, Relaxed);
    }

    /// A session consumes from now on.
    pub fn session_began(&self, session: SessionLabel) {
        self.session_up.of(session).store(1, Relaxed);
        self.session_start.of(session).store(unix_time(), Relaxed);
    }

    /// A session ended.
    pub fn session_ended(&self, session: SessionLabel, cause: SessionCause) {
        self.session_up.of(session).store(0, Relaxed);
        self.sessions_ended.of(session).add(cause);
    }

    /// No session could be built.
    pub fn session_attempt_failed(&self, session: SessionLabel) {
        self.session_attempts_failed.add(session);
    }

    /// What came of a publish.
    pub fn published(&self, target: PublishTarget, result: PublishResult) {
        self.publishes.of(target).add(result);
    }

    /// How long the broker took for a confirm.
    pub fn confirmed(&self, took: Duration) {
        self.confirm.observe(took);
    }

    /// A direct reply was handed to the broker.
    pub fn reply_sent(&self) {
        self.replies.add(ReplyResult::Sent);
    }

    /// A direct reply was not sent, and this is why. Its event is published all the same.
    pub fn reply_lost(&self, problem: &dyn fmt::Display) {
        self.replies.add(ReplyResult::Dropped);
        let mut lost = self.replies_lost.lock().unwrap_or_else(PoisonError::into_inner);
        *lost = (lost.0 + 1, problem.to_string());
    }

    /// The depth of a queue as it is believed now.
    pub fn depth(&self, queue: Watched, ready: u64, consumers: u64) {
        self.ready.of(queue).store(ready, Relaxed);
        self.consumers.of(queue).store(consumers, Relaxed);
        self.observed.of(queue).store(unix_time(), Relaxed);
    }

    /// So many queues and exchanges are not as they have to be.
    pub fn topology_problems(&self, count: usize) {
        self.topology_problems.store(count as u64, Relaxed);
    }

    /// Measures, for ever, how late the runtime is: a task that blocks keeps all others waiting.
    pub async fn watch_loop(&self) {
        const TICK: Duration = Duration::from_millis(500);
        loop {
            let began = tokio::time::Instant::now();
            tokio::time::sleep(TICK).await;
            let late = began.elapsed().saturating_sub(TICK);
            self.loop_lag_micros.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Relaxed);
        }
    }
}
