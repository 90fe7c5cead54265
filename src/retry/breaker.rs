//! ```text
//!            so many Unavailable in a row
//!   Closed ───────────────────────────────▶ Open: one probe at a time, everybody else waits
//!     ▲                                       │
//!     └───────── any answer at all ───────────┘
//! ```

use std::time::{Duration, Instant};

use super::crowd::Forgettable;
use super::line::Line;

/// When calls to an endpoint are stopped, and how it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Opens after so many calls in a row that found the endpoint unavailable, at least 1.
    pub failures: u32,
    /// While open, a probe begins this long after the one before.
    pub probe_interval: Duration,
    /// A probe without an answer is given up after this long, and so is any call while so many calls that they would
    /// open the breaker are under way and none has been answered for this long.
    pub silence: Duration,
}

/// What a call told of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It answers, be it with a refusal.
    Answered,
    /// It answers that these are too many calls, and may ask for a pause.
    Throttled(Option<Duration>),
    /// It does not answer, or only that it cannot.
    Unavailable,
    /// Nothing: the call was dropped.
    Dropped,
}

/// What news changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The breaker opened: calls stop.
    Opened,
    /// The breaker closed: calls flow.
    Closed,
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Go,
    Probe,
    Wait(Duration),
}

/// The circuit breaker of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    policy: BreakerPolicy,
    /// In a row.
    failures: u32,
    in_flight: u32,
    /// When the last answer came.
    heard: Option<Instant>,
    /// The time of the slowest answer lately.
    slowest: Duration,
    /// Probes that ended without an answer, in a row.
    unanswered: u32,
    open: Option<Open>,
}

#[derive(Clone, Debug)]
struct Open {
    probing: bool,
    /// Not before.
    next_probe: Instant,
    /// The places of those who come back soon, so that one is there whenever a probe is due.
    scouts: Line,
    /// The places of all others.
    crowd: Line,
}

/// So many come back soon: one each [`SCOUT_SPACING`] within this time of the next probe.
const SCOUT_REACH: Duration = Duration::from_secs(2);

/// Between two who come back soon.
const SCOUT_SPACING: Duration = Duration::from_millis(200);

/// Between two of the others: 250 a second come back and are sent away again, whatever their number. More would cost
/// processor time all through an outage; fewer would come back later after it.
const CROWD_SPACING: Duration = Duration::from_millis(4);

/// Nobody waits longer, so beyond 75,000 more than 250 a second come back.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// An endpoint that never answered may just be slow: after so many probes the time for one doubles.
const PATIENCE: u32 = 8;

impl Breaker {
    pub(super) fn new(policy: BreakerPolicy) -> Self {
        Self { policy, failures: 0, in_flight: 0, heard: None, slowest: Duration::ZERO, unanswered: 0, open: None }
    }

    /// Whether a call may be made now, or when to ask again.
    pub(super) fn ask(&mut self, now: Instant) -> Verdict {
        let Some(open) = &mut self.open else { return Verdict::Go };
        if !open.probing && now >= open.next_probe {
            return Verdict::Probe;
        }
        let soon = open.next_probe.max(now + SCOUT_SPACING);
        let place = open
            .scouts
            .place(soon, SCOUT_SPACING, soon + SCOUT_REACH)
            .or_else(|| open.crowd.place(soon + SCOUT_REACH, CROWD_SPACING, now + LONGEST_WAIT));
        Verdict::Wait(place.map_or(LONGEST_WAIT, |place| place.saturating_duration_since(now)))
    }

    /// A call begins: a probe, or another that the breaker or a deadline lets go.
    pub(super) fn begin(&mut self, probe: bool) {
        self.in_flight = self.in_flight.saturating_add(1);
        if let Some(open) = &mut self.open {
            open.probing |= probe;
        }
    }

    /// A call that began then has ended with this news.
    pub(super) fn end(&mut self, probe: bool, began: Instant, news: News, now: Instant) -> Option<Change> {
        self.in_flight = self.in_flight.saturating_sub(1);
        match news {
            News::Answered | News::Throttled(_) => self.answered(began, now),
            News::Unavailable => self.unavailable(probe, began, now),
            News::Dropped => {
                if let Some(open) = self.open.as_mut().filter(|_| probe) {
                    open.probing = false;
                }
                None
            }
        }
    }

    /// How much longer to wait for the answer to a call that began then. None: give it up.
    pub(super) fn patience(&self, probe: bool, began: Instant, now: Instant) -> Option<Duration> {
        let limit = self.limit();
        // Any answer in between shows that the endpoint is alive and this call only slow.
        let since = if probe { began } else { self.heard.map_or(began, |heard| heard.max(began)) };
        let silent = now.saturating_duration_since(since);
        match limit.checked_sub(silent) {
            Some(left) if !left.is_zero() => Some(left),
            _ if probe || self.in_flight >= self.policy.failures => None,
            _ => Some(limit),
        }
    }

