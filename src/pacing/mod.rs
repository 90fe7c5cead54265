//! When the next call is made: how long to wait after the last, and whether the endpoint takes one now.

mod admission;
mod backoff;
mod bounded_map;
mod call_evidence;
mod circuit_breaker;
mod key;
mod rate_limiter;
mod slot_schedule;

pub use admission::{Admission, AdmissionPolicy, AdmittedCall, Decision};
pub use backoff::{Backoff, InvalidBackoff};
pub use circuit_breaker::{BreakerPolicy, CallResult, StateChange};
pub use key::Key;
pub use rate_limiter::RatePolicy;
