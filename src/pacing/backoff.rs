use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// Growing intervals: `initial`, then each `multiplier` times the one before, never more than `max`. Which of them a wait
/// takes, and that a service may ask for more, is decided in `cancellation::machine` (`back_off`, `not_done`).
///
/// The policy is the `backoff` crate's; its intervals are taken once, here, so that choosing one is a
/// pure look-up. The crate's retry loop is not used: it lets a server's wait run past its limit, has no
/// limit of attempts, and reads the real clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    delays: Vec<Duration>,
    jitter: f64,
}

/// Why intervals cannot be made of some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBackoff {
    /// A first interval of zero would be a busy loop.
    #[error("the initial interval must be at least 1ms")]
    InitialTooShort,
    /// `max` below `initial`.
    #[error("the longest interval must not be shorter than the initial one")]
    MaxBelowInitial,
    /// No wait between two calls is that long, and microseconds would overflow.
    #[error("the longest interval must be at most 1day")]
    MaxTooLong,
    /// A multiplier that shrinks, or grows so slowly that it never arrives.
    #[error("the multiplier must be from 1.1 to 10")]
    Multiplier,
    /// Jitter outside its range.
    #[error("the jitter must be from 0 to 1")]
    Jitter,
}

/// The longest interval that can be asked for.
const MAX_DELAY: Duration = Duration::from_hours(24);

impl Backoff {
    /// Backoff from `initial` to `max`. `jitter` is the share of an interval that randomness may add or take, 0 to 1.
    ///
    /// # Errors
    /// Says which of the numbers makes no sense.
    pub fn new(initial: Duration, multiplier: f64, max: Duration, jitter: f64) -> Result<Self, InvalidBackoff> {
        if initial < Duration::from_millis(1) {
            return Err(InvalidBackoff::InitialTooShort);
        }
        if max < initial {
            return Err(InvalidBackoff::MaxBelowInitial);
        }
        if max > MAX_DELAY {
            return Err(InvalidBackoff::MaxTooLong);
        }
        if !(1.1..=10.0).contains(&multiplier) {
            return Err(InvalidBackoff::Multiplier);
        }
        if !(0.0..=1.0).contains(&jitter) {
            return Err(InvalidBackoff::Jitter);
        }
        let mut policy = ExponentialBackoff {
            current_interval: initial,
            initial_interval: initial,
            randomization_factor: 0.0,
            multiplier,
            max_interval: max,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let mut delays = Vec::new();
        // Ends: each interval is at least 1.1 times the one before until `max` is reached.
        while let Some(interval) = policy.next_backoff() {
            // The crate adds up to a nanosecond of noise even without randomization.
            let interval = Duration::from_micros(u64::try_from(interval.as_nanos() / 1000).unwrap_or(u64::MAX));
            if interval >= max {
                delays.push(max);
                break;
            }
            delays.push(interval);
        }
        Ok(Self { delays, jitter })
    }

    /// The interval before this attempt, without jitter: the initial one for 0, in the end the longest.
    #[must_use]
    pub fn delay(&self, attempt: u32) -> Duration {
        let index = usize::try_from(attempt).unwrap_or(usize::MAX);
        self.delays.get(index).or(self.delays.last()).copied().unwrap_or(Duration::from_secs(1))
    }

    /// The longest interval, without jitter.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.delay(u32::MAX)
    }

    /// `interval` made longer by up to the jitter's share: never shorter than a server asked for.
    /// `jitter` is from 0 to 1.
    #[must_use]
    pub fn lengthened(&self, interval: Duration, jitter: f64) -> Duration {
        interval.mul_f64(1.0 + self.jitter * jitter.clamp(0.0, 1.0))
    }

    /// `interval` made shorter by up to half the jitter's share: pacing that never exceeds its longest interval.
    /// `jitter` is from 0 to 1.
    #[must_use]
    pub fn shortened(&self, interval: Duration, jitter: f64) -> Duration {
        interval.mul_f64(1.0 - 0.5 * self.jitter * jitter.clamp(0.0, 1.0))
    }

    /// `interval` made longer or shorter by up to the jitter's share: what began together is spread, and the mean stays.
    /// `jitter` is from 0 to 1.
    #[must_use]
    pub fn spread(&self, interval: Duration, jitter: f64) -> Duration {
        interval.mul_f64(1.0 + self.jitter * (2.0 * jitter.clamp(0.0, 1.0) - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polling() -> Backoff {
        Backoff::new(Duration::from_secs(1), 1.5, Duration::from_secs(20), 0.2).expect("valid")
    }

    #[test]
    fn intervals_grow_from_the_initial_to_the_longest_and_stay_there() {
        let seconds: Vec<f64> = (0..11).map(|n| polling().delay(n).as_secs_f64()).collect();
        let expected = [1.0, 1.5, 2.25, 3.375, 5.0625, 7.593_75, 11.390_625, 17.085_937, 20.0, 20.0, 20.0];
        for (got, want) in seconds.iter().zip(expected) {
            assert!((got - want).abs() < 1e-5, "{seconds:?}");
        }
        assert_eq!(polling().longest(), Duration::from_secs(20));
    }

    #[test]
    fn jitter_lengthens_a_retry_shortens_a_poll_and_spreads_reconnects_within_its_bounds() {
        let ten = Duration::from_secs(10);
        assert_eq!(polling().lengthened(ten, 0.0), ten);
        assert_eq!(polling().lengthened(ten, 1.0), Duration::from_secs(12));
        assert_eq!(polling().shortened(ten, 0.0), ten);
        assert_eq!(polling().shortened(ten, 1.0), Duration::from_secs(9));
        assert_eq!([0.0, 0.5, 1.0].map(|jitter| polling().spread(ten, jitter)), [8, 10, 12].map(Duration::from_secs));
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_each_with_its_reason() {
        let second = Duration::from_secs(1);
        let new = Backoff::new;
        assert_eq!(new(Duration::ZERO, 2.0, second, 0.0), Err(InvalidBackoff::InitialTooShort));
        assert_eq!(new(second, 2.0, second / 2, 0.0), Err(InvalidBackoff::MaxBelowInitial));
        assert_eq!(new(second, 2.0, Duration::MAX, 0.0), Err(InvalidBackoff::MaxTooLong));
        assert_eq!(new(second, f64::NAN, second, 0.0), Err(InvalidBackoff::Multiplier));
        assert_eq!(new(second, 1.0, second, 0.0), Err(InvalidBackoff::Multiplier));
        assert_eq!(new(second, 2.0, second, 1.5), Err(InvalidBackoff::Jitter));
    }

    #[test]
    fn one_interval_that_never_grows_is_possible() {
        let constant = Backoff::new(Duration::from_secs(2), 2.0, Duration::from_secs(2), 0.0);
        assert_eq!(constant.expect("valid").delay(7), Duration::from_secs(2));
    }
}
