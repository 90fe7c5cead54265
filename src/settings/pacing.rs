use serde::Deserialize;

use super::checks::{intervals, millis, within};
use super::error::{SettingsError, invalid};
use super::values::HumanDuration;
use crate::pacing::{Backoff, InvalidBackoff, RatePolicy};

/// `[retry]`: after transient failures.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// First wait.
    pub initial: HumanDuration,
    /// Growth from wait to wait.
    pub multiplier: f64,
    /// Longest wait.
    pub max: HumanDuration,
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
    pub initial: HumanDuration,
    /// Growth from wait to wait.
    pub multiplier: f64,
    /// Longest wait.
    pub max: HumanDuration,
    /// Share by half of which a wait is shortened at random.
    pub jitter: f64,
}

impl Retry {
    /// Refuses values that parse but make no sense.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let lengths = [("retry.initial", self.initial), ("retry.max", self.max)];
        let shape = [("retry.multiplier", self.multiplier), ("retry.jitter", self.jitter)];
        intervals(self.intervals(), lengths, shape)
    }

    /// The intervals these settings describe.
    ///
    /// # Errors
    /// Says which number makes no sense.
    pub fn intervals(&self) -> Result<Backoff, InvalidBackoff> {
        Backoff::new(*self.initial, self.multiplier, *self.max, self.jitter)
    }
}

impl Polling {
    /// Refuses values that parse but make no sense.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let lengths = [("polling.initial", self.initial), ("polling.max", self.max)];
        let shape = [("polling.multiplier", self.multiplier), ("polling.jitter", self.jitter)];
        intervals(self.intervals(), lengths, shape)
    }

    /// The intervals these settings describe.
    ///
    /// # Errors
    /// Says which number makes no sense.
    pub fn intervals(&self) -> Result<Backoff, InvalidBackoff> {
        Backoff::new(*self.initial, self.multiplier, *self.max, self.jitter)
    }
}

/// `[rate_limit]`: how many calls this process makes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Calls a second to each endpoint; 0 is no limit.
    pub per_second: f64,
    /// Calls to an endpoint at once after a pause.
    pub burst: u32,
    /// Calls a second for each project; 0 is no limit.
    pub project_per_second: f64,
    /// Calls for a project at once after a pause.
    pub project_burst: u32,
    /// Whether "too many requests" answers slow calls down further.
    pub adaptive: bool,
}

/// `[breaker]`: when an endpoint is unavailable.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    /// Whether there is one for each endpoint.
    pub enabled: bool,
    /// Different operations in a row whose calls must fail for it to open.
    pub failures: u32,
    /// From the beginning of one probe to that of the next.
    pub probe_interval: HumanDuration,
    /// How long an endpoint may answer nobody.
    pub silence: HumanDuration,
}

impl RateLimit {
    /// Refuses values that parse but make no sense.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        for (setting, rate) in
            [("rate_limit.per_second", self.per_second), ("rate_limit.project_per_second", self.project_per_second)]
        {
            let sensible = rate == 0.0 || (0.01..=100_000.0).contains(&rate);
            let problem = || format!("it is {rate}, and must be from 0.01 to 100000 calls a second, or 0 for no limit");
            if !sensible {
                return Err(invalid(setting, problem()));
            }
        }
        within("rate_limit.burst", self.burst, 1..=u32::MAX)?;
        within("rate_limit.project_burst", self.project_burst, 1..=u32::MAX)
    }

    /// One rate of these, as far as it is in force.
    pub(super) fn policy(&self, per_second: f64, burst: u32) -> Option<RatePolicy> {
        (per_second > 0.0).then(|| RatePolicy { per_second, burst: f64::from(burst), adaptive: self.adaptive })
    }
}

impl Breaker {
    /// Refuses values that parse but make no sense.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        // Each is remembered while nothing is answered.
        within("breaker.failures", self.failures, 1..=1000)?;
        let five_minutes = millis(300_000);
        within("breaker.probe_interval", self.probe_interval, millis(100)..=five_minutes)?;
        within("breaker.silence", self.silence, millis(100)..=five_minutes)
    }
}
