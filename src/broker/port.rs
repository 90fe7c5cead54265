use tokio::sync::watch;

use super::delivery_kind::DeliveryKind;
use super::error::BrokerError;
use super::publish_error::PublishError;
use super::session_kind::SessionKind;
use super::target::Target;
use crate::message::{Envelope, Outgoing};

/// What the worker needs of a broker: RabbitMQ in production, a simulated one in the simulation of the tests.
pub trait Broker: Send + Sync {
    /// What it opens.
    type Session: Session;

    /// Builds a session of a kind.
    fn open(&self, kind: SessionKind) -> impl Future<Output = Result<Self::Session, BrokerError>> + Send;
}

/// Connections to a broker with everything on them. Nothing in it recovers: the first fault ends it for all its parts with
/// one cause; then it is dropped, and another is opened.
pub trait Session: Send + Sync + Sized + 'static {
    /// That a message is safe in a queue: only the session's publisher makes one, and acknowledging takes one.
    type Proof: Send + 'static;
    /// What it delivers.
    type Delivery: Delivery<Proof = Self::Proof>;
    /// What publishes.
    type Publisher: Publisher<Delivery = Self::Delivery, Proof = Self::Proof>;

    /// For publishing.
    #[must_use]
    fn publisher(&self) -> Self::Publisher;

    /// Starts taking deliveries from the queues of its kind, at most `prefetch` unanswered ones from each. After
    /// [`stop_consuming`](Self::stop_consuming) it can be started again.
    ///
    /// # Errors
    /// The session is over.
    fn consume(&mut self, prefetch: u16) -> impl Future<Output = Result<(), BrokerError>> + Send;

    /// The next delivery, from its queues in turn. Can be dropped and called again. Waits for the session's end where
    /// nothing is being consumed.
    ///
    /// # Errors
    /// Why the session is over. Or [`BrokerError::ConsumerCancelled`], whose queue is gone: nothing more will come, but the
    /// session goes on publishing, so that what is in hand can be finished.
    fn next(&mut self) -> impl Future<Output = Result<Self::Delivery, BrokerError>> + Send;

    /// Stops taking deliveries, and hands back those that were sent and not taken yet. Failures are left to the broker,
    /// which delivers everything again when the session ends.
    fn stop_consuming(&mut self) -> impl Future<Output = Vec<Self::Delivery>> + Send;

    /// Whether an alarm (memory, disk) keeps the broker from taking publishes. They wait, without time-out, until it takes
    /// them again.
    #[must_use]
    fn blocked(&self) -> watch::Receiver<bool>;

    /// Tells, whenever it is called, what is wrong with queues and exchanges and what to do, if anything is.
    fn topology_problem(&self) -> impl Fn() -> Option<String> + Send + 'static;

    /// Ends it, in order where the broker plays along. Publishes that are not confirmed yet fail.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// A message that waits for its answer, which is [`ack`](Self::ack) and nothing else: giving back would count as a
/// redelivery. Dropped without it, the message stays with its session, and the broker delivers it again when that ends.
pub trait Delivery: Send + Sync + 'static {
    /// What acknowledging takes.
    type Proof;

    /// What it is.
    #[must_use]
    fn kind(&self) -> DeliveryKind;

    /// How often it has been delivered before: as often as the queue counts, once where it does not count.
    #[must_use]
    fn redeliveries(&self) -> u32;

    /// Whether the broker has moved it to the quarantine for its age.
    #[must_use]
    fn has_expired(&self) -> bool;

    /// The exchange that it came through last, and its routing key: for people, who look for whoever sent it.
    #[must_use]
    fn route(&self) -> (&str, &str);

    /// Body and properties as formats read them.
    #[must_use]
    fn envelope(&self) -> Envelope<'_>;

    /// Tells the broker to forget the message, for what it led to is safe: the proof says so.
    ///
    /// # Errors
    /// It could not be told; the message will be delivered again.
    fn ack(self, proof: Self::Proof) -> impl Future<Output = Result<(), BrokerError>> + Send;
}

/// Publishes, and waits for the broker's confirm. Cheap to clone.
pub trait Publisher: Clone + Send + Sync + 'static {
    /// What can be forwarded.
    type Delivery;
    /// That a message is safe in a queue.
    type Proof;

    /// Publishes a message and waits until it is safe.
    ///
    /// # Errors
    /// It is not known to be safe; it may have arrived nevertheless.
    fn publish(
        &self,
        target: &Target,
        message: Outgoing,
    ) -> impl Future<Output = Result<Self::Proof, PublishError>> + Send;

    /// Publishes a delivery: its body and properties as they are, plus `headers`.
    ///
    /// # Errors
    /// As for [`publish`](Self::publish).
    fn forward(
        &self,
        target: &Target,
        delivery: &Self::Delivery,
        headers: Vec<(String, String)>,
    ) -> impl Future<Output = Result<Self::Proof, PublishError>> + Send;

    /// Waits until the broker takes publishes: until one that no queue takes has come back, returned and confirmed. While an
    /// alarm blocks publishing that lasts.
    ///
    /// # Errors
    /// As for [`publish`](Self::publish).
    fn probe(&self) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Sends a message to a request's `reply_to`, which must be a direct reply-to address. Best effort: it proves nothing,
    /// and nothing is known of its fate.
    ///
    /// # Errors
    /// It was not sent. The session goes on.
    fn reply(&self, address: &str, message: Outgoing) -> impl Future<Output = Result<(), PublishError>> + Send;
}
