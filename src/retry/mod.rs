//! How long to wait between calls.

mod backoff;

pub use backoff::{Intervals, InvalidIntervals};
