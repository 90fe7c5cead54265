//! What the checks of all sections are made of. What is accepted can be added to any clock and multiplied by what the
//! worker multiplies it by.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::{SettingsError, invalid};
use super::values::HumanDuration;
use crate::pacing::{Backoff, InvalidBackoff};

/// Refuses what does not hold, with one sentence: what is wrong and what would be right.
pub(super) fn require(holds: bool, setting: &'static str, problem: &str) -> Result<(), SettingsError> {
    if holds { Ok(()) } else { Err(invalid(setting, problem)) }
}

/// Refuses a value outside of a range, and says which it is.
pub(super) fn within<T: PartialOrd + Display>(
    setting: impl Into<String>,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), SettingsError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(invalid(setting, format!("it is {value}, and must be from {} to {}", range.start(), range.end())))
}

/// So many milliseconds.
pub(super) const fn millis(millis: u64) -> HumanDuration {
    HumanDuration(Duration::from_millis(millis))
}

/// So many hours.
pub(super) const fn hours(hours: u64) -> HumanDuration {
    HumanDuration(Duration::from_hours(hours))
}

/// The settings that intervals are made of, each with its name: initial and longest, multiplier and jitter.
pub(super) fn intervals(
    made: Result<Backoff, InvalidBackoff>,
    [initial, max]: [(&str, HumanDuration); 2],
    [multiplier, jitter]: [(&str, f64); 2],
) -> Result<(), SettingsError> {
    let Err(error) = made else { return Ok(()) };
    let (setting, value) = match error {
        InvalidBackoff::InitialTooShort => (initial.0, initial.1.to_string()),
        InvalidBackoff::MaxTooLong => (max.0, max.1.to_string()),
        InvalidBackoff::MaxBelowInitial => (max.0, format!("{}, and {} is {}", max.1, initial.0, initial.1)),
        InvalidBackoff::Multiplier => (multiplier.0, multiplier.1.to_string()),
        InvalidBackoff::Jitter => (jitter.0, jitter.1.to_string()),
    };
    Err(invalid(setting, format!("it is {value}: {error}")))
}
