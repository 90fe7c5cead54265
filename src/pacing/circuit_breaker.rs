//! ```text
//!               many operations find it unavailable           a probe is due
//!   ┌────────┐ ───────────────────────────────────▶ ┌──────┐ ──────────────────────▶ ┌───────────┐
//!   │ closed │                                      │ open │                         │ half-open │
//!   └────────┘ ◀─────────────────────────────────── └──────┘ ◀────────────────────── └───────────┘
//!       ▲          an earlier call is answered                no answer, or dropped        │
//!       └──────────────────────────────────────────────────────────────────────────────────┘
//!                                   the probe is answered, be it with a refusal
//! ```
//!
//! - **closed**: calls go. What opens it, tells [`CallEvidence`].
//! - **open**: calls wait, and each waiter gets a slot of its own at which it asks again. The first that asks when a probe
//!   is due is the probe.
//! - **half-open**: one probe is under way, and all others wait.
//!
//! An operation whose last call found the endpoint unavailable may be the only one that does: some operations hang, or are
//! answered with 503, for ever. So its next call is a *retry*: it waits behind all other operations, it is given up after
//! the time of a probe, only some of the calls under way are retries, and another failure of it is no evidence against the
//! endpoint. Healthy operations wait for none of them. Where the endpoint is out, each operation meets that with a call that
//! is no retry: so the breaker opens as soon as enough of them have.

use std::time::{Duration, Instant};

use super::call_evidence::CallEvidence;
use super::key::Key;
use super::slot_schedule::SlotSchedule;

/// When calls to an endpoint are stopped, and how it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Opens after so many different operations in a row that found the endpoint unavailable, at least 1; and when half of
    /// at least 20 calls within 10 s did.
    pub failures: u32,
    /// While open, a probe begins this long after the one before.
    pub probe_interval: Duration,
    /// A probe or a retry without an answer is given up after this long, and so is any call while so many calls that they
    /// would open the breaker are under way and none has been answered for this long.
    pub probe_timeout: Duration,
    /// At most so many retries are under way at once, at least 1.
    pub retries: u32,
}

/// What a call told of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// It answers, be it with a refusal.
    Answered,
    /// It answers that these are too many calls, and may ask for a pause.
    Throttled(Option<Duration>),
    /// It does not answer this operation, or only that it is unavailable.
    Unavailable(Key),
    /// Nothing: the call was dropped before its end.
    Dropped,
}

/// What the result of a call changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateChange {
    /// The breaker opened: calls wait.
    Opened,
    /// The breaker closed: calls go.
    Closed,
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BreakerDecision {
    Go,
    /// It goes, and tells whether the endpoint is available again.
    Probe,
    /// Ask again after this.
    Wait(Duration),
}

/// A call under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// It tries an endpoint that was unavailable.
    pub(super) probe: bool,
    /// The operation's last call found the endpoint unavailable.
    pub(super) retry: bool,
    pub(super) began: Instant,
}

/// The circuit breaker of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct CircuitBreaker {
    policy: BreakerPolicy,
    evidence: CallEvidence,
    in_flight: u32,
    /// Of these, the retries.
    retries: u32,
    /// When the last answer came.
    last_answer_at: Option<Instant>,
    /// The time that the slowest answer took lately.
    slowest_answer: Duration,
    /// Probes that were given up, in a row.
    unanswered_probes: u32,
    /// A call that began before says nothing of the endpoint since.
    closed_at: Option<Instant>,
    /// `None`: closed.
    open: Option<Open>,
    waiters: Waiters,
}

#[derive(Clone, Debug)]
struct Open {
    /// A probe is under way.
    half_open: bool,
    /// No probe begins before.
    next_probe_at: Instant,
    /// When a probe candidate last had to wait.
    candidate_waited_at: Option<Instant>,
}

/// When those who wait ask again.
#[derive(Clone, Debug, Default)]
struct Waiters {
    /// Operations that did not find the endpoint unavailable themselves.
    probe_candidates: SlotSchedule,
    /// Behind all others.
    retries: SlotSchedule,
}

/// No waiter asks again sooner.
const MIN_WAIT: Duration = Duration::from_millis(200);

/// Between two waiters: 250 a second ask again, however many there are. More would cost processor time all through an
/// outage; fewer would ask later after it.
const WAITER_INTERVAL: Duration = Duration::from_millis(4);

/// Between two retries: many of them are a few operations that are never answered, and each that asks costs time.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// No waiter waits longer, so beyond 75,000 of them more than 250 a second ask again.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(300);

/// No retry is a probe for this long after a probe candidate had to wait: that one will ask again, and tells more.
pub(super) const RETRY_PROBE_DELAY: Duration = Duration::from_secs(4);

/// An endpoint that never answered may just be slow: after so many unanswered probes the time for one doubles.
pub(super) const UNANSWERED_PER_DOUBLING: u32 = 8;

/// Whether a probe is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HalfOpen(pub(super) bool);

impl CircuitBreaker {
    /// None: it is closed.
    pub(super) fn is_open(&self) -> Option<HalfOpen> {
        self.open.as_ref().map(|open| HalfOpen(open.half_open))
    }

