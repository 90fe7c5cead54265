use super::error::BrokerError;

/// Why a message is not known to be safe.
///
/// [`TooLarge`](Self::TooLarge) and [`NoReplyAddress`](Self::NoReplyAddress) are permanent: trying again is in vain. The
/// others are transient.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Transient: no queue takes it until one is bound; the broker returned it.
    #[error("no queue is bound to exchange {exchange:?} for routing key {routing_key:?} ({reason}): bind one")]
    Unroutable {
        /// Where it was published to; empty is the default exchange.
        exchange: String,
        /// With which routing key.
        routing_key: String,
        /// Code and text of the broker.
        reason: String,
    },
    /// Transient: a queue refused it, for it is full, or could not be written.
    #[error(
        "the broker refused the message for exchange {exchange:?}, routing key {routing_key:?}: a queue behind it is full or not available"
    )]
    Refused {
        /// Where it was published to; empty is the default exchange.
        exchange: String,
        /// With which routing key.
        routing_key: String,
    },
    /// Permanent: it cannot be put on the wire.
    #[error("the message's {what} takes {size} bytes, and at most {limit} can be sent")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// In bytes.
        size: usize,
        /// In bytes.
        limit: usize,
    },
    /// Permanent: a reply to anything but a direct reply-to address.
    #[error("a reply goes to direct reply-to addresses only (amq.rabbitmq.reply-to.*)")]
    NoReplyAddress,
    /// Transient: a direct reply could not be sent. The session goes on, for replies are best effort, on a connection of their own.
    #[error("the reply was not sent: {0}")]
    ReplyLost(#[source] BrokerError),
    /// Transient: so many direct replies are under way that this one is dropped.
    #[error("{limit} direct replies are under way already, and this one was dropped")]
    TooManyReplies {
        /// At most so many.
        limit: usize,
    },
    /// Transient: the session ended first. Whether the message arrived is not known; the next session may publish it again.
    #[error("the session ended before the message was confirmed: {0}")]
    SessionOver(BrokerError),
}
