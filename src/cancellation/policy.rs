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
    /// How long the last call may take, at the deadline.
    pub last_call_timeout: Duration,
}
