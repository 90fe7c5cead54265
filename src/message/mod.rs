//! What is read from and written to queues.
//!
//! Neutral to AMQP: messages are read from an [`Envelope`] and written as an [`Outgoing`].
//!
//! | message | type | direction |
//! |---|---|---|
//! | cancel request | [`CancelRequest`], or [`Unusable`] where it cannot be read | upstream → worker |
//! | result event | [`ResultEvent`], read back as [`ReceivedEvent`] | worker → upstream |
//! | follow-up | [`FollowUp`] | worker → worker, through a wait queue |
//! | dead letter | [`DeadLetter`]: headers beside an untouched message | worker → people |
//!
//! One rule for every JSON that is written: a field that is not known is left out, never `null`. One for every JSON that
//! is read: `null` is the same as absent, fields with other names are ignored, a field that is given twice is refused.

mod base64;
mod cancel_request;
mod cloud_event;
mod dead_letter;
mod envelope;
mod field_error;
mod fields;
mod follow_up;
mod identity;
mod json_depth;
mod json_object;
mod metadata;
mod name_patterns;
mod operation_name;
#[cfg(test)]
mod proptests;
mod received_event;
mod request_body;
mod request_reader;
mod result_event;
mod timestamp;
mod trace_context;
mod unusable;

pub use cancel_request::CancelRequest;
pub use dead_letter::{DeadLetter, DeadReason};
pub use envelope::{Envelope, Outgoing};
pub use follow_up::{FollowUp, UnreadableFollowUp, Unwritable};
pub use identity::Identity;
pub use name_patterns::{InvalidPattern, NamePatterns, NotAdmitted};
pub use operation_name::{InvalidOperationName, OperationName};
pub use received_event::{EventError, ReceivedEvent, ResultData, UnreadableEvent};
pub use result_event::{EventFormat, EventMode, ResultEvent};
pub use unusable::Unusable;
