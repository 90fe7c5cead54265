//! What the worker tells of itself.
//!
//! Log output: one line for each thing that somebody may have to know, on standard error.
//!
//! A failure is logged once, where it is handled. What happens to every request is logged at DEBUG (a *failed* outcome
//! at WARN); at INFO there is a summary line for each minute in which something happened.
//!
//! [`Readiness`]: whether the worker can do its work now.

mod logs;
mod readiness;

pub use logs::{Layout, init};
pub use readiness::Readiness;
