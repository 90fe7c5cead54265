use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970, by the machine's clock, as whoever scrapes reckons. Only told: nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "only told: nothing is decided by it")]
pub(super) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
