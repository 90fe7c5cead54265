use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Of this process: fetches that brought a token, and those that did not.
static FETCHES: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// Whether a fetch of a token brought one.
pub fn token_fetched(brought: bool) {
    FETCHES[usize::from(!brought)].fetch_add(1, Relaxed);
}

/// How many fetches brought a token, and how many did not.
pub(super) fn fetches() -> [(&'static str, u64); 2] {
    let [ok, failed] = &FETCHES;
    [("ok", ok.load(Relaxed)), ("failed", failed.load(Relaxed))]
}
