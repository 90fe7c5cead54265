//! What is read from and written to queues.
//!
//! Neutral to AMQP: messages are read from an [`Envelope`] and written as an [`Outgoing`].
//!
//! | message | type | direction |
//! |---|---|---|
//! | cancel request | [`CancelRequest`], or [`Unusable`] where it cannot be read | upstream → worker |
//! | result event | [`ResultEvent`], read back as [`ReceivedEvent`] | worker → upstream |
//! | follow-up | [`FollowUp`] | worker → worker, through a wait queue |
//! | dead letter | [`DeadLetterHeaders`]: headers beside an untouched message | worker → people |
//!
//! | file | subject |
//! |---|---|
//! | `request/` | cancel requests, in every form in which they come |
//! | `event/` | result events, written and read |
//! | `follow_up` | a cancellation that waits |
//! | `dead_letter` | why a message was given up |
//! | `letter` | a dead letter read again: whose request it was, its replay, its answer |
//! | `identity` | what a request is known by |
//! | `request_key` | the two ids: of a request, and of each answer to it |
//! | `operation_name` | a name that is safe in a URL |
//! | `name_pattern` | one form of names; what a name of no such form is told |
//! | `name_patterns` | the forms that the names of a service's operations have |
//! | `cloud_event` | content types and headers of CloudEvents |
//! | `trace_context` | W3C trace context |
//! | `timestamp` | times as messages write them |
//! | `json/` | objects read field by field and written byte by byte; how deeply they are nested |
//! | `envelope` | a message as it comes and as it goes, without AMQP |
//! | `proptests` | what holds for every message |
//!
//! One rule for every JSON that is written: a field that is not known is left out, never `null`. One for every JSON that
//! is read: `null` is the same as absent, fields with other names are ignored, a field that is given twice is refused.

mod cloud_event;
mod dead_letter;
mod envelope;
mod event;
mod follow_up;
mod identity;
mod json;
mod letter;
mod name_pattern;
mod name_patterns;
mod operation_name;
#[cfg(test)]
mod proptests;
mod request;
mod request_key;
mod timestamp;
mod trace_context;

pub use cloud_event::is_read;
pub use dead_letter::{DeadLetterHeaders, DeadReason};
pub use envelope::{Envelope, Outgoing};
pub use event::{EventError, EventFormat, EventMode, ReceivedEvent, ResultData, ResultEvent, UnreadableEvent};
pub use follow_up::{Concluded, FollowUp, UnreadableFollowUp, Unwritable};
pub use identity::{Identity, IdentityKind};
pub use json::{JsonText, MAX_JSON_DEPTH, has_half_character, json_depth};
pub use letter::{Letter, LetterCause, LetterContent, MovedByBroker};
pub use name_pattern::NotAdmitted;
pub use name_patterns::{InvalidPattern, NamePatterns};
pub use operation_name::{InvalidOperationName, OperationName};
pub use request::{CancelRequest, RequestContext, Unusable};
pub use request_key::RequestKey;
