use serde::Deserialize;

use super::values::HumanDuration;
use super::worker::Settings;
use crate::pacing::{AdmissionPolicy, Backoff, BreakerPolicy, InvalidBackoff, RatePolicy};

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
    /// The intervals these settings describe.
    ///
    /// # Errors
    /// Says which number makes no sense.
    pub fn intervals(&self) -> Result<Backoff, InvalidBackoff> {
        Backoff::new(*self.initial, self.multiplier, *self.max, self.jitter)
    }
}

impl Polling {
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
    fn policy(&self, per_second: f64, burst: u32) -> Option<RatePolicy> {
        (per_second > 0.0).then(|| RatePolicy { per_second, burst: f64::from(burst), adaptive: self.adaptive })
    }
}

impl Settings {
    /// Circuit breaker and rate limits, as far as they are in force.
    #[must_use]
    pub fn admission(&self) -> AdmissionPolicy {
        let (limit, breaker) = (&self.rate_limit, &self.breaker);
        AdmissionPolicy {
            breaker: breaker.enabled.then(|| BreakerPolicy {
                failures: breaker.failures,
                probe_interval: *breaker.probe_interval,
                probe_timeout: *breaker.silence,
                retries: u32::from(self.amqp.prefetch / 2).max(1),
            }),
            endpoint: limit.policy(limit.per_second, limit.burst),
            project: limit.policy(limit.project_per_second, limit.project_burst),
        }
    }
}
