use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error. `filter` is as in `RUST_LOG`; one that cannot be read lets errors through. A second
/// call in one process changes nothing.
pub fn init(layout: Layout, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_default();
    let terminal = stderr().is_terminal();
    let builder = fmt().with_env_filter(filter).with_writer(stderr).with_target(false);
    // An error here says that a subscriber is installed already, which is what was wanted.
    let _ = if layout == Layout::Json || (layout == Layout::Auto && !terminal) {
        builder.json().flatten_event(true).with_current_span(false).finish().try_init()
    } else {
        builder.with_ansi(terminal).finish().try_init()
    };
}
