use serde::Deserialize;

use super::values::Span;
use crate::retry::{Intervals, InvalidIntervals};

/// `[retry]`: after transient failures.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// First wait.
    pub initial: Span,
    /// Growth from wait to wait.
    pub multiplier: f64,
    /// Longest wait.
    pub max: Span,
    /// Share by which a wait is lengthened at random.
    pub jitter: f64,
    /// Retries of a conflict.
    pub conflict_retries: u32,
}

/// `[polling]`: while an operation is not done.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Polling {
    /// First wait.
    pub initial: Span,
    /// Growth from wait to wait.
    pub multiplier: f64,
    /// Longest wait.
    pub max: Span,
    /// Share by half of which a wait is shortened at random.
    pub jitter: f64,
}

impl Retry {
    /// The intervals these settings describe.
    ///
    /// # Errors
    /// Says which number makes no sense.
    pub fn intervals(&self) -> Result<Intervals, InvalidIntervals> {
        Intervals::new(*self.initial, self.multiplier, *self.max, self.jitter)
    }
}

impl Polling {
    /// The intervals these settings describe.
    ///
    /// # Errors
    /// Says which number makes no sense.
    pub fn intervals(&self) -> Result<Intervals, InvalidIntervals> {
        Intervals::new(*self.initial, self.multiplier, *self.max, self.jitter)
    }
}
