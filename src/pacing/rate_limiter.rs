use std::time::{Duration, Instant};

use super::slot_schedule::SlotSchedule;

/// How many calls may be made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatePolicy {
    /// In the long run, more than 0.
    pub per_second: f64,
    /// At once after a pause, at least 1.
    pub burst: f64,
    /// Whether "too many requests" answers slow calls down further.
    pub adaptive: bool,
}

/// A token bucket whose rate follows the service: every second with a 429 takes 30 % of it, down to a twentieth; successes
/// give it back within half a minute (additive increase, multiplicative decrease).
///
/// In any time *t* at most `burst + per_second × t` calls go, not counting those that could not wait.
#[derive(Debug)]
pub(super) struct RateLimiter {
    policy: RatePolicy,
    /// Tokens a second at present.
    rate: f64,
    /// At most the burst; below zero after calls that could not wait.
    tokens: f64,
    /// Until when tokens were added. In the future after the service asked for a pause.
    refilled_at: Instant,
    waiters: SlotSchedule,
    decreased_at: Option<Instant>,
    raised_at: Instant,
}

/// What a second with 429s leaves of the rate.
const DECREASE_FACTOR: f64 = 0.7;

/// The rate is decreased once in this long at most.
const DECREASE_INTERVAL: Duration = Duration::from_secs(1);

/// The rate is never decreased to less than this share of the full one.
const MIN_RATE_SHARE: f64 = 0.05;

/// In which successes raise the rate from nothing to the full one.
const RECOVERY_TIME: Duration = Duration::from_secs(30);

/// One call's 429 may ask for a minute; the other calls are not paused for longer than this because of it.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A call that would wait longer asks again after at most this long, since by then the rate may be another.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// How long calls that could not wait may delay those after them.
const MAX_DEBT: Duration = Duration::from_secs(10);

/// A wait is rounded to nanoseconds, so a token may be short of whole by that much when its time has come.
const ALMOST_ONE: f64 = 1.0 - 1e-6;

impl RateLimiter {
    pub(super) fn new(policy: RatePolicy, now: Instant) -> Self {
        Self {
            policy,
            rate: policy.per_second,
            tokens: policy.burst,
            refilled_at: now,
            waiters: SlotSchedule::default(),
            decreased_at: None,
            raised_at: now,
        }
    }

    /// From now on this counts. The rate keeps its share of the full one: a service that was throttling still is.
    pub(super) fn set_policy(&mut self, policy: RatePolicy, now: Instant) {
        self.refill(now);
        self.rate *= policy.per_second / self.policy.per_second;
        if !policy.adaptive {
            self.rate = policy.per_second;
        }
        self.tokens = self.tokens.min(policy.burst);
        self.policy = policy;
    }

    /// Whether a call may go now.
    pub(super) fn is_ready(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= ALMOST_ONE && now >= self.refilled_at
    }

    /// Counts a call that goes now, if need be on credit.
    pub(super) fn take(&mut self, now: Instant) {
        self.refill(now);
        self.tokens = (self.tokens - 1.0).max(-self.rate * MAX_DEBT.as_secs_f64() - 1.0);
    }

