use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use super::checks::{hours, millis, within};
use super::error::SettingsError;
use super::values::HumanDuration;

/// Places beyond those that deliveries of two full prefetches could take are of no use.
const MAX_INLINE_SLOTS: usize = 2 * u16::MAX as usize;

/// `[worker]`: how deliveries are handled.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// Longest total wait for which a delivery is held.
    pub inline_wait: HumanDuration,
    /// Deliveries held for waits at once.
    pub inline_slots: usize,
    /// Deadline of requests that set none, from when they are first seen.
    pub default_timeout: HumanDuration,
    /// The latest deadline of any request, from when it is first seen.
    pub max_timeout: HumanDuration,
    /// From SIGTERM to the end.
    pub shutdown_grace: HumanDuration,
    /// Longest request body.
    pub request_limit: ByteSize,
    /// Whether failed requests are kept in the dead queue.
    pub keep_failed: bool,
}

impl Worker {
    /// Refuses values that parse but make no sense.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        // A delivery that is held for 30m makes the broker close the channel.
        within("worker.inline_wait", self.inline_wait, millis(0)..=millis(600_000))?;
        within("worker.inline_slots", self.inline_slots, 0..=MAX_INLINE_SLOTS)?;
        let year = HumanDuration(Duration::from_secs(31_557_600));
        within("worker.max_timeout", self.max_timeout, millis(1)..=year)?;
        within("worker.default_timeout", self.default_timeout, millis(1)..=self.max_timeout)?;
        within("worker.shutdown_grace", self.shutdown_grace, millis(0)..=hours(24))?;
        // RabbitMQ takes no larger message, whatever its settings.
        within("worker.request_limit", self.request_limit, ByteSize::kib(1)..=ByteSize::mib(512))
    }

    /// Longest request body, in bytes.
    #[must_use]
    pub fn request_limit(&self) -> usize {
        usize::try_from(self.request_limit.as_u64()).unwrap_or(usize::MAX)
    }
}
