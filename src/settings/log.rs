use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::error::{SettingsError, invalid};
use super::redact::unless_secret;
use super::values::choice;
use crate::telemetry::LogFormat;

/// `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Layout of a line.
    #[serde(deserialize_with = "choice")]
    pub format: LogFormat,
    /// As in `RUST_LOG`.
    pub filter: String,
    /// Whether each answer is a line; those that failed always are.
    pub answers: bool,
}

impl Log {
    /// Refuses values that parse but make no sense.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        EnvFilter::try_new(&self.filter)
            .map(drop)
            .map_err(|error| invalid("log.filter", unless_secret(error.to_string())))
    }
}