    /// How long to wait before asking again, when a call may not go now. Each gets a slot of its own within [`MAX_WAIT`];
    /// `jitter` from 0 to 1 spreads the others.
    pub(super) fn wait(&mut self, now: Instant, jitter: f64) -> Duration {
        self.refill(now);
        let missing = Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / self.rate);
        let earliest = self.refilled_at.max(now) + missing;
        // At the full rate, even when that was decreased: a call that comes too early asks again, but a rate that rises
        // while all wait would go unused.
        let spacing = Duration::from_secs_f64(1.0 / self.policy.per_second);
        match self.waiters.reserve(earliest, spacing, now + MAX_WAIT) {
            Some(slot) => slot.saturating_duration_since(now),
            None => MAX_WAIT.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0)),
        }
    }

    /// The service says that these are too many calls, and maybe how long to pause.
    pub(super) fn throttled(&mut self, pause: Option<Duration>, now: Instant) {
        if !self.policy.adaptive {
            return;
        }
        self.refill(now);
        // The answers to calls that were under way together count once.
        if self.decreased_at.is_none_or(|at| now.saturating_duration_since(at) >= DECREASE_INTERVAL) {
            self.decreased_at = Some(now);
            self.rate = (self.rate * DECREASE_FACTOR).max(self.policy.per_second * MIN_RATE_SHARE);
        }
        self.raised_at = now;
        self.tokens = self.tokens.min(0.0);
        self.refilled_at = self.refilled_at.max(now + pause.unwrap_or_default().min(MAX_PAUSE));
    }

    /// The service took a call.
    pub(super) fn succeeded(&mut self, now: Instant) {
        if self.rate < self.policy.per_second {
            // A long silence is no proof that the full rate is welcome.
            let since = now.saturating_duration_since(self.raised_at).min(Duration::from_secs(1));
            let raise = self.policy.per_second * since.as_secs_f64() / RECOVERY_TIME.as_secs_f64();
            self.refill(now);
            self.rate = (self.rate + raise).min(self.policy.per_second);
        }
        self.raised_at = now;
    }

    fn refill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.refilled_at).as_secs_f64();
        self.tokens = (self.tokens + since * self.rate).min(self.policy.burst);
        self.refilled_at = self.refilled_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn begin() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn policy(per_second: f64, burst: f64) -> RatePolicy {
        RatePolicy { per_second, burst, adaptive: true }
    }

    /// Calls that go between two moments (seconds from the beginning), when one asks every millisecond.
    fn calls(limit: &mut RateLimiter, begin: Instant, from: u64, to: u64) -> u64 {
        let mut gone = 0;
        for millis in from * 1000..to * 1000 {
            let now = begin + Duration::from_millis(millis);
            if limit.is_ready(now) {
                limit.take(now);
                limit.succeeded(now);
                gone += 1;
            }
        }
        gone
    }

    #[test]
    fn another_rate_counts_at_once_and_keeps_what_the_service_asked_for() {
        let begin = tokio::time::Instant::now().into_std();
        let mut limit = RateLimiter::new(policy(10.0, 5.0), begin);
        limit.throttled(None, begin);
        assert!((limit.rate - 7.0).abs() < 1e-9);
        limit.set_policy(policy(100.0, 2.0), begin);
        assert!((limit.rate - 70.0).abs() < 1e-9, "{}", limit.rate);
        limit.set_policy(RatePolicy { adaptive: false, ..policy(4.0, 2.0) }, begin);
        assert!((limit.rate - 4.0).abs() < 1e-9 && limit.tokens <= 2.0);
    }

    #[test]
    fn the_burst_goes_at_once_and_then_the_rate() {
        let begin = begin();
        let mut limit = RateLimiter::new(policy(50.0, 10.0), begin);
        let at_once = (0..20)
            .filter(|_| {
                limit.is_ready(begin) && {
                    limit.take(begin);
                    true
                }
            })
            .count();
        assert_eq!(at_once, 10);
        assert_eq!(calls(&mut limit, begin, 0, 10), 499);
    }

    #[test]
    fn those_who_wait_get_a_slot_each_and_find_their_token_then() {
        let begin = begin();
        let mut limit = RateLimiter::new(policy(50.0, 1.0), begin);
        limit.take(begin);
        let waits: Vec<Duration> = (0..100).map(|_| limit.wait(begin, 0.5)).collect();
        assert_eq!(waits[0], Duration::from_millis(20));
        assert_eq!(waits[99], Duration::from_secs(2));
        for wait in waits {
            assert!(limit.is_ready(begin + wait), "at {wait:?}");
            limit.take(begin + wait);
        }
    }

    #[test]
    fn slots_reach_a_minute_and_beyond_that_all_ask_again_sooner() {
        let begin = begin();
        let mut limit = RateLimiter::new(policy(10.0, 1.0), begin);
        limit.take(begin);
        let waits: Vec<Duration> = (0..1000).map(|n| limit.wait(begin, f64::from(n % 11) / 10.0)).collect();
        assert!(waits.iter().all(|wait| *wait <= MAX_WAIT));
        assert!(waits[601..].iter().all(|wait| *wait >= MAX_WAIT / 2));
    }

    #[test]
    fn throttling_slows_down_to_a_floor_and_success_speeds_up_again() {
        let begin = begin();
        let mut limit = RateLimiter::new(policy(100.0, 1.0), begin);
        limit.throttled(None, begin);
        limit.throttled(None, begin + Duration::from_millis(500));
        assert!((limit.rate - 70.0).abs() < 1e-9, "one second, one cut: {}", limit.rate);
        for second in 1..60 {
            limit.throttled(None, begin + Duration::from_secs(second));
        }
        assert!((limit.rate - 5.0).abs() < 1e-9, "the floor: {}", limit.rate);
        assert!(calls(&mut limit, begin, 60, 61) <= 10);
        calls(&mut limit, begin, 61, 100);
        assert!((limit.rate - 100.0).abs() < 1e-9, "the full rate again: {}", limit.rate);
    }

    #[test]
    fn a_pause_that_the_service_asks_for_is_kept_by_all_but_for_five_seconds_at_most() {
        let begin = begin();
        let mut limit = RateLimiter::new(policy(100.0, 10.0), begin);
        limit.throttled(Some(Duration::from_secs(3)), begin);
        assert_eq!(calls(&mut limit, begin, 0, 3), 0);
        assert!(calls(&mut limit, begin, 3, 4) > 50);
        limit.throttled(Some(Duration::from_hours(1)), begin + Duration::from_secs(4));
        assert_eq!(calls(&mut limit, begin, 4, 9), 0);
        assert!(calls(&mut limit, begin, 9, 10) > 40);
    }

    #[test]
    fn a_fixed_limit_does_not_care_for_throttling() {
        let begin = begin();
        let mut limit = RateLimiter::new(RatePolicy { adaptive: false, ..policy(50.0, 1.0) }, begin);
        limit.throttled(Some(Duration::from_secs(3)), begin);
        assert!(calls(&mut limit, begin, 0, 1) >= 49);
    }

    #[test]
    fn calls_that_could_not_wait_are_paid_for_by_those_after_them() {
        let begin = begin();
        let mut limit = RateLimiter::new(policy(10.0, 1.0), begin);
        for _ in 0..21 {
            limit.take(begin);
        }
        assert_eq!(calls(&mut limit, begin, 0, 2), 0);
        assert_eq!(calls(&mut limit, begin, 2, 4), 19);
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Call,
        Success,
        Throttled(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![6 => Just(Event::Call), 3 => Just(Event::Success), 1 => (0..8000u64).prop_map(Event::Throttled)]
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_has_more_calls_than_burst_and_rate_allow(
            per_second in 0.1..500.0f64,
            burst in 1..100u32,
            events in prop::collection::vec((0..400u64, event()), 1..300),
        ) {
            let begin = begin();
            let mut now = begin;
            let mut limit = RateLimiter::new(policy(per_second, f64::from(burst)), begin);
            let mut gone = Vec::new();
            for (millis, event) in events {
                now += Duration::from_millis(millis);
                match event {
                    Event::Call => {
                        while limit.is_ready(now) {
                            limit.take(now);
                            gone.push(now);
                        }
                        let wait = limit.wait(now, 0.3);
                        prop_assert!(wait <= MAX_WAIT && !wait.is_zero());
                    }
                    Event::Success => limit.succeeded(now),
                    Event::Throttled(pause) => limit.throttled(Some(Duration::from_millis(pause)), now),
                }
                prop_assert!(limit.rate <= per_second && limit.rate >= per_second * MIN_RATE_SHARE);
            }
            // Of all stretches that end with a call, the one with the most calls above the rate.
            let mut least = f64::INFINITY;
            let mut count = 0.0;
            for call in gone {
                let at_rate = per_second * call.duration_since(begin).as_secs_f64();
                least = least.min(count - at_rate);
                count += 1.0;
                let excess = count - at_rate - least;
                prop_assert!(excess <= f64::from(burst) + 0.01, "{excess} calls at once, {burst} allowed");
            }
        }
    }
}
