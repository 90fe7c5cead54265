//! The decisions of one cancellation: which call comes next, how long to wait, and what the answer is.
//!
//! Pure: no I/O, no clock, no randomness. [`next_step`] implements the decision table row by row; what an answer of the
//! API is, a row of that table, the client has decided before (`operations_api::classify`).
//!
//! | file | subject |
//! |---|---|
//! | `machine` | [`next_step`] and [`resume`]: the state machine; its tests, `machine_tests`, are the decision table row by row |
//! | `progress` | [`Progress`]: what has to survive a wait, a crash or a change of worker |
//! | `reply` | [`Reply`]: what a call told, as a row of the decision table |
//! | `deadline` | [`DeadlineTerms`]: what a request says of its deadline; [`Provisional`]: times by a clock that may be wrong |
//! | `outcome` | [`Outcome`], the answer, and [`Reason`], why it is *failed* |
//! | `policy` | [`Policy`]: the limits and intervals of the settings |

mod deadline;
mod machine;
mod outcome;
mod policy;
mod progress;
mod reply;

#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod proptests;

pub use deadline::{DeadlineTerms, LAST, Provisional, TrueTimes};
pub use machine::{Conclusion, Step, next_step, resume};
pub use outcome::{ErrorDetail, Outcome, Reason};
pub use policy::Policy;
pub use progress::{Calls, Phase, Progress};
pub use reply::{Failure, FailureKind, Operation, OperationStatus, Reply};