    fn answered(&mut self, began: Instant, now: Instant) -> Option<Change> {
        self.failures = 0;
        self.unanswered = 0;
        self.heard = Some(now);
        self.slowest = now.saturating_duration_since(began).max(self.slowest.mul_f64(0.9));
        self.open.take().map(|_| Change::Closed)
    }

    fn unavailable(&mut self, probe: bool, began: Instant, now: Instant) -> Option<Change> {
        self.failures = self.failures.saturating_add(1);
        let limit = self.limit();
        match &mut self.open {
            Some(open) if probe => {
                if now.saturating_duration_since(began) >= limit {
                    self.unanswered = self.unanswered.saturating_add(1);
                }
                open.probing = false;
                open.next_probe = now.max(began + self.policy.probe_interval);
                None
            }
            Some(_) => None,
            None if self.failures >= self.policy.failures => {
                let next_probe = now + self.policy.probe_interval;
                self.open = Some(Open { probing: false, next_probe, scouts: Line::default(), crowd: Line::default() });
                Some(Change::Opened)
            }
            None => None,
        }
    }

    /// The time that an answer may take: longer where answers have lately taken long.
    fn limit(&self) -> Duration {
        match self.heard {
            Some(_) => self.policy.silence.max(self.slowest * 2),
            None => self.policy.silence * 2u32.pow((self.unanswered / PATIENCE).min(6)),
        }
    }
}

impl Forgettable for Breaker {
    fn is_as_new(&mut self, _now: Instant) -> bool {
        self.failures == 0 && self.in_flight == 0 && self.open.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::*;

    const POLICY: BreakerPolicy =
        BreakerPolicy { failures: 3, probe_interval: Duration::from_secs(1), silence: Duration::from_secs(3) };

    const SECOND: Duration = Duration::from_secs(1);

    fn begin() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn call(breaker: &mut Breaker, news: News, now: Instant) -> Option<Change> {
        let probe = breaker.ask(now) == Verdict::Probe;
        breaker.begin(probe);
        breaker.end(probe, now, news, now)
    }

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(POLICY);
        assert_eq!(call(&mut breaker, News::Unavailable, now), None);
        assert_eq!(call(&mut breaker, News::Unavailable, now), None);
        assert_eq!(call(&mut breaker, News::Unavailable, now), Some(Change::Opened));
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let now = begin();
        let mut breaker = Breaker::new(POLICY);
        for news in [News::Unavailable, News::Unavailable, News::Answered, News::Unavailable, News::Throttled(None)] {
            assert_eq!(call(&mut breaker, news, now), None);
        }
        assert_eq!(breaker.ask(now), Verdict::Go);
        assert!(matches!(opened(now).ask(now), Verdict::Wait(_)));
    }

    #[test]
    fn while_open_there_is_one_probe_at_a_time_and_one_each_interval() {
        let now = begin();
        let mut breaker = opened(now);
        assert_eq!(breaker.ask(now + SECOND), Verdict::Probe);
        breaker.begin(true);
        assert!(matches!(breaker.ask(now + 2 * SECOND), Verdict::Wait(_)));
        let began = now + SECOND;
        assert_eq!(breaker.end(true, began, News::Unavailable, began + SECOND / 10), None);
        assert!(matches!(breaker.ask(began + SECOND / 2), Verdict::Wait(_)));
        assert_eq!(breaker.ask(began + SECOND), Verdict::Probe);
    }

    #[test]
    fn any_answer_closes_it_also_a_refusal_and_also_one_that_came_late() {
        let now = begin();
        assert_eq!(opened(now).end(false, now, News::Answered, now), Some(Change::Closed));
        let mut breaker = opened(now);
        assert_eq!(call(&mut breaker, News::Throttled(None), now + SECOND), Some(Change::Closed));
        assert_eq!(breaker.ask(now + SECOND), Verdict::Go);
    }

    #[test]
    fn a_dropped_probe_makes_room_for_the_next() {
        let now = begin();
        let mut breaker = opened(now);
        assert_eq!(call(&mut breaker, News::Dropped, now + SECOND), None);
        assert_eq!(breaker.ask(now + SECOND), Verdict::Probe);
    }

