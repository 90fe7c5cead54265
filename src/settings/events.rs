use serde::Deserialize;

use super::checks::require;
use super::error::SettingsError;
use super::values::choice;
use crate::message::EventMode;

/// `[events]`: result events.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// What event types begin with.
    pub type_prefix: String,
    /// CloudEvents `source`.
    pub source: String,
    /// Content mode.
    #[serde(deserialize_with = "choice")]
    pub mode: EventMode,
}

impl Events {
    /// Refuses values that parse but make no sense.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        require(!self.type_prefix.is_empty(), "events.type_prefix", "it must not be empty")?;
        require(!self.source.is_empty(), "events.source", "it must not be empty")
    }
}
