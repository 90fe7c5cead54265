use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::outcome::{ErrorDetail, Reason};

/// Where one cancellation stands: all that has to survive a wait, a crash or a change of worker.
///
/// Failures and polls are counted apart: waiting is not failing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// Which call is being made, and what its answer will mean.
    #[serde(flatten)]
    pub phase: Phase,
    /// When a worker first read the request.
    #[serde(with = "time::serde::rfc3339")]
    pub first_seen: OffsetDateTime,
    /// When an answer is given whatever is known by then.
    #[serde(with = "time::serde::rfc3339")]
    pub deadline: OffsetDateTime,
    /// What is still to be waited before the next call, after the wait queue it comes from. A duration, not a time:
    /// the clocks of two workers need not agree.
    #[serde(default, rename = "wait_left_ms", with = "milliseconds", skip_serializing_if = "Duration::is_zero")]
    pub wait_left: Duration,
    /// When the service accepted the cancel.
    #[serde(with = "time::serde::rfc3339::option", default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<OffsetDateTime>,
    /// Calls made so far, for the result event.
    #[serde(default)]
    pub calls: Calls,
    /// Transient failures since the last useful answer: they choose the retry interval.
    #[serde(default)]
    pub failures: u32,
    /// The last call that was made found the endpoint unavailable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found_unavailable: bool,
    /// Conflicts answered to the cancel: their retries are limited.
    #[serde(default)]
    pub conflicts: u32,
    /// "Not done yet" answers: they choose the poll interval.
    #[serde(default)]
    pub polls: u32,
    /// NOT_FOUND answers in a row after the cancel was accepted.
    #[serde(default)]
    pub not_found: u32,
    /// Answers in a row that could not be decoded.
    #[serde(default)]
    pub undecodable: u32,
    /// The last answer was 401, or there was no token, and the call is repeated with renewed credentials.
    #[serde(default)]
    pub renewed: bool,
    /// The last failure, for the event if nothing better is learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ErrorDetail>,
    /// The operation as last seen. Not part of the serialized form: a follow-up carries it beside, bounded.
    #[serde(skip)]
    pub operation: Option<Arc<RawValue>>,
}

/// The states of a cancellation that is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// The cancel has not been accepted yet.
    Cancelling,
    /// The cancel was refused or its time is up: one get decides between the operation's own end and this failure.
    Verifying {
        /// What the answer will be unless the operation turns out to be done.
        reason: Reason,
        /// The answer that led here.
        error: ErrorDetail,
    },
    /// The cancel was accepted: get until the operation is done.
    Polling,
}

/// How often each call was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// `POST …:cancel`.
    pub cancel: u32,
    /// `GET …`.
    pub get: u32,
}

impl Phase {
    /// The words in the serialized form.
    pub const WORDS: [&'static str; 3] = ["cancelling", "verifying", "polling"];
}

impl Progress {
    /// A request that was just read.
    #[must_use]
    pub fn new(first_seen: OffsetDateTime, deadline: OffsetDateTime) -> Self {
        Self {
            phase: Phase::Cancelling,
            first_seen,
            deadline,
            wait_left: Duration::ZERO,
            accepted_at: None,
            calls: Calls::default(),
            failures: 0,
            found_unavailable: false,
            conflicts: 0,
            polls: 0,
            not_found: 0,
            undecodable: 0,
            renewed: false,
            last_error: None,
            operation: None,
        }
    }

    /// What is left until the deadline; zero when it has passed.
    #[must_use]
    pub fn time_left(&self, now: OffsetDateTime) -> Duration {
        Duration::try_from(self.deadline - now).unwrap_or_default()
    }

    /// Whether the next call repeats one that found the endpoint unavailable. It may be this operation alone that does, so
    /// a circuit breaker prefers others as probes.
    #[must_use]
    pub const fn is_retry(&self) -> bool {
        self.found_unavailable
    }
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
