use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::broker::{self, BrokerError, Confirmed, PublishError, Source, Target};
use crate::message::{Envelope, Outgoing};
use crate::settings;

/// What the worker needs of a broker: RabbitMQ in production. The simulation of the tests has another, which is why
/// there are these traits at all.
pub trait Broker: Send + Sync {
    /// What it opens.
    type Session: Session;

    /// Builds a session.
    fn open(&self) -> impl Future<Output = Result<Self::Session, BrokerError>> + Send;
}

/// A session: see [`broker::Session`].
pub trait Session: Send + Sync + Sized + 'static {
    /// What its publisher gives, and acknowledging takes.
    type Proof: Send + 'static;
    /// What it delivers.
    type Delivery: Delivery<Proof = Self::Proof>;
    /// What publishes.
    type Publisher: Publisher<Delivery = Self::Delivery, Proof = Self::Proof>;

    /// For publishing.
    fn publisher(&self) -> Self::Publisher;
    /// Starts taking deliveries.
    fn consume(&mut self, prefetch: u16) -> impl Future<Output = Result<(), BrokerError>> + Send;
    /// The one message at the head of a queue.
    fn take(&self, source: Source) -> impl Future<Output = Result<Option<Self::Delivery>, BrokerError>> + Send;
    /// The next delivery. Can be dropped and called again. [`BrokerError::ConsumerCancelled`] is no end of the session: what
    /// is in hand can still be published.
    fn next(&mut self) -> impl Future<Output = Result<Self::Delivery, BrokerError>> + Send;
    /// Stops taking deliveries; gives back what nobody has taken.
    fn stop_consuming(&mut self) -> impl Future<Output = ()> + Send;
    /// Tells, whenever it is called, whether an alarm keeps the broker from taking publishes.
    fn blocked(&self) -> impl Fn() -> bool + Send + 'static;
    /// Tells, whenever it is called, what is wrong with queues and exchanges, if anything is.
    fn topology_problem(&self) -> impl Fn() -> Option<String> + Send + 'static;
    /// Ends it in order.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// A message that waits for its answer: see [`broker::Delivery`].
pub trait Delivery: Send + Sync + 'static {
    /// What acknowledging takes.
    type Proof;

    /// Where it comes from.
    fn source(&self) -> Source;
    /// How often it has been delivered before.
    fn redeliveries(&self) -> u32;
    /// Body and properties.
    fn envelope(&self) -> Envelope<'_>;
    /// Tells the broker to forget the message.
    fn ack(self, proof: Self::Proof) -> impl Future<Output = Result<(), BrokerError>> + Send;
    /// Gives the message back.
    fn requeue(self) -> impl Future<Output = Result<(), BrokerError>> + Send;
}

/// Publishes and waits for the confirm: see [`broker::Publisher`].
pub trait Publisher: Clone + Send + Sync + 'static {
    /// What can be dead-lettered.
    type Delivery;
    /// That a message is safe.
    type Proof;

    /// Publishes a message and waits until it is safe.
    fn publish(
        &self,
        target: &Target,
        message: Outgoing,
    ) -> impl Future<Output = Result<Self::Proof, PublishError>> + Send;
    /// Publishes a delivery to the dead letters.
    fn dead_letter(
        &self,
        delivery: &Self::Delivery,
        headers: Vec<(String, String)>,
    ) -> impl Future<Output = Result<Self::Proof, PublishError>> + Send;
    /// Sends a direct reply, best effort.
    fn reply(&self, address: &str, message: Outgoing) -> impl Future<Output = Result<(), PublishError>> + Send;
}

/// The broker that the settings name.
#[derive(Debug)]
pub(super) struct RabbitMq<'a> {
    settings: &'a settings::Amqp,
    worker: &'a str,
    /// Whether there has been a session.
    opened: AtomicBool,
}

impl<'a> RabbitMq<'a> {
    pub(super) const fn new(settings: &'a settings::Amqp, worker: &'a str) -> Self {
        Self { settings, worker, opened: AtomicBool::new(false) }
    }
}

impl Broker for RabbitMq<'_> {
    type Session = broker::Session;

    async fn open(&self) -> Result<broker::Session, BrokerError> {
        let session = broker::Session::open(self.settings, self.worker).await?;
        session.tell_made(!self.opened.swap(true, Relaxed));
        Ok(session)
    }
}

impl Session for broker::Session {
    type Proof = Confirmed;
    type Delivery = broker::Delivery;
    type Publisher = broker::Publisher;

    fn publisher(&self) -> broker::Publisher {
        self.publisher()
    }

    async fn consume(&mut self, prefetch: u16) -> Result<(), BrokerError> {
        self.consume(prefetch).await
    }

    async fn take(&self, source: Source) -> Result<Option<broker::Delivery>, BrokerError> {
        self.take(source).await
    }

    async fn next(&mut self) -> Result<broker::Delivery, BrokerError> {
        self.next().await
    }

    async fn stop_consuming(&mut self) {
        self.stop_consuming().await;
    }

    fn blocked(&self) -> impl Fn() -> bool + Send + 'static {
        self.blocked()
    }

    fn topology_problem(&self) -> impl Fn() -> Option<String> + Send + 'static {
        self.topology_problem()
    }

    async fn close(self) {
        self.close().await;
    }
}

impl Delivery for broker::Delivery {
    type Proof = Confirmed;

    fn source(&self) -> Source {
        self.source()
    }

    fn redeliveries(&self) -> u32 {
        self.redeliveries()
    }

    fn envelope(&self) -> Envelope<'_> {
        self.envelope()
    }

    async fn ack(self, proof: Confirmed) -> Result<(), BrokerError> {
        self.ack(proof).await
    }

    async fn requeue(self) -> Result<(), BrokerError> {
        self.requeue().await
    }
}

impl Publisher for broker::Publisher {
    type Delivery = broker::Delivery;
    type Proof = Confirmed;

    async fn publish(&self, target: &Target, message: Outgoing) -> Result<Confirmed, PublishError> {
        self.publish(target, message).await
    }

    async fn dead_letter(
        &self,
        delivery: &broker::Delivery,
        headers: Vec<(String, String)>,
    ) -> Result<Confirmed, PublishError> {
        self.dead_letter(delivery, headers).await
    }

    async fn reply(&self, address: &str, message: Outgoing) -> Result<(), PublishError> {
        self.reply(address, message).await
    }
}
