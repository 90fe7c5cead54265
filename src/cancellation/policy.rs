use std::time::Duration;

use crate::pacing::Backoff;

/// The limits and intervals that decisions use. Built once from the settings.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Between a transient failure and the next call.
    pub retry: Backoff,
    /// Between "not done yet" and the next get.
    pub polling: Backoff,
    /// How often a conflict (ABORTED, ALREADY_EXISTS, 499) answered to a cancel is retried.
    pub conflict_retries: u32,
    /// How long a request is refused (PERMISSION_DENIED) before that is believed: a role may have been revoked by mistake. Zero:
    /// any refusal is believed at once, also one of whatever stands where the API should.
    pub refusal_grace: Duration,
    /// How long the last call may take, at the deadline.
    pub last_call_timeout: Duration,
}
