use time::OffsetDateTime;
use tokio::time::Instant;

/// The wall clock, UTC. What decides takes `now` as an argument.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine's.
    System,
    /// It was `start` at `began`, and goes with tokio's clock since, which a test can pause.
    Simulated {
        /// A time of day.
        start: OffsetDateTime,
        /// When it was that.
        began: Instant,
    },
}

impl Clock {
    /// What time it is.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        match self {
            Self::System => now(),
            Self::Simulated { start, began } => *start + began.elapsed(),
        }
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