    #[test]
    fn a_probe_is_given_up_after_the_silence_and_the_next_follows_at_once() {
        let now = begin() + SECOND;
        let mut breaker = opened(now - SECOND);
        breaker.begin(true);
        assert_eq!(breaker.patience(true, now, now + SECOND), Some(2 * SECOND));
        assert_eq!(breaker.patience(true, now, now + 3 * SECOND), None);
        breaker.end(true, now, News::Unavailable, now + 3 * SECOND);
        assert_eq!(breaker.ask(now + 3 * SECOND), Verdict::Probe);
    }

    #[test]
    fn calls_are_given_up_when_many_are_under_way_and_nothing_is_answered() {
        let now = begin();
        let mut breaker = Breaker::new(POLICY);
        breaker.begin(false);
        breaker.begin(false);
        assert_eq!(breaker.patience(false, now, now + 4 * SECOND), Some(3 * SECOND), "two are not many");
        breaker.begin(false);
        assert_eq!(breaker.patience(false, now, now + 4 * SECOND), None);
        breaker.end(false, now, News::Answered, now + 2 * SECOND);
        breaker.begin(false);
        let left = breaker.patience(false, now, now + 4 * SECOND);
        assert_eq!(left, Some(2 * SECOND), "one was answered: alive, and answers may take twice as long as that one");
    }

    #[test]
    fn an_endpoint_that_never_answered_is_given_more_and_more_time() {
        let mut now = begin();
        let mut breaker = opened(now);
        for _ in 0..PATIENCE {
            now += 3 * SECOND;
            breaker.begin(true);
            breaker.end(true, now, News::Unavailable, now + 3 * SECOND);
        }
        assert_eq!(breaker.patience(true, now, now + 3 * SECOND), Some(3 * SECOND));
    }

    /// Many wait and ask again when they were told to: how many ask each second, and when the probes were made.
    fn outage(waiting: u32, seconds: u64) -> (Vec<u32>, Vec<Instant>, Instant) {
        let begin = begin();
        let mut breaker = opened(begin);
        let mut due: BinaryHeap<_> = (0..waiting).map(|_| std::cmp::Reverse(begin)).collect();
        let mut asked = vec![0; usize::try_from(seconds).expect("few")];
        let mut probes = Vec::new();
        while let Some(std::cmp::Reverse(now)) = due.pop() {
            let second = usize::try_from(now.duration_since(begin).as_secs()).expect("few");
            let Some(count) = asked.get_mut(second) else { break };
            *count += 1;
            match breaker.ask(now) {
                Verdict::Wait(wait) => due.push(std::cmp::Reverse(now + wait)),
                Verdict::Probe => {
                    probes.push(now);
                    breaker.begin(true);
                    breaker.end(true, now, News::Unavailable, now);
                    due.push(std::cmp::Reverse(now));
                }
                Verdict::Go => panic!("it is open"),
            }
        }
        (asked, probes, begin)
    }

    #[test]
    fn a_bounded_number_comes_back_each_second_however_many_wait() {
        for waiting in [1, 5, 100, 2_000, 20_000, 70_000] {
            let (asked, probes, _) = outage(waiting, 300);
            let most = asked[1..].iter().max().expect("some");
            assert!(*most <= 270, "{waiting} waiting: {most} in a second");
            for pair in probes.windows(2) {
                let between = pair[1] - pair[0];
                assert!(between >= SECOND && between <= 2 * SECOND, "{waiting} waiting: {between:?} between probes");
            }
            assert!(probes.len() >= 150, "{waiting} waiting: {} probes in 300 s", probes.len());
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_there_is_at_most_one_probe_and_always_another_later(
            events in prop::collection::vec((0..3000u64, 0..5u8), 1..200),
        ) {
            let mut now = begin();
            let mut breaker = opened(now);
            let mut probe = None;
            for (millis, event) in events {
                now += Duration::from_millis(millis);
                match (event, probe) {
                    (0, Some(began)) => { breaker.end(true, began, News::Unavailable, now); probe = None; }
                    (1, Some(began)) => { breaker.end(true, began, News::Dropped, now); probe = None; }
                    (2, Some(began)) if breaker.patience(true, began, now).is_none() => {
                        breaker.end(true, began, News::Unavailable, now);
                        probe = None;
                    }
                    _ => match breaker.ask(now) {
                        Verdict::Probe => {
                            prop_assert!(probe.is_none());
                            breaker.begin(true);
                            probe = Some(now);
                        }
                        Verdict::Wait(wait) => prop_assert!(!wait.is_zero() && wait <= LONGEST_WAIT),
                        Verdict::Go => prop_assert!(false, "it is open"),
                    },
                }
            }
            if let Some(began) = probe {
                breaker.end(true, began, News::Dropped, now);
            }
            prop_assert_eq!(breaker.ask(now + SECOND), Verdict::Probe);
        }
    }
}
