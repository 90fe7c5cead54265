//! What the worker tells of itself.
//!
//! Log output: one line for each thing that somebody may have to know, on standard error.
//!
//! A failure is logged once, where it is handled. Every answer is one line, at INFO (`log.answers`), a *failed* one at WARN;
//! and there is a summary line for each minute in which something happened. Lines are written by a thread of
//! their own: where standard error is full, closed, or read by somebody who stalls, lines are lost, and counted, and nothing
//! else happens.
//!
//! | file | subject |
//! |---|---|
//! | `logs` | [`init`], [`flush`], [`print_line`], [`report_panics`], [`set_filter`]: what is logged, and in which format |
//! | `log_writer` | the thread that writes the lines |
//! | `of_worker` | [`Telemetry`]: all that one worker tells |
//! | `meters/` | [what is counted and measured](meters) |
//! | `exposition` | [`expose`]: the text that a scrape of `/metrics` gets |
//! | `credentials` | [`token_fetched`]: how often there was a token, or none |
//! | `process` | what the system tells of the process |
//! | `summary` | [`summarize`]: the line that says once a minute what was settled |
//! | `unix_time` | when something was observed |
//! | `readiness` | [`Readiness`]: whether the worker can do its work now |

pub mod meters;

mod credentials;
mod exposition;
mod log_writer;
mod logs;
mod of_worker;
mod process;
mod readiness;
mod summary;
mod unix_time;

pub use credentials::token_fetched;
pub use exposition::{Exposition, expose};
pub use logs::{LogFormat, flush, init, print_line, report_panics, set_filter};
pub use meters::Meters;
pub use of_worker::Telemetry;
pub use process::open_files_limit;
pub use readiness::Readiness;
pub use summary::summarize;
