use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::cancellation::Progress;
use crate::operations_api::ToldTime;

/// The wall clock, UTC. What decides takes `now` as an argument.
///
/// The machine's is read once and goes on monotonically since, so that no jump of it moves a deadline. Where it differs from
/// what the API tells ([`heard`](Self::heard)), the API's counts: all workers of a queue ask the same API, and the deadlines
/// that one of them wrote another reads.
#[derive(Clone, Debug)]
pub struct Clock {
    start: OffsetDateTime,
    began: Instant,
    told: Arc<Told>,
}

/// What the API has told so far.
#[derive(Debug, Default)]
struct Told {
    /// What is added to the machine's time, in milliseconds.
    correction: AtomicI64,
    /// Whether anything was told.
    anything: AtomicBool,
    samples: Mutex<Samples>,
}

#[derive(Debug, Default)]
struct Samples {
    /// What would have to be added to the machine's time, in milliseconds, by each of the last answers.
    offsets: VecDeque<i64>,
    last: Option<Instant>,
}

/// The median of so many counts.
const MAX_SAMPLES: usize = 15;

/// Of the answers within this, one is looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// What took longer to answer may have told the time long ago.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(2);

/// A smaller difference may be the network's, and deadlines are no finer.
const MAX_DIFFERENCE: Duration = Duration::from_secs(5);

/// A clock that is wrong by more, as of a machine that begins in 1970, is believed to be only when several answers say so.
const FAR: Duration = Duration::from_hours(24);
const MIN_FAR_SAMPLES: usize = 3;

impl Clock {
    /// The machine's, as it is now.
    #[must_use]
    pub fn system() -> Self {
        Self::starting_at(now())
    }

    /// It is `start` now, and goes with tokio's clock, which a test can pause.
    #[must_use]
    pub fn starting_at(start: OffsetDateTime) -> Self {
        Self { start, began: Instant::now(), told: Arc::default() }
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        self.at(Instant::now()).saturating_add(self.correction())
    }

    /// By how much the machine's time is corrected.
    #[must_use]
    pub fn correction(&self) -> time::Duration {
        time::Duration::milliseconds(self.told.correction.load(Relaxed))
    }

    /// The times of a progress become the true ones, if the API has told the time, so that this one is right.
    pub(super) fn confirm(&self, progress: &mut Progress) {
        if self.told.anything.load(Relaxed) {
            progress.confirm(self.correction());
        }
    }

    /// The API told the time.
    pub fn heard(&self, ToldTime { time, round_trip, arrived }: ToldTime) {
        if round_trip > MAX_ROUND_TRIP {
            return;
        }
        let mut samples = self.told.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.last.is_some_and(|last| arrived < last + SAMPLE_INTERVAL) {
            return;
        }
        samples.last = Some(arrived);
        // It was written when half of the round trip was over, and is cut to seconds.
        let later = time::Duration::milliseconds(500) + round_trip / 2;
        let offset = time.saturating_add(later) - self.at(arrived);
        let before = self.told.correction.load(Relaxed);
        let median = samples.median_with(millis(offset), before);
        if median.abs() > millis(FAR.try_into().unwrap_or_default()) && samples.offsets.len() < MIN_FAR_SAMPLES {
            return;
        }
        let bound = millis(MAX_DIFFERENCE.try_into().unwrap_or_default());
        // One that is nearly right is left as it is, and so is a correction.
        let correction = if median.abs() <= bound { 0 } else { median };
        let differs = median.abs_diff(before) > bound.unsigned_abs();
        if differs {
            self.told.correction.store(correction, Relaxed);
        }
        self.told.anything.store(true, Relaxed);
        drop(samples);
        if differs {
            report(correction);
        }
    }

    /// By the machine's clock.
    fn at(&self, instant: Instant) -> OffsetDateTime {
        self.start + instant.saturating_duration_since(self.began)
    }
}

impl Samples {
    /// Takes another one in. Of two in the middle, the one that changes less.
    fn median_with(&mut self, offset: i64, correction: i64) -> i64 {
        if self.offsets.len() == MAX_SAMPLES {
            self.offsets.pop_front();
        }
        self.offsets.push_back(offset);
        let mut sorted: Vec<i64> = self.offsets.iter().copied().collect();
        sorted.sort_unstable();
        let middle = [sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]];
        let nearest = middle.into_iter().min_by_key(|offset| offset.abs_diff(correction));
        nearest.unwrap_or(correction)
    }
}

