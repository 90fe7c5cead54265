//! Cancel requests, in every form in which they come.
//!
//! | file | subject |
//! |---|---|
//! | `request_context` | what goes with the answer to any request |
//! | `cancel_request` | a request that was understood: its deadline, its JSON form |
//! | `unusable` | a request that was not: why, and what could be read of it |
//! | `request_reader` | reads either from a message: plain text, JSON, CloudEvents |
//! | `request_body` | the JSON object of a request, field by field |
//! | `event_attributes` | what a request's CloudEvent says beside it |

mod cancel_request;
mod event_attributes;
mod request_body;
mod request_context;
mod request_reader;
mod unusable;

pub use cancel_request::CancelRequest;
pub(super) use request_body::RequestBody;
pub use request_context::RequestContext;
pub use unusable::Unusable;
