use std::time::Duration;

use tokio::time::Instant;

use crate::broker::WaitLevel;
use crate::cancellation::Outcome;
use crate::message::{DeadLetterHeaders, DeadReason, FollowUp, Outgoing};
use crate::telemetry::meters::DelayReason;

/// What becomes of a delivery. The handler decides it, the settler does it.
#[derive(Debug)]
#[must_use]
pub(super) enum Disposition {
    /// Publish the answer.
    Finish(Box<ResultPublication>),
    /// Put it into a wait queue.
    Delay {
        /// What comes back.
        follow_up: Outgoing,
        /// After this.
        level: WaitLevel,
        /// Why it waits.
        reason: DelayReason,
    },
    /// Put it into a wait queue as it came: it is for a newer worker.
    Forward(WaitLevel),
    /// It cannot be used: keep it, with the reason, and tell upstream where that is possible.
    DeadLetter {
        /// The reason.
        headers: DeadLetterHeaders,
        /// *failed*, where an identity could be read.
        answer: Option<Box<ResultPublication>>,
    },
    /// A dead letter that had to wait: its event is published, and its headers are on it.
    Bury,
}

/// A result event on its way.
#[derive(Debug)]
pub(super) struct ResultPublication {
    pub(super) outcome: Outcome,
    pub(super) event: Outgoing,
    /// None: nothing is known of when the request was first seen.
    pub(super) times: Option<AnswerTimes>,
    /// Also to this direct reply-to, best effort.
    pub(super) reply_to: Option<String>,
    /// Keeps the request of a *failed* outcome.
    pub(super) keep: Option<DeadLetterCopy>,
    /// What waits, with the answer, where the broker does not take the event. None: the delivery as it came, of which the same
    /// answer is made again.
    pub(super) waits_as: Option<FollowUp>,
}

/// How old a request was when its answer was known.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerTimes {
    /// When it was known.
    pub(super) known: Instant,
    /// Since the request was first seen.
    pub(super) age: Duration,
    /// Since its deadline.
    pub(super) overdue: Duration,
    /// Until its deadline.
    pub(super) left: Duration,
}

impl AnswerTimes {
    /// Since the request was first seen, and since its deadline, now.
    pub(super) fn now(self) -> (Duration, Duration) {
        let since = self.known.elapsed();
        (self.age + since, (self.overdue + since).saturating_sub(self.left))
    }
}

/// How a failed request is kept in the dead queue.
#[derive(Debug)]
pub(super) enum DeadLetterCopy {
    /// The delivery as it came.
    Delivery(DeadLetterHeaders),
    /// A follow-up's request, written again as upstream would publish it.
    Rewritten(DeadReason, Outgoing),
}

impl DeadLetterCopy {
    /// Why it is kept.
    pub(super) const fn reason(&self) -> DeadReason {
        match self {
            Self::Delivery(headers) => headers.reason,
            Self::Rewritten(reason, _) => *reason,
        }
    }
}
