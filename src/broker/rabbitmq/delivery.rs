use lapin::options::BasicAckOptions;
use lapin::types::ShortString;

use super::confirms::Confirmed;
use super::content::{Content, number};
use super::names::FOLLOWUP_KEY;
use super::refusal::connection_lost;
use super::session_end::SessionEnd;
use crate::broker::delivery_kind::DeliveryKind;
use crate::broker::error::BrokerError;
use crate::broker::port;
use crate::broker::role::Role;
use crate::message::Envelope;

/// How often the broker has delivered the message before; kept by quorum queues.
pub(super) const DELIVERY_COUNT: &str = "x-delivery-count";

/// Which queue a delivery comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    Requests,
    Followups,
    Quarantine,
}

impl Queue {
    /// The word in consumer tags.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Followups => "followups",
            Self::Quarantine => "quarantine",
        }
    }
}

/// A message that waits for its answer. Dropped without one, it stays with this session, and the broker delivers it again
/// when the session ends.
#[derive(Debug)]
#[must_use = "a delivery without an answer is held until the session ends"]
pub struct Delivery {
    content: Content,
    kind: DeliveryKind,
    exchange: ShortString,
    routing_key: ShortString,
    redelivered: bool,
    acker: lapin::Acker,
    over: SessionEnd,
}

impl Delivery {
    pub(super) fn new(delivery: lapin::message::Delivery, queue: Queue, over: SessionEnd) -> Self {
        let lapin::message::Delivery { redelivered, properties, data, acker, exchange, routing_key, .. } = delivery;
        let content = Content::new(data, properties);
        let is_request = match queue {
            Queue::Requests => true,
            Queue::Followups => false,
            Queue::Quarantine => routing_key.as_str() != FOLLOWUP_KEY,
        };
        let kind = if is_request {
            DeliveryKind::Request
        } else {
            DeliveryKind::of_header(content.header(DeliveryKind::HEADER))
        };
        Self { content, kind, exchange, routing_key, redelivered, acker, over }
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

    fn kind(&self) -> DeliveryKind {
        self.kind
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

    fn has_expired(&self) -> bool {
        self.content.last_death().is_some_and(|(reason, ..)| reason == "expired")
    }

    fn route(&self) -> (&str, &str) {
        (self.exchange.as_str(), self.routing_key.as_str())
    }

    fn envelope(&self) -> Envelope<'_> {
        self.content.envelope()
    }

    async fn ack(self, proof: Confirmed) -> Result<(), BrokerError> {
        let Confirmed { .. } = proof;
        self.answered(self.acker.ack(BasicAckOptions::default()).await)
    }
}
