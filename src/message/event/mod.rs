//! Result events: the one answer to each request.
//!
//! | file | subject |
//! |---|---|
//! | `result_event` | the answer, and how it is written |
//! | `received_event` | the answer as its consumers read it |

mod received_event;
mod result_event;

pub use received_event::{EventError, ReceivedEvent, ResultData, UnreadableEvent};
pub use result_event::{EventFormat, EventMode, ResultEvent};
