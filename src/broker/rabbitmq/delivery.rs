use lapin::options::{BasicAckOptions, BasicNackOptions};

use super::confirms::Confirmed;
use super::content::{Content, number};
use super::refusal::connection_lost;
use super::session_end::SessionEnd;
use crate::broker::error::BrokerError;
use crate::broker::port;
use crate::broker::role::Role;
use crate::broker::source::Source;
use crate::message::Envelope;

/// How often the broker has delivered the message before; kept by quorum queues.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// A message that waits for its answer. Dropped without one, it stays with this session, and the broker delivers it again
/// when the session ends.
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

    /// Body and properties.
    #[must_use]
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// `Ok(false)` means that nothing was sent: the channel that brought the message is gone.
    fn answered(&self, sent: lapin::Result<bool>) -> Result<(), BrokerError> {
        match sent {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.over.cause().unwrap_or(BrokerError::Stale)),
            Err(error) => Err(self.over.end(connection_lost(Role::Consume, &error))),
        }
    }
}

impl port::Delivery for Delivery {
    type Proof = Confirmed;

    fn source(&self) -> Source {
        self.source
    }

    fn redeliveries(&self) -> u32 {
        // Its publisher can have put a count there; the flag is the broker's alone.
        if !self.redelivered {
            return 0;
        }
        let count =
            self.content.headers().find(|(name, _)| *name == DELIVERY_COUNT).and_then(|(_, value)| number(value));
        count.map_or(1, |count| u32::try_from(count).unwrap_or(u32::MAX).max(1))
    }

    fn envelope(&self) -> Envelope<'_> {
        self.content.envelope()
    }

    async fn ack(self, proof: Confirmed) -> Result<(), BrokerError> {
        let Confirmed { .. } = proof;
        self.answered(self.acker.ack(BasicAckOptions::default()).await)
    }

    async fn requeue(self) -> Result<(), BrokerError> {
        let options = BasicNackOptions { requeue: true, multiple: false };
        self.answered(self.acker.nack(options).await)
    }
}
