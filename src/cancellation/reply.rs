use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::outcome::ErrorDetail;

/// What one call of the Operations API told, classified once, at the client.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A cancel was answered with 2xx, whatever the body: the service took it. Best effort, so not yet an outcome.
    Accepted,
    /// A get was answered with 2xx and an operation.
    Operation(Operation),
    /// A get was answered with 2xx and something that is no operation, or is larger than the response limit.
    Undecodable {
        /// What was wrong with it, for the person who reads the event.
        detail: String,
    },
    /// Anything else: an error answer, a redirect, no answer at all.
    Failure(Failure),
    /// The call was never made: there is no token, or the system gives no file descriptor. To be repeated like any other
    /// failure of its kind, but it says nothing of the service.
    NotMade(Failure),
}

impl Reply {
    /// How many calls it stands for.
    pub(super) const fn calls(&self) -> u32 {
        match self {
            Self::Accepted | Self::Operation(_) | Self::Undecodable { .. } | Self::Failure(_) => 1,
            Self::NotMade(_) => 0,
        }
    }

    /// Whether the call found the service unavailable. None: it was not made.
    pub(super) const fn found_unavailable(&self) -> Option<bool> {
        match self {
            Self::NotMade(_) => None,
            Self::Failure(failure) => Some(failure.kind.is_unavailable()),
            Self::Accepted | Self::Operation(_) | Self::Undecodable { .. } => Some(false),
        }
    }

    /// Whether the service is unavailable and does not itself say for how long.
    pub(super) const fn is_outage(&self) -> bool {
        matches!(self, Self::Failure(Failure { kind, retry_after: None, .. }) if kind.is_unavailable())
    }
}

/// A `google.longrunning.Operation`, as far as decisions need it.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Absent in the JSON means false (proto3 leaves out default values).
    pub done: bool,
    /// The operation's own error, if it has one. `error: {}` is an error with code 0.
    pub error: Option<OperationStatus>,
    /// The whole resource as the service sent it, for the result event.
    pub resource: Arc<RawValue>,
}

/// A `google.rpc.Status` inside an operation. Its `code` is a google.rpc code, never an HTTP status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationStatus {
    /// google.rpc.Code; 1 is CANCELLED.
    pub code: i32,
    /// The service's words.
    pub message: String,
}

/// An answer that is not a success.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What the decision table makes of it.
    pub kind: FailureKind,
    /// What is told to people.
    pub error: ErrorDetail,
    /// RetryInfo or Retry-After, the longer of the two: the next call waits at least this.
    pub retry_after: Option<Duration>,
}

/// The rows of the decision table that are not successes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// UNIMPLEMENTED, or a bare 501.
    Unimplemented,
    /// FAILED_PRECONDITION.
    FailedPrecondition,
    /// ABORTED, ALREADY_EXISTS, or 499 on the call itself.
    Conflict,
    /// UNAVAILABLE, INTERNAL, UNKNOWN, DEADLINE_EXCEEDED, DATA_LOSS, other 5xx, 408, an I/O error, a time-out.
    Unavailable,
    /// RESOURCE_EXHAUSTED, 429, or 403 with RATE_LIMIT_EXCEEDED.
    RateLimited,
    /// UNAUTHENTICATED, 401, or credentials that could not be read: the worker's own fault.
    Unauthenticated,
    /// PERMISSION_DENIED or another 403: the worker's own fault, if its role was revoked.
    PermissionDenied,
    /// The same for a project for which no call has worked yet, by an endpoint that works for others: the request's fault.
    ForeignProject,
    /// NOT_FOUND in an error envelope.
    NotFound,
    /// 404 or 405 without an envelope, or a redirect: something stands where the API should.
    BadEndpoint,
    /// The endpoint's host name does not exist.
    UnknownHost,
    /// No endpoint is known for the operation's location, or the one that is called serves others.
    NoEndpoint,
    /// Any other 4xx.
    Rejected,
}

impl FailureKind {
    /// Whether the endpoint does not serve anybody now, whatever the reason: calls to it wait for its circuit breaker.
    #[must_use]
    pub const fn is_unavailable(self) -> bool {
        matches!(self, Self::Unavailable | Self::BadEndpoint | Self::UnknownHost)
    }
}
