use time::OffsetDateTime;

/// The wall clock, UTC.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the worker reads the wall clock; everything below takes `now`"
)]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// From 0 to 1, for jitter.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the worker rolls dice; everything below takes them as an argument"
)]
pub(super) fn dice() -> f64 {
    fastrand::f64()
}
