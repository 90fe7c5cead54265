use std::process::ExitCode;

use crate::admin::AdminError;
use crate::broker::{BrokerError, PublishError};
use crate::cancellation::Outcome;
use crate::operations_api::ClientError;
use crate::settings::SettingsError;
use crate::worker::RunError;

/// How a command ends. Documented in README.md; scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Exit {
    /// Everything went as asked; for `cancel` and `request --wait`: every operation was cancelled.
    Success = 0,
    /// Something failed that has no number of its own.
    Failure = 1,
    /// Some letters could not be dealt with; they are where they were.
    Partly = 3,
    /// At least one operation completed all the same; the others were cancelled.
    Completed = 10,
    /// At least one operation cannot be cancelled with this service.
    Unimplemented = 11,
    /// At least one outcome could not be known.
    Failed = 12,
    /// The broker cannot be reached, or refuses (EX_UNAVAILABLE).
    Broker = 69,
    /// The settings are wrong (EX_CONFIG).
    Settings = 78,
    /// A person broke it off; nothing is half done (128 + SIGINT).
    Interrupted = 130,
}

impl Exit {
    pub(super) fn code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }

    /// The number for one answer. The number for several is the largest.
    pub(super) fn of_outcome(outcome: &str) -> Self {
        match outcome {
            "cancelled" => Self::Success,
            "completed" => Self::Completed,
            "unimplemented" => Self::Unimplemented,
            _ => Self::Failed,
        }
    }

    /// The number for an error: by what caused it.
    pub(super) fn of_error(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            let setting = cause.is::<SettingsError>() || cause.is::<ClientError>() || cause.is::<AdminError>();
            if setting || cause.downcast_ref().is_some_and(is_setting) {
                return Self::Settings;
            }
            if cause.is::<BrokerError>() || cause.is::<PublishError>() || cause.is::<RunError>() {
                return Self::Broker;
            }
        }
        Self::Failure
    }
}

/// Whether the worker does not run because of a setting that only it makes use of.
fn is_setting(error: &RunError) -> bool {
    matches!(error, RunError::Backoff(_) | RunError::NoWaitLevels)
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Self {
        Self::of_outcome(outcome.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_outcome_decides() {
        let worst = ["cancelled", "failed", "completed"].map(Exit::of_outcome).into_iter().max();
        assert_eq!(worst, Some(Exit::Failed));
    }
}
