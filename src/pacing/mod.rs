//! When the next call is made: how long to wait after the last, and whether the endpoint takes one now.
//!
//! | file | subject |
//! |---|---|
//! | `backoff` | the growing intervals between the calls for one operation |
//! | `admission` | whether a call goes now: asks breaker and rate limits, and passes them its result |
//! | `circuit_breaker` | stops the calls to an endpoint that is unavailable, and probes it: closed, open, half-open |
//! | `call_evidence` | whether it is the endpoint that is unavailable, or only some operations |
//! | `rate_limiter` | how many calls a second go, fewer after a 429 |
//! | `slot_schedule` | when those who wait ask again, one after the other |
//! | `refusals` | whose fault a refusal is: the worker's, whom an endpoint refuses altogether, or a project's |
//! | `bounded_map` | what is known of endpoints and projects; the least recently used is forgotten |
//! | `key` | their names as numbers |
//! | `circuit_breaker_tests` | tests of `circuit_breaker` |

mod admission;
mod backoff;
mod bounded_map;
mod call_evidence;
mod circuit_breaker;
#[cfg(test)]
mod circuit_breaker_tests;
mod key;
mod rate_limiter;
mod refusals;
mod slot_schedule;

pub use admission::{Admission, AdmissionPolicy, AdmittedCall, BreakerCounts, Decision};
pub use backoff::{Backoff, InvalidBackoff};
pub use circuit_breaker::{BreakerPolicy, CallResult, StateChange};
pub use key::Key;
pub use rate_limiter::RatePolicy;
pub use refusals::{Answer, CallTarget, RefusalChange, Refusals};
