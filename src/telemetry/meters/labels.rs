use crate::cancellation::{FailureKind, Outcome, Reason, Reply};
use crate::message::DeadReason;

/// A label of a metric, with all values that it may have: no other value can be written.
pub trait Label: Copy + 'static {
    /// In the order of [`index`](Self::index).
    fn all() -> &'static [Self];

    /// As it is exposed.
    fn word(self) -> &'static str;

    /// From 0, without a gap.
    fn index(self) -> usize;
}

/// Enumerations whose values are a label's.
macro_rules! labels {
    ($($(#[$doc:meta])* $label:ident { $($(#[$value_doc:meta])* $value:ident = $word:literal,)+ })+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $label { $($(#[$value_doc])* $value,)+ }

        impl Label for $label {
            fn all() -> &'static [Self] {
                &[$(Self::$value),+]
            }

            fn word(self) -> &'static str {
                match self { $(Self::$value => $word,)+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    )+ };
}

labels! {
    /// A queue that the worker consumes.
    Consumed {
        /// Of requests.
        Requests = "requests",
        /// Of follow-ups whose wait is over.
        FollowUps = "followups",
        /// Of what was lost with sessions too often, or expired.
        Quarantine = "quarantine",
    }

    /// How a delivery left the worker's hand.
    Ended {
        /// Acknowledged: what it led to is safe.
        Acked = "acked",
        /// Left to the broker, which delivers it again.
        Lost = "lost",
    }

    /// Whether a delivery had been delivered before.
    Redelivered {
        /// The first time.
        No = "false",
        /// Again.
        Yes = "true",
    }

    /// Why a request went into a wait queue.
    DelayReason {
        /// Its operation is not done.
        Poll = "poll",
        /// A call failed, or the service asked for a pause.
        Backoff = "backoff",
        /// The rest of a longer wait.
        Remainder = "remainder",
        /// Others go first.
        RateLimited = "rate_limited",
        /// The endpoint is unavailable.
        CircuitOpen = "circuit_open",
        /// The worker stops, or the queue that it came from is gone.
        SetAside = "set_aside",
        /// The broker does not take its answer, or its dead letter.
        Unsettled = "unsettled",
        /// It comes from the quarantine.
        Quarantine = "quarantine",
        /// A newer worker wrote it.
        NewerWorker = "newer_worker",
    }

    /// A method of the Operations API.
    ApiMethod {
        /// `POST …:cancel`.
        Cancel = "cancel",
        /// `GET …`.
        Get = "get",
    }

    /// What came of a call.
    ApiReply {
        /// Of a cancel: 2xx.
        Accepted = "accepted",
        /// Of a get: 2xx and an operation.
        Operation = "operation",
        /// Of a get: 2xx and something else.
        Undecodable = "undecodable",
        /// There were no credentials, or no file descriptor.
        NotMade = "not_made",
        /// [`FailureKind::Unimplemented`].
        Unimplemented = "unimplemented",
        /// [`FailureKind::FailedPrecondition`].
        FailedPrecondition = "failed_precondition",
        /// [`FailureKind::Conflict`].
        Conflict = "conflict",
        /// [`FailureKind::Unavailable`].
        Unavailable = "unavailable",
        /// [`FailureKind::RateLimited`].
        RateLimited = "rate_limited",
        /// [`FailureKind::Unauthenticated`].
        Unauthenticated = "unauthenticated",
        /// [`FailureKind::PermissionDenied`].
        PermissionDenied = "permission_denied",
        /// [`FailureKind::ForeignProject`].
        ForeignProject = "foreign_project",
        /// [`FailureKind::NotFound`].
        NotFound = "not_found",
        /// [`FailureKind::BadEndpoint`].
        BadEndpoint = "bad_endpoint",
        /// [`FailureKind::UnknownHost`].
        UnknownHost = "unknown_host",
        /// [`FailureKind::NoEndpoint`].
        NoEndpoint = "no_endpoint",
        /// [`FailureKind::Rejected`].
        Rejected = "rejected",
    }

    /// Of a circuit breaker.
    BreakerState {
        /// Calls go.
        Closed = "closed",
        /// Calls wait.
        Open = "open",
        /// Calls wait, and one tries.
        HalfOpen = "half_open",
    }

    /// Of a session with the broker.
    SessionLabel {
        /// Takes requests and follow-ups.
        Work = "work",
        /// Takes what is in the quarantine.
        Quarantine = "quarantine",
    }

    /// What ended a session.
    SessionCause {
        /// The worker was told to stop.
        Stopped = "stopped",
        /// A connection was lost or closed.
        Connection = "connection",
        /// The broker cancelled a consumer.
        ConsumerCancelled = "consumer_cancelled",
        /// A publish was not confirmed in time.
        ConfirmTimeout = "confirm_timeout",
        /// A channel was closed.
        Channel = "channel",
        /// A task of the worker panicked.
        Panic = "panic",
        /// Anything else; the log says what.
        Other = "other",
    }

    /// Where a message is published to.
    PublishTarget {
        /// A result event.
        Event = "event",
        /// What waits.
        Wait = "wait",
        /// A dead letter.
        Dead = "dead",
    }

    /// What came of a publish.
    PublishResult {
        /// It is safe in a queue.
        Confirmed = "confirmed",
        /// No queue is bound.
        Returned = "returned",
        /// A queue is full or not available.
        Refused = "refused",
        /// It cannot be put on the wire.
        TooLarge = "too_large",
        /// The session ended first.
        Lost = "lost",
    }

    /// What came of a direct reply.
    ReplyResult {
        /// Handed to the broker.
        Sent = "sent",
        /// Not sent: too many are under way, or it was refused.
        Dropped = "dropped",
    }

    /// A queue whose depth is looked at.
    Watched {
        /// Of requests.
        Requests = "requests",
        /// Of follow-ups whose wait is over.
        FollowUps = "followups",
        /// Of what was lost with sessions too often, or expired.
        Quarantine = "quarantine",
        /// All wait queues together.
        Wait = "wait",
        /// Of events.
        Results = "results",
        /// Of dead letters.
        Dead = "dead",
    }

    /// Why the worker is not ready.
    NotReady {
        /// There is no session with the broker, or it begins.
        Session = "session",
        /// The broker blocks publishing.
        Blocked = "blocked",
        /// The broker does not take what is published, or answers wait in it.
        Unsettled = "unsettled",
        /// A queue or exchange is missing or wrong.
        Topology = "topology",
        /// The credentials are refused or cannot be had.
        Credentials = "credentials",
        /// An endpoint refuses whoever calls.
        Endpoint = "endpoint",
        /// The worker is stopping.
        Stopping = "stopping",
    }

    /// Of a log line.
    LogLevel {
        /// WARN.
        Warn = "warn",
        /// ERROR.
        Error = "error",
    }
}

impl ApiReply {
    /// Of a reply.
    #[must_use]
    pub const fn of(reply: &Reply) -> Self {
        match reply {
            Reply::Accepted => Self::Accepted,
            Reply::Operation(_) => Self::Operation,
            Reply::Undecodable { .. } => Self::Undecodable,
            Reply::NotMade(_) => Self::NotMade,
            Reply::Failure(failure) => match failure.kind {
                FailureKind::Unimplemented => Self::Unimplemented,
                FailureKind::FailedPrecondition => Self::FailedPrecondition,
                FailureKind::Conflict => Self::Conflict,
                FailureKind::Unavailable => Self::Unavailable,
                FailureKind::RateLimited => Self::RateLimited,
                FailureKind::Unauthenticated => Self::Unauthenticated,
                FailureKind::PermissionDenied => Self::PermissionDenied,
                FailureKind::ForeignProject => Self::ForeignProject,
                FailureKind::NotFound => Self::NotFound,
                FailureKind::BadEndpoint => Self::BadEndpoint,
                FailureKind::UnknownHost => Self::UnknownHost,
                FailureKind::NoEndpoint => Self::NoEndpoint,
                FailureKind::Rejected => Self::Rejected,
            },
        }
    }

    /// Whether a call of this method can have it.
    #[must_use]
    pub const fn is_of(self, method: ApiMethod) -> bool {
        match self {
            Self::Accepted => matches!(method, ApiMethod::Cancel),
            Self::Operation | Self::Undecodable => matches!(method, ApiMethod::Get),
            _ => true,
        }
    }
}

/// Of the outcome alone, as a histogram has it.
impl Label for Outcome {
    /// Any reason of *failed* stands for all.
    fn all() -> &'static [Self] {
        &[Self::Cancelled, Self::Completed, Self::Unimplemented, Self::Failed(Reason::NotCancellable)]
    }

    fn word(self) -> &'static str {
        self.as_str()
    }

    fn index(self) -> usize {
        match self {
            Self::Cancelled => 0,
            Self::Completed => 1,
            Self::Unimplemented => 2,
            Self::Failed(_) => 3,
        }
    }
}

impl Label for Reason {
    fn all() -> &'static [Self] {
        &Self::ALL
    }

    fn word(self) -> &'static str {
        self.as_str()
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl Label for DeadReason {
    fn all() -> &'static [Self] {
        &Self::ALL
    }

    fn word(self) -> &'static str {
        self.as_str()
    }

    fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts_up<L: Label>() {
        let indices: Vec<usize> = L::all().iter().map(|value| value.index()).collect();
        assert_eq!(indices, (0..L::all().len()).collect::<Vec<_>>());
    }

    #[test]
    fn the_values_of_labels_that_are_defined_elsewhere_count_up() {
        counts_up::<Outcome>();
        counts_up::<Reason>();
        counts_up::<DeadReason>();
        counts_up::<ApiReply>();
    }
}