fn millis(duration: time::Duration) -> i64 {
    i64::try_from(duration.whole_milliseconds()).unwrap_or(if duration.is_negative() {
        i64::MIN / 2
    } else {
        i64::MAX / 2
    })
}

fn report(correction: i64) {
    let seconds = correction.unsigned_abs() / 1000;
    if correction == 0 {
        info!("this machine's clock agrees with the API's again");
    } else {
        let wrong = if correction < 0 { "ahead of" } else { "behind" };
        warn!(
            "this machine's clock is {seconds} s {wrong} the API's, by which deadlines go from now on: set the clock"
        );
    }
}

/// The machine's wall clock, UTC.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the edge where the worker and the commands read the wall clock")]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// From 0 to 1, for jitter. A thread that has called `fastrand::seed` gets the same again.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the edge where the worker draws random numbers; what decides by them takes them as an argument"
)]
pub(super) fn jitter() -> f64 {
    fastrand::f64()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const TRUE_START: OffsetDateTime = datetime!(2026-01-31 12:00 UTC);

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A clock that is wrong by so many seconds, and the true time since it began.
    struct Machine {
        clock: Clock,
        began: Instant,
    }

    impl Machine {
        fn wrong_by(error: i64) -> Self {
            let clock = Clock::starting_at(TRUE_START + time::Duration::seconds(error));
            Self { clock, began: Instant::now() }
        }

        /// A second later the API tells a time that is wrong by so many seconds.
        async fn hears(&self, error: i64) {
            tokio::time::sleep(seconds(1)).await;
            let time = TRUE_START + self.began.elapsed() + time::Duration::seconds(error);
            let time = time.replace_nanosecond(0).expect("whole seconds");
            self.clock.heard(ToldTime { time, round_trip: Duration::ZERO, arrived: Instant::now() });
        }

        /// How wrong the clock is, in whole seconds.
        fn error(&self) -> i64 {
            (self.clock.now() - TRUE_START - self.began.elapsed()).whole_seconds()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_corrects_a_wrong_clock_and_leaves_alone_what_is_nearly_right() {
        for (error, after) in [(600, 0), (-7200, 0), (6, 0), (-6, 0), (4, 4), (-4, -4), (0, 0)] {
            let machine = Machine::wrong_by(error);
            assert_eq!(machine.error(), error);
            machine.hears(0).await;
            assert_eq!(machine.error(), after, "wrong by {error} s before");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_api_that_tells_a_wrong_time_now_and_then_is_outvoted() {
        let machine = Machine::wrong_by(0);
        machine.hears(0).await;
        for number in 0..100 {
            machine.hears(if number % 3 == 0 { 3600 } else { 0 }).await;
            assert!(machine.error().abs() <= 1, "after {number}");
        }
        let machine = Machine::wrong_by(0);
        machine.hears(-3600).await;
        assert!((machine.error() + 3600).abs() <= 1, "there is nothing else to go by");
        machine.hears(0).await;
        machine.hears(0).await;
        assert!(machine.error().abs() <= 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_is_days_away_is_believed_when_three_answers_have_told_it() {
        let machine = Machine::wrong_by(-1_700_000_000);
        for after in [-1_700_000_000, -1_700_000_000, 0] {
            machine.hears(0).await;
            assert!((machine.error() - after).abs() <= 1, "{}", machine.error());
        }
        let last = crate::cancellation::LAST;
        let clock = Clock::starting_at(TRUE_START);
        for second in 1..=4 {
            let arrived = Instant::now() + seconds(second);
            clock.heard(ToldTime { time: last, round_trip: seconds(2), arrived });
        }
        assert_eq!(clock.now().year(), 9999, "whatever it says");
    }

    #[tokio::test(start_paused = true)]
    async fn what_took_long_to_answer_is_not_looked_at_and_neither_are_many_answers_in_a_second() {
        let clock = Clock::starting_at(TRUE_START);
        let told = |round_trip| ToldTime { time: TRUE_START + seconds(3600), round_trip, arrived: Instant::now() };
        clock.heard(told(seconds(3)));
        assert_eq!(clock.now(), TRUE_START);
        clock.heard(ToldTime { time: TRUE_START, ..told(seconds(1)) });
        for _ in 0..100 {
            clock.heard(told(seconds(1)));
        }
        assert_eq!(clock.now(), TRUE_START);
    }
}
