use time::OffsetDateTime;

/// The wall clock, for what is shown to people and for HTTP dates. Nothing is decided by it.
#[expect(
    clippy::disallowed_methods,
    reason = "the simulator is a real-time edge, and this is its one reading of the wall clock"
)]
pub(super) fn wall_clock() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
