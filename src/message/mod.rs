//! What is read from and written to queues.

mod envelope;
mod operation_name;

pub use envelope::{Envelope, Outgoing};
pub use operation_name::{InvalidOperationName, OperationName};
