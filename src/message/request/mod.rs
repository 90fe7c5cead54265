//! Cancel requests, in every form in which they come.
//!
//! | file | what |
//! |---|---|
//! | `cancel_request` | a request that was understood: its deadline, its JSON form |
//! | `unusable` | a request that was not: why, and what could be read of it |
//! | `request_reader` | reads either from a message: plain text, JSON, CloudEvents |
//! | `request_body` | the JSON object of a request, field by field |
//! | `event_attributes` | what a request's CloudEvent says beside it |
//! | `metadata` | what the message says beside its body |

mod cancel_request;
mod event_attributes;
mod metadata;
mod request_body;
mod request_reader;
mod unusable;

pub use cancel_request::CancelRequest;
pub(super) use metadata::Metadata;
pub(super) use request_body::RequestBody;
pub use unusable::Unusable;
