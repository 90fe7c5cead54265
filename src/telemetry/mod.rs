//! What the worker tells of itself.
//!
//! Log output: one line for each thing that somebody may have to know, on standard error.
//!
//! A failure is logged once, where it is handled. What happens to every request is logged at DEBUG (a *failed* outcome
//! at WARN); at INFO there is a summary line for each minute in which something happened. Lines are written by a thread of
//! their own: where standard error is full, closed, or read by somebody who stalls, lines are lost, and counted, and nothing
//! else happens.
//!
//! | file | subject |
//! |---|---|
//! | `logs` | [`init`], [`flush`], [`print_line`], [`report_panics`]: what is logged, and in which format |
//! | `log_writer` | the thread that writes the lines |
//! | `counters` | [`Counters`]: what was settled, for the summary line |
//! | `readiness` | [`Readiness`]: whether the worker can do its work now |

mod counters;
mod log_writer;
mod logs;
mod readiness;

pub use counters::Counters;
pub use logs::{LogFormat, flush, init, print_line, report_panics};
pub use readiness::Readiness;
