use std::io::Write as _;

use anyhow::Context as _;

/// Prints on standard output, at once.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("failed to print")
}
