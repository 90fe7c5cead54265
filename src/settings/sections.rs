use serde::Deserialize;

use super::admin::Admin;
use super::amqp::Amqp;
use super::api::Api;
use super::error::SettingsError;
use super::events::Events;
use super::log::Log;
use super::pacing::{Breaker, Polling, RateLimit, Retry};
use super::runtime::Runtime;
use super::worker::Worker;
use crate::pacing::{AdmissionPolicy, BreakerPolicy};

/// All settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `[amqp]`
    pub amqp: Amqp,
    /// `[api]`
    pub api: Api,
    /// `[retry]`
    pub retry: Retry,
    /// `[polling]`
    pub polling: Polling,
    /// `[rate_limit]`
    pub rate_limit: RateLimit,
    /// `[breaker]`
    pub breaker: Breaker,
    /// `[worker]`
    pub worker: Worker,
    /// `[events]`
    pub events: Events,
    /// `[admin]`
    pub admin: Admin,
    /// `[log]`
    pub log: Log,
    /// `[runtime]`
    pub runtime: Runtime,
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

    /// Refuses values that parse but make no sense: one rule, one sentence, beside the section that it is about.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        self.amqp.check()?;
        self.api.check()?;
        self.retry.check()?;
        self.polling.check()?;
        self.rate_limit.check()?;
        self.breaker.check()?;
        self.worker.check()?;
        self.events.check()?;
        self.log.check()?;
        self.runtime.check()
    }
}
