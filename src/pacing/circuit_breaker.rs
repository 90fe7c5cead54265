//! ```text
//!            many operations found it unavailable (see `CallEvidence`)
//!   Closed ─────────────────────────────────────────────────────────▶ Open: one probe at a time, all others wait
//!     ▲                                                                 │
//!     └─────────────────────── any answer at all ───────────────────────┘
//! ```
//!
//! An operation whose last call found the endpoint unavailable may be the only one that does: some operations hang, or are
//! answered with 503, for ever. So its next call is a *retry*: it stands behind all other operations, it is given up after
//! the time of a probe, only some of the calls under way are retries, and another failure of it is no news of the endpoint.
//! Operations that are well wait for none of them. Where the endpoint is out, each operation meets that with a call that is
//! no retry: so the breaker opens as soon as enough of them have.

use std::time::{Duration, Instant};

use super::bounded_map::Forgettable;
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
    pub silence: Duration,
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
    /// It does not answer this operation, or only that it cannot.
    Unavailable(Key),
    /// Nothing: the call was dropped.
    Dropped,
}

/// What news changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateChange {
    /// The breaker opened: calls stop.
    Opened,
    /// The breaker closed: calls flow.
    Closed,
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BreakerDecision {
    Go,
    Probe,
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
    /// The time of the slowest answer lately.
    slowest: Duration,
    /// Probes that ended without an answer, in a row.
    unanswered: u32,
    /// What began before says nothing of the endpoint since.
    closed_at: Option<Instant>,
    open: Option<Open>,
    waiters: Waiters,
}

#[derive(Clone, Debug)]
struct Open {
    probing: bool,
    /// Not before.
    next_probe: Instant,
    /// When an operation that is no retry last had to wait.
    first_waited: Option<Instant>,
}

/// The places of those who wait.
#[derive(Clone, Debug, Default)]
struct Waiters {
    /// Operations that did not find the endpoint unavailable themselves.
    first: SlotSchedule,
    /// Retries: behind all others.
    retries: SlotSchedule,
}

/// Nobody comes back sooner.
const MIN_WAIT: Duration = Duration::from_millis(200);

/// Between two who come back: 250 a second are sent away again, whatever their number. More would cost processor time all
/// through an outage; fewer would come back later after it.
const SPACING: Duration = Duration::from_millis(4);

/// Between two retries: many of them are a few operations that are never answered, and each costs a look.
const RETRY_SPACING: Duration = Duration::from_millis(20);

/// Nobody waits longer, so beyond 75,000 more than 250 a second come back.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// No retry is a probe for so long after an operation that is none had to wait: that one will be back, and tells more.
const RETRY_PROBE_DELAY: Duration = Duration::from_secs(4);

/// An endpoint that never answered may just be slow: after so many probes the time for one doubles.
const UNANSWERED_PER_DOUBLING: u32 = 8;

