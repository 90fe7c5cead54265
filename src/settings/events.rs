use serde::Deserialize;

use super::checks::require;
use super::error::SettingsError;
use super::values::choice;
use crate::message::{EventFormat, EventMode};

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

/// In bytes: an event's properties have to fit into one frame, whose smallest is 4 KiB, beside the names and traces of others.
const LONGEST: usize = 200;

impl Events {
    /// Refuses values that parse but make no sense.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let fits = |text: &str| (1..=LONGEST).contains(&text.len());
        require(fits(&self.type_prefix), "events.type_prefix", "it must have from 1 to 200 bytes")?;
        require(fits(&self.source), "events.source", "it must have from 1 to 200 bytes")
    }
}

impl Events {
    /// How events are written.
    #[must_use]
    pub fn format(&self) -> EventFormat {
        EventFormat { type_prefix: self.type_prefix.clone(), source: self.source.clone(), mode: self.mode }
    }
}