    pub(super) fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            evidence: CallEvidence::default(),
            in_flight: 0,
            retries: 0,
            last_answer_at: None,
            slowest_answer: Duration::ZERO,
            unanswered_probes: 0,
            closed_at: None,
            open: None,
            waiters: Waiters::default(),
        }
    }

    /// From now on this counts. What is known stays: an open breaker stays open.
    pub(super) const fn set_policy(&mut self, policy: BreakerPolicy) {
        self.policy = policy;
    }

    /// Whether a call may be made now, or when to ask again.
    pub(super) fn decide(&mut self, retry: bool, now: Instant) -> BreakerDecision {
        match &mut self.open {
            None if !retry || self.retries < self.policy.retries => BreakerDecision::Go,
            Some(open) if open.probe_is_due(retry, now) => BreakerDecision::Probe,
            Some(_) | None => BreakerDecision::Wait(self.wait(retry, now)),
        }
    }

    /// How long an operation that may not call now waits before it asks again.
    pub(super) fn wait(&mut self, retry: bool, now: Instant) -> Duration {
        let mut earliest = now + MIN_WAIT;
        if let Some(open) = &mut self.open {
            earliest = earliest.max(open.next_probe_at);
            if !retry {
                open.candidate_waited_at = Some(now);
            }
        }
        let slot = self.waiters.reserve(retry, earliest, now + MAX_WAIT);
        slot.map_or(MAX_WAIT, |slot| slot.saturating_duration_since(now))
    }

    /// A call begins: the breaker let it go, or its deadline has come.
    pub(super) fn begin(&mut self, call: &Call) {
        self.in_flight = self.in_flight.saturating_add(1);
        self.retries = self.retries.saturating_add(u32::from(call.retry));
        if let Some(open) = &mut self.open {
            open.half_open |= call.probe;
        }
    }

    /// A call has ended.
    pub(super) fn end(&mut self, call: &Call, result: CallResult, now: Instant) -> Option<StateChange> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.retries = self.retries.saturating_sub(u32::from(call.retry));
        match result {
            CallResult::Answered | CallResult::Throttled(_) => self.answered(call.began, now),
            CallResult::Unavailable(operation) => self.unavailable(call, operation, now),
            CallResult::Dropped => {
                if let Some(open) = self.open.as_mut().filter(|_| call.probe) {
                    open.half_open = false;
                }
                None
            }
        }
    }

    /// How much longer to wait for the answer to a call. None: give it up.
    pub(super) fn time_left(&self, call: &Call, now: Instant) -> Option<Duration> {
        let limit = self.answer_timeout();
        let judged_alone = call.probe || call.retry;
        // Any answer in between shows that the endpoint answers and this call is only slow.
        let since = if judged_alone {
            call.began
        } else {
            self.last_answer_at.map_or(call.began, |last_answer_at| last_answer_at.max(call.began))
        };
        let silent = now.saturating_duration_since(since);
        match limit.checked_sub(silent) {
            Some(left) if !left.is_zero() => Some(left),
            _ if judged_alone || self.open.is_some() || self.may_be_out() => None,
            _ => Some(limit),
        }
    }

    /// Whether as many operations as would open it have found the endpoint unavailable, or are about to. Not counting
    /// retries, which would not.
    fn may_be_out(&self) -> bool {
        let first_calls = self.in_flight.saturating_sub(self.retries);
        first_calls.saturating_add(self.evidence.in_a_row()) >= self.policy.failures
    }

    fn answered(&mut self, began: Instant, now: Instant) -> Option<StateChange> {
        self.unanswered_probes = 0;
        self.last_answer_at = Some(now);
        self.slowest_answer = now.saturating_duration_since(began).max(self.slowest_answer.mul_f64(0.9));
        if self.open.take().is_none() {
            self.evidence.answered(now);
            return None;
        }
        self.evidence = CallEvidence::default();
        self.waiters = Waiters::default();
        self.closed_at = Some(now);
        Some(StateChange::Closed)
    }

    fn unavailable(&mut self, call: &Call, operation: Key, now: Instant) -> Option<StateChange> {
        let limit = self.answer_timeout();
        match &mut self.open {
            Some(open) if call.probe => {
                if now.saturating_duration_since(call.began) >= limit {
                    self.unanswered_probes = self.unanswered_probes.saturating_add(1);
                }
                open.half_open = false;
                open.next_probe_at = now.max(call.began + self.policy.probe_interval);
                None
            }
            Some(_) => None,
            None if call.retry => None,
            None if self.closed_at.is_some_and(|closed_at| call.began < closed_at) => None,
            None if self.evidence.unavailable(operation, self.policy.failures, now) => {
                let next_probe_at = now + self.policy.probe_interval;
                self.open = Some(Open { half_open: false, next_probe_at, candidate_waited_at: None });
                Some(StateChange::Opened)
            }
            None => None,
        }
    }

    /// The time that an answer may take: longer where answers have lately taken long.
    fn answer_timeout(&self) -> Duration {
        match self.last_answer_at {
            Some(_) => self.policy.probe_timeout.max(self.slowest_answer * 2),
            None => self.policy.probe_timeout * 2u32.pow((self.unanswered_probes / UNANSWERED_PER_DOUBLING).min(6)),
        }
    }
}

impl Open {
    fn probe_is_due(&self, retry: bool, now: Instant) -> bool {
        let reserved = self.candidate_waited_at.is_some_and(|waited_at| now < waited_at + RETRY_PROBE_DELAY);
        !self.half_open && now >= self.next_probe_at && !(retry && reserved)
    }
}

impl Waiters {
    fn reserve(&mut self, retry: bool, earliest: Instant, latest: Instant) -> Option<Instant> {
        if retry {
            let behind = self.probe_candidates.end().map_or(earliest, |end| end.max(earliest));
            self.retries.reserve(behind, RETRY_INTERVAL, latest)
        } else {
            self.probe_candidates.reserve(earliest, WAITER_INTERVAL, latest)
        }
    }
}