impl CircuitBreaker {
    pub(super) fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            evidence: CallEvidence::default(),
            in_flight: 0,
            retries: 0,
            last_answer_at: None,
            slowest: Duration::ZERO,
            unanswered: 0,
            closed_at: None,
            open: None,
            waiters: Waiters::default(),
        }
    }

    /// Whether a call may be made now, or when to ask again.
    pub(super) fn ask(&mut self, retry: bool, now: Instant) -> BreakerDecision {
        match &mut self.open {
            None if !retry || self.retries < self.policy.retries => BreakerDecision::Go,
            Some(open) if open.probe_is_due(retry, now) => BreakerDecision::Probe,
            Some(_) | None => BreakerDecision::Wait(self.wait(retry, now)),
        }
    }

    /// How long an operation that may not call now waits before it asks again.
    pub(super) fn wait(&mut self, retry: bool, now: Instant) -> Duration {
        let mut soon = now + MIN_WAIT;
        if let Some(open) = &mut self.open {
            soon = soon.max(open.next_probe);
            if !retry {
                open.first_waited = Some(now);
            }
        }
        let place = self.waiters.reserve(retry, soon, now + MAX_WAIT);
        place.map_or(MAX_WAIT, |place| place.saturating_duration_since(now))
    }

    /// A call begins: a probe, or another that the breaker or a deadline lets go.
    pub(super) fn begin(&mut self, call: &Call) {
        self.in_flight = self.in_flight.saturating_add(1);
        self.retries = self.retries.saturating_add(u32::from(call.retry));
        if let Some(open) = &mut self.open {
            open.probing |= call.probe;
        }
    }

    /// A call has ended with this news.
    pub(super) fn end(&mut self, call: &Call, result: CallResult, now: Instant) -> Option<StateChange> {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.retries = self.retries.saturating_sub(u32::from(call.retry));
        match result {
            CallResult::Answered | CallResult::Throttled(_) => self.answered(call.began, now),
            CallResult::Unavailable(operation) => self.unavailable(call, operation, now),
            CallResult::Dropped => {
                if let Some(open) = self.open.as_mut().filter(|_| call.probe) {
                    open.probing = false;
                }
                None
            }
        }
    }

    /// How much longer to wait for the answer to a call. None: give it up.
    pub(super) fn time_left(&self, call: &Call, now: Instant) -> Option<Duration> {
        let limit = self.limit();
        let alone = call.probe || call.retry;
        // Any answer in between shows that the endpoint is alive and this call only slow.
        let since = if alone {
            call.began
        } else {
            self.last_answer_at.map_or(call.began, |last_answer_at| last_answer_at.max(call.began))
        };
        let silent = now.saturating_duration_since(since);
        match limit.checked_sub(silent) {
            Some(left) if !left.is_zero() => Some(left),
            _ if alone || self.open.is_some() || self.may_be_out() => None,
            _ => Some(limit),
        }
    }

    /// Whether as many operations as would open it have found the endpoint unavailable, or are about to.
    fn may_be_out(&self) -> bool {
        self.in_flight.saturating_add(self.evidence.in_a_row()) >= self.policy.failures
    }

    fn answered(&mut self, began: Instant, now: Instant) -> Option<StateChange> {
        self.unanswered = 0;
        self.last_answer_at = Some(now);
        self.slowest = now.saturating_duration_since(began).max(self.slowest.mul_f64(0.9));
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
        let limit = self.limit();
        match &mut self.open {
            Some(open) if call.probe => {
                if now.saturating_duration_since(call.began) >= limit {
                    self.unanswered = self.unanswered.saturating_add(1);
                }
                open.probing = false;
                open.next_probe = now.max(call.began + self.policy.probe_interval);
                None
            }
            Some(_) => None,
            None if call.retry => None,
            None if self.closed_at.is_some_and(|closed_at| call.began < closed_at) => None,
            None if self.evidence.unavailable(operation, self.policy.failures, now) => {
                let next_probe = now + self.policy.probe_interval;
                self.open = Some(Open { probing: false, next_probe, first_waited: None });
                Some(StateChange::Opened)
            }
            None => None,
        }
    }

    /// The time that an answer may take: longer where answers have lately taken long.
    fn limit(&self) -> Duration {
        match self.last_answer_at {
            Some(_) => self.policy.silence.max(self.slowest * 2),
            None => self.policy.silence * 2u32.pow((self.unanswered / UNANSWERED_PER_DOUBLING).min(6)),
        }
    }
}

impl Open {
    fn probe_is_due(&self, retry: bool, now: Instant) -> bool {
        let reserved = self.first_waited.is_some_and(|waited| now < waited + RETRY_PROBE_DELAY);
        !self.probing && now >= self.next_probe && !(retry && reserved)
    }
}

impl Waiters {
    fn reserve(&mut self, retry: bool, soon: Instant, latest: Instant) -> Option<Instant> {
        if retry {
            let behind = self.first.end().map_or(soon, |end| end.max(soon));
            self.retries.reserve(behind, RETRY_SPACING, latest)
        } else {
            self.first.reserve(soon, SPACING, latest)
        }
    }
}

