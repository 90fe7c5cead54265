use lapin::ErrorKind;
use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};

use crate::broker::error::BrokerError;
use crate::broker::role::Role;

/// The broker's own refusal, by what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Access,
    NotFound,
    NotAllowed,
    Precondition,
    Locked,
    Other,
}

/// What the broker said, if it was the broker who failed the call.
pub(super) fn refusal(error: &lapin::Error) -> Option<(Refusal, &AMQPError)> {
    let ErrorKind::ProtocolError(reply) = error.kind() else { return None };
    let refusal = match reply.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Refusal::Access,
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => Refusal::NotFound,
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => Refusal::Precondition,
        AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED) => Refusal::Locked,
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => Refusal::NotAllowed,
        _ => Refusal::Other,
    };
    Some((refusal, reply))
}

/// The broker's words, or lapin's where the broker said nothing.
pub(super) fn problem(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(reply) => reply.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// A connection or channel that worked has failed.
pub(super) fn connection_lost(role: Role, error: &lapin::Error) -> BrokerError {
    BrokerError::Lost { role, problem: problem(error) }
}
