use super::wait_levels::WaitLevel;
use crate::cancellation::Outcome;

/// Where a message is published to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// As upstream would: to the exchange of requests.
    Request,
    /// To the exchange of events, with the routing key `operation.<outcome>`.
    Event(Outcome),
    /// Into a wait queue, from which it comes back as a follow-up.
    Wait(WaitLevel),
    /// To the dead letters.
    Dead,
}
