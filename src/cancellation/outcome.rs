use serde::{Deserialize, Serialize};

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The operation is done with `error.code == 1`.
    Cancelled,
    /// The operation is done with anything else: it finished all the same.
    Completed,
    /// The service does not support cancel for this operation.
    Unimplemented,
    /// None of the three can be known.
    Failed(Reason),
}

impl Outcome {
    /// All words that [`as_str`](Self::as_str) gives.
    pub const WORDS: [&'static str; 4] = ["cancelled", "completed", "unimplemented", "failed"];

    /// The outcome of a word; *failed* takes a reason, and nothing else has one.
    #[must_use]
    pub fn of(word: &str, reason: Option<Reason>) -> Option<Self> {
        let outcomes = [Self::Cancelled, Self::Completed, Self::Unimplemented];
        match reason {
            Some(reason) => Some(Self::Failed(reason)).filter(|failed| failed.as_str() == word),
            None => outcomes.into_iter().find(|outcome| outcome.as_str() == word),
        }
    }

    /// The word in event types, routing keys and the `outcome` field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Completed => "completed",
            Self::Unimplemented => "unimplemented",
            Self::Failed(_) => "failed",
        }
    }
}

/// Why no outcome can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The service refused to cancel this operation in its present state.
    NotCancellable,
    /// The API could not be reached, or answered with errors, until the deadline.
    Unavailable,
    /// The API refused the worker's credentials until the deadline.
    Unauthenticated,
    /// The worker's account may not cancel or read this operation (or it does not exist).
    PermissionDenied,
    /// There is no such operation.
    NotFound,
    /// The configured endpoint does not serve this API, version or location.
    BadEndpoint,
    /// The API refused the call as wrong.
    Rejected,
    /// The cancel was accepted, and then the operation could no longer be found.
    OperationLost,
    /// The cancel was accepted, but the service does not support reading operations.
    OutcomeUnknown,
    /// The service answered with something that is not an operation.
    ProtocolError,
    /// The cancel was accepted, and the operation was not done by the deadline.
    DeadlineExceeded,
    /// The request itself could not be used.
    UnusableRequest,
    /// The worker's own note of a request that had to wait cannot be read, so nothing is known of the operation.
    UnreadableFollowUp,
    /// Handling the request ended session after session of the worker, so nothing is known of the operation.
    GaveUp,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::NotCancellable,
        Self::Unavailable,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::NotFound,
        Self::BadEndpoint,
        Self::Rejected,
        Self::OperationLost,
        Self::OutcomeUnknown,
        Self::ProtocolError,
        Self::DeadlineExceeded,
        Self::UnusableRequest,
        Self::UnreadableFollowUp,
        Self::GaveUp,
    ];

    /// The word in the `error.reason` field and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotCancellable => "not_cancellable",
            Self::Unavailable => "unavailable",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::BadEndpoint => "bad_endpoint",
            Self::Rejected => "rejected",
            Self::OperationLost => "operation_lost",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::ProtocolError => "protocol_error",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::UnusableRequest => "unusable_request",
            Self::UnreadableFollowUp => "unreadable_follow_up",
            Self::GaveUp => "gave_up",
        }
    }
}

/// An error as people and pipelines are told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// The number of a [`Code`](crate::google_rpc::Code), where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The code's name, such as `UNAVAILABLE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// A sentence.
    pub message: String,
}
