//! What the README files say is compared with the code, so that no map says one thing and the code another.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where it fails")]

mod alerts;
mod contract;
mod decision_table;
mod exit_codes;
mod links;
mod markdown;
mod metrics;
#[path = "../support/rust_source.rs"]
#[expect(dead_code, reason = "only the list of files is needed here")]
mod rust_source;
mod settings;
mod times;
mod waits;
