//! When the next call is made: how long to wait after the last, and whether the endpoint takes one now.

mod backoff;
mod breaker;
mod crowd;
mod evidence;
mod gate;
mod key;
mod line;
mod rate_limit;

pub use backoff::{Intervals, InvalidIntervals};
pub use breaker::{BreakerPolicy, Change, News};
pub use gate::{Admission, Gate, GatePolicy, Ticket};
pub use key::Key;
pub use rate_limit::RatePolicy;
