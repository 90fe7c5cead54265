//! The commands. Each is one file; what they share is here and in `exit`.
//!
//! Errors are one sentence on standard error: what failed, on what, what to do.

mod arguments;
mod cancel;
mod check;
mod exit;
mod limits;
mod main;
mod names;
mod request;
mod run;
mod signals;
mod simulate;

pub use main::main;
