//! The decisions of one cancellation: which call comes next, how long to wait, and what the answer is.
//!
//! Pure: no I/O, no clock, no randomness. [`next_step`] implements the decision table row by row.
//!
//! | file | subject |
//! |---|---|
//! | `machine` | what to do after each answer |
//! | `progress` | where a cancellation stands |
//! | `reply` | what a call was answered |
//! | `outcome` | the four outcomes, and the reasons of *failed* |
//! | `policy` | the intervals of retries and polls |

mod machine;
mod outcome;
mod policy;
mod progress;
mod reply;

#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod proptests;

pub use machine::{Conclusion, Step, next_step, resume};
pub use outcome::{ErrorDetail, Outcome, Reason};
pub use policy::Policy;
pub use progress::{Calls, Phase, Progress};
pub use reply::{Failure, FailureKind, Operation, OperationStatus, Reply};