impl Forgettable for CircuitBreaker {
    fn is_as_new(&mut self, now: Instant) -> bool {
        self.in_flight == 0 && self.open.is_none() && self.evidence.is_clear(now)
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        failures: 3,
        probe_interval: Duration::from_secs(1),
        silence: Duration::from_secs(3),
        retries: 2,
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn begin() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn unavailable(operation: u32) -> CallResult {
        CallResult::Unavailable(Key::of(&operation.to_string()))
    }

    const fn first(began: Instant) -> Call {
        Call { probe: false, retry: false, began }
    }

    const fn retry(began: Instant) -> Call {
        Call { probe: false, retry: true, began }
    }

    const fn probe(began: Instant) -> Call {
        Call { probe: true, retry: false, began }
    }

    /// A call that ends at once.
    fn call(breaker: &mut CircuitBreaker, result: CallResult, now: Instant) -> Option<StateChange> {
        let call = Call { probe: breaker.ask(false, now) == BreakerDecision::Probe, ..first(now) };
        breaker.begin(&call);
        breaker.end(&call, result, now)
    }

    fn opened(now: Instant) -> CircuitBreaker {
        let mut breaker = CircuitBreaker::new(POLICY);
        assert_eq!(call(&mut breaker, unavailable(1), now), None);
        assert_eq!(call(&mut breaker, unavailable(2), now), None);
        assert_eq!(call(&mut breaker, unavailable(3), now), Some(StateChange::Opened));
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let now = begin();
        let mut breaker = CircuitBreaker::new(POLICY);
        for result in
            [unavailable(1), unavailable(2), CallResult::Answered, unavailable(3), CallResult::Throttled(None)]
        {
            assert_eq!(call(&mut breaker, result, now), None);
        }
        assert_eq!(breaker.ask(false, now), BreakerDecision::Go);
        assert!(matches!(opened(now).ask(false, now), BreakerDecision::Wait(_)));
    }

    #[test]
    fn one_operation_that_is_never_answered_does_not_open_it() {
        let now = begin();
        let mut breaker = CircuitBreaker::new(POLICY);
        for _ in 0..19 {
            assert_eq!(call(&mut breaker, unavailable(1), now), None);
        }
    }

    #[test]
    fn nor_do_many_that_fail_again_and_again() {
        let now = begin();
        let mut breaker = CircuitBreaker::new(POLICY);
        for operation in 0..100 {
            breaker.begin(&retry(now));
            assert_eq!(breaker.end(&retry(now), unavailable(operation), now), None);
        }
    }

    #[test]
    fn while_open_there_is_one_probe_at_a_time_and_one_each_interval() {
        let now = begin();
        let mut breaker = opened(now);
        assert_eq!(breaker.ask(false, now + SECOND), BreakerDecision::Probe);
        let began = now + SECOND;
        breaker.begin(&probe(began));
        assert!(matches!(breaker.ask(false, now + 2 * SECOND), BreakerDecision::Wait(_)));
        assert_eq!(breaker.end(&probe(began), unavailable(4), began + SECOND / 10), None);
        assert!(matches!(breaker.ask(false, began + SECOND / 2), BreakerDecision::Wait(_)));
        assert_eq!(breaker.ask(false, began + SECOND), BreakerDecision::Probe);
    }

    #[test]
    fn any_answer_closes_it_also_a_refusal_and_also_one_that_came_late() {
        let now = begin();
        assert_eq!(opened(now).end(&first(now), CallResult::Answered, now), Some(StateChange::Closed));
        let mut breaker = opened(now);
        assert_eq!(call(&mut breaker, CallResult::Throttled(None), now + SECOND), Some(StateChange::Closed));
        assert_eq!(breaker.ask(false, now + SECOND), BreakerDecision::Go);
    }

    #[test]
    fn calls_that_began_before_it_closed_do_not_open_it_again() {
        let now = begin();
        let mut breaker = opened(now);
        assert_eq!(call(&mut breaker, CallResult::Answered, now + SECOND), Some(StateChange::Closed));
        for operation in 0..30 {
            assert_eq!(breaker.end(&first(now), unavailable(operation), now + 2 * SECOND), None);
        }
    }

    #[test]
    fn a_dropped_probe_makes_room_for_the_next() {
        let now = begin();
        let mut breaker = opened(now);
        assert_eq!(call(&mut breaker, CallResult::Dropped, now + SECOND), None);
        assert_eq!(breaker.ask(false, now + SECOND), BreakerDecision::Probe);
    }

    #[test]
    fn a_probe_is_given_up_after_the_silence_and_the_next_follows_at_once() {
        let now = begin() + SECOND;
        let mut breaker = opened(now - SECOND);
        breaker.begin(&probe(now));
        assert_eq!(breaker.time_left(&probe(now), now + SECOND), Some(2 * SECOND));
        assert_eq!(breaker.time_left(&probe(now), now + 3 * SECOND), None);
        breaker.end(&probe(now), unavailable(4), now + 3 * SECOND);
        assert_eq!(breaker.ask(false, now + 3 * SECOND), BreakerDecision::Probe);
    }

    #[test]
    fn calls_are_given_up_when_many_are_under_way_and_nothing_is_answered() {
        let now = begin();
        let mut breaker = CircuitBreaker::new(POLICY);
        breaker.begin(&first(now));
        breaker.begin(&first(now));
        assert_eq!(breaker.time_left(&first(now), now + 4 * SECOND), Some(3 * SECOND), "two are not many");
        breaker.begin(&first(now));
        assert_eq!(breaker.time_left(&first(now), now + 4 * SECOND), None);
        let mut silent = breaker.clone();
        for operation in 1..=3 {
            assert_eq!(silent.time_left(&first(now), now + 4 * SECOND), None, "and so are all of them");
            silent.end(&first(now), unavailable(operation), now + 4 * SECOND);
        }
        breaker.end(&first(now), CallResult::Answered, now + 2 * SECOND);
        breaker.begin(&first(now));
        let left = breaker.time_left(&first(now), now + 4 * SECOND);
        assert_eq!(left, Some(2 * SECOND), "one was answered: alive, and answers may take twice as long as that one");
    }

    #[test]
    fn an_endpoint_that_never_answered_is_given_more_and_more_time() {
        let mut now = begin();
        let mut breaker = opened(now);
        for operation in 0..UNANSWERED_PER_DOUBLING {
            now += 3 * SECOND;
            breaker.begin(&probe(now));
            breaker.end(&probe(now), unavailable(operation), now + 3 * SECOND);
        }
        assert_eq!(breaker.time_left(&probe(now), now + 3 * SECOND), Some(3 * SECOND));
    }

    #[test]
    fn a_retry_is_no_probe_while_others_wait_and_stands_behind_them() {
        let now = begin();
        let mut breaker = opened(now);
        let mut others = Duration::ZERO;
        for _ in 0..100 {
            others = breaker.wait(false, now).max(others);
        }
        assert!(breaker.wait(true, now) > others);
        assert!(matches!(breaker.ask(true, now + SECOND), BreakerDecision::Wait(_)));
        assert_eq!(breaker.ask(false, now + SECOND), BreakerDecision::Probe);
        let mut breaker = opened(now);
        assert_eq!(breaker.ask(true, now + SECOND), BreakerDecision::Probe, "nobody else waits");
    }

    #[test]
    fn while_closed_only_some_of_the_calls_under_way_are_retries_and_each_is_given_up_soon() {
        let now = begin();
        let mut breaker = CircuitBreaker::new(POLICY);
        for _ in 0..2 {
            assert_eq!(breaker.ask(true, now), BreakerDecision::Go);
            breaker.begin(&retry(now));
        }
        assert!(matches!(breaker.ask(true, now), BreakerDecision::Wait(_)));
        assert_eq!(breaker.ask(false, now), BreakerDecision::Go);
        assert_eq!(breaker.time_left(&retry(now), now + 3 * SECOND), None);
        breaker.end(&retry(now), unavailable(1), now);
        assert_eq!(breaker.ask(true, now), BreakerDecision::Go);
    }

    /// Many wait and ask again when they were told to: how many ask each second, and when the probes were made.
    fn outage(waiting: u32, seconds: u64) -> (Vec<u32>, Vec<Instant>, Instant) {
        let begin = begin();
        let mut breaker = opened(begin);
        let mut due: BinaryHeap<_> = (0..waiting).map(|number| Reverse((begin, number, false))).collect();
        let mut asked = vec![0; usize::try_from(seconds).expect("few")];
        let mut probes = Vec::new();
        while let Some(Reverse((now, number, retry))) = due.pop() {
            let second = usize::try_from(now.duration_since(begin).as_secs()).expect("few");
            let Some(count) = asked.get_mut(second) else { break };
            *count += 1;
            match breaker.ask(retry, now) {
                BreakerDecision::Wait(wait) => due.push(Reverse((now + wait, number, retry))),
                BreakerDecision::Probe => {
                    probes.push(now);
                    let call = Call { probe: true, retry, began: now };
                    breaker.begin(&call);
                    breaker.end(&call, unavailable(number), now);
                    due.push(Reverse((now + breaker.wait(true, now), number, true)));
                }
                BreakerDecision::Go => panic!("it is open"),
            }
        }
        (asked, probes, begin)
    }

    #[test]
    fn a_bounded_number_comes_back_each_second_however_many_wait() {
        for waiting in [1, 5, 100, 2_000, 20_000, 70_000] {
            let (asked, probes, _) = outage(waiting, 300);
            let most = asked[1..].iter().max().expect("some");
            assert!(*most <= 310, "{waiting} waiting: {most} in a second");
            // When all have been probes, the last to wait behind none keeps the first retry waiting once.
            let slow = probes.windows(2).filter(|pair| pair[1] - pair[0] > 2 * SECOND).count();
            assert!(slow <= 1, "{waiting} waiting: {slow} probes came late");
            for pair in probes.windows(2) {
                let between = pair[1] - pair[0];
                assert!(between >= SECOND && between <= 6 * SECOND, "{waiting} waiting: {between:?} between probes");
            }
            assert!(probes.len() >= 150, "{waiting} waiting: {} probes in 300 s", probes.len());
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_there_is_at_most_one_probe_and_always_another_later(
            events in prop::collection::vec((0..3000u64, 0..5u8, any::<bool>()), 1..200),
        ) {
            let mut now = begin();
            let mut breaker = opened(now);
            let mut probing: Option<Call> = None;
            for (millis, event, retry) in events {
                now += Duration::from_millis(millis);
                match (event, probing) {
                    (0, Some(call)) => { breaker.end(&call, unavailable(4), now); probing = None; }
                    (1, Some(call)) => { breaker.end(&call, CallResult::Dropped, now); probing = None; }
                    (2, Some(call)) if breaker.time_left(&call, now).is_none() => {
                        breaker.end(&call, unavailable(5), now);
                        probing = None;
                    }
                    _ => match breaker.ask(retry, now) {
                        BreakerDecision::Probe => {
                            prop_assert!(probing.is_none());
                            let call = Call { probe: true, retry, began: now };
                            breaker.begin(&call);
                            probing = Some(call);
                        }
                        BreakerDecision::Wait(wait) => prop_assert!(!wait.is_zero() && wait <= MAX_WAIT),
                        BreakerDecision::Go => prop_assert!(false, "it is open"),
                    },
                }
            }
            if let Some(call) = probing {
                breaker.end(&call, CallResult::Dropped, now);
            }
            prop_assert_eq!(breaker.ask(true, now + RETRY_PROBE_DELAY), BreakerDecision::Probe);
        }
    }
}
