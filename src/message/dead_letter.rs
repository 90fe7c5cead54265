use time::OffsetDateTime;

use super::identity::{Identity, MAX_SHORT_STRING};
use super::json::cut;
use super::timestamp;

/// Longest `cancel-worker-detail`, in bytes: headers have to fit one frame.
const MAX_DETAIL: usize = 1024;

/// Why a message was put into the dead queue. Put beside the original body and properties, as headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterHeaders {
    /// What happened, in one word.
    pub reason: DeadReason,
    /// What happened, in a sentence.
    pub detail: String,
    /// What the request is known by, if that could be read.
    pub identity: Option<Identity>,
    /// How often the request was published again after it had failed.
    pub replay: u32,
    /// When.
    pub time: OffsetDateTime,
    /// Which worker did it.
    pub worker: String,
}

/// What puts a message into the dead queue, but for the delivery limit of the quarantine, which adds no headers of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// The request cannot be read.
    UnusableRequest,
    /// The follow-up cannot be read: written by a newer version, or not by a worker.
    UnreadableFollowUp,
    /// The answer was *failed*: the request is kept for replay.
    Failed,
    /// Handling it ended session after session: it was answered *failed*, and nothing is known of its operation.
    GaveUp,
}

impl DeadReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::UnusableRequest, Self::UnreadableFollowUp, Self::Failed, Self::GaveUp];

    /// The word in the header and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnusableRequest => "unusable_request",
            Self::UnreadableFollowUp => "unreadable_follow_up",
            Self::Failed => "failed",
            Self::GaveUp => "gave_up",
        }
    }

    /// The reason with this word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

impl DeadLetterHeaders {
    /// Header: the word of [`DeadReason`].
    pub const REASON: &'static str = "cancel-worker-reason";
    /// Header: a sentence of at most 1 KiB.
    pub const DETAIL: &'static str = "cancel-worker-detail";
    /// Header: RFC 3339, UTC, with milliseconds.
    pub const TIME: &'static str = "cancel-worker-time";
    /// Header: the worker's name, at most 255 bytes.
    pub const WORKER: &'static str = "cancel-worker-worker";
    /// Header: the request's identity; absent where it is not known.
    pub const IDENTITY: &'static str = "cancel-worker-identity";
    /// Header: the word of the identity's [`IdentityKind`](super::IdentityKind); absent where it is not known.
    pub const IDENTITY_KIND: &'static str = "cancel-worker-identity-kind";
    /// Header: a number, how often the request was replayed before. A request that has it is one more replay.
    pub const REPLAY: &'static str = "cancel-worker-replay";
    /// Header: the `user_id` of who published the request, where it had one. No publish of ours can have it as a property.
    pub const USER_ID: &'static str = "cancel-worker-user-id";

    /// The headers to be added to the message.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        let headers = [
            (Self::REASON, Some(self.reason.as_str())),
            (Self::DETAIL, Some(cut(&self.detail, MAX_DETAIL))),
            (Self::TIME, Some(&*timestamp::millis(self.time))),
            (Self::WORKER, Some(cut(&self.worker, MAX_SHORT_STRING))),
            (Self::IDENTITY, self.identity.as_ref().map(Identity::as_str)),
            (Self::IDENTITY_KIND, self.identity.as_ref().map(|identity| identity.kind().as_str())),
            (Self::REPLAY, Some(&*self.replay.to_string())),
        ];
        headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect()
    }
}
