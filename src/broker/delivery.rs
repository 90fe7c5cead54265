use std::fmt;

use lapin::options::{BasicAckOptions, BasicNackOptions};

use super::content::{Content, number};
use super::{BrokerError, Confirmed, Role, SessionEnd};
use crate::message::Envelope;

/// How often the broker has delivered the message before; kept by quorum queues.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// Which of the two queues a delivery comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Requests, from upstream.
    Requests,
    /// Follow-ups, back from a wait queue.
    Followups,
}

impl Source {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Requests, Self::Followups];

    /// The word in labels and consumer tags.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Followups => "followups",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A message that waits for its answer: [`ack`](Self::ack) or [`requeue`](Self::requeue). Dropped without one, it
/// stays with this session, and the broker delivers it again when the session ends.
#[derive(Debug)]
#[must_use = "a delivery without an answer is held until the session ends"]
pub struct Delivery {
    content: Content,
    source: Source,
    redelivered: bool,
    acker: lapin::Acker,
    over: SessionEnd,
}

impl Delivery {
    pub(super) fn new(delivery: lapin::message::Delivery, source: Source, over: SessionEnd) -> Self {
        let lapin::message::Delivery { redelivered, properties, data, acker, .. } = delivery;
        Self { content: Content::new(data, properties), source, redelivered, acker, over }
    }

    /// Where it comes from.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// How often it has been delivered before: as often as a quorum queue counts, once where the queue does not count.
    #[must_use]
    pub fn redeliveries(&self) -> u32 {
        // Whoever published it can have put a count there; the flag is the broker's alone.
        if !self.redelivered {
            return 0;
        }
        let count =
            self.content.headers().find(|(name, _)| *name == DELIVERY_COUNT).and_then(|(_, value)| number(value));
        count.map_or(1, |count| u32::try_from(count).unwrap_or(u32::MAX).max(1))
    }

    /// Body and properties.
    #[must_use]
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// Body and properties as formats read them.
    #[must_use]
    pub fn envelope(&self) -> Envelope<'_> {
        self.content.envelope()
    }

    /// Tells the broker to forget the message, for what it led to is safe: the proof says so.
    ///
    /// # Errors
    /// It could not be told; the message will be delivered again.
    pub async fn ack(self, proof: Confirmed) -> Result<(), BrokerError> {
        let Confirmed { .. } = proof;
        self.answered(self.acker.ack(BasicAckOptions::default()).await)
    }

    /// Gives the message back, to be delivered again, to whomever. It counts as a redelivery.
    ///
    /// # Errors
    /// It could not be given back; it will be delivered again all the same.
    pub async fn requeue(self) -> Result<(), BrokerError> {
        let options = BasicNackOptions { requeue: true, multiple: false };
        self.answered(self.acker.nack(options).await)
    }

    /// `Ok(false)` means that nothing was sent: the channel that brought the message is gone.
    fn answered(&self, sent: lapin::Result<bool>) -> Result<(), BrokerError> {
        match sent {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.over.cause().unwrap_or(BrokerError::Stale)),
            Err(error) => Err(self.over.end(BrokerError::lost(Role::Consume, &error))),
        }
    }
}
