use serde::Deserialize;

use super::checks::within;
use super::error::SettingsError;

/// `[runtime]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Threads that run tasks.
    pub threads: usize,
}

impl Runtime {
    /// Refuses values that parse but make no sense.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        within("runtime.threads", self.threads, 1..=64)
    }
}
