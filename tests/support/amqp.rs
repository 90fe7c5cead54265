use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use tokio::time::timeout;

/// How long the broker may take to answer.
const ANSWER: Duration = Duration::from_secs(20);

/// A plain client, as upstream and the consumers of results have one.
pub struct Amqp {
    connection: Connection,
    publishing: Channel,
}

impl Amqp {
    /// Connects, with publisher confirms switched on.
    pub async fn connect(uri: &str) -> Self {
        let connecting = Connection::connect(uri, ConnectionProperties::default());
        let connection = timeout(ANSWER, connecting).await.expect("the broker does not answer").unwrap();
        let publishing = connection.create_channel().await.unwrap();
        publishing.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { connection, publishing }
    }

    /// A channel for what the helpers here do not do.
    pub async fn channel(&self) -> Channel {
        self.connection.create_channel().await.unwrap()
    }

    /// Declares a quorum queue without further arguments.
    pub async fn declare_queue(&self, name: &str) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        self.channel().await.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    }

    /// Declares a quorum queue with a delivery limit.
    pub async fn declare_limited_queue(&self, name: &str, limit: i32) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(limit));
        self.channel().await.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    }

    /// Removes the queue's messages, and returns how many there were.
    pub async fn purge(&self, queue: &str) -> u32 {
        self.channel().await.queue_purge(queue.into(), QueuePurgeOptions::default()).await.unwrap()
    }

    /// How many messages are ready in the queue; `None` if there is no such queue.
    pub async fn queue_depth(&self, name: &str) -> Option<u32> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        // On a channel of its own, which the broker closes if the queue does not exist.
        let found = self.channel().await.queue_declare(name.into(), options, FieldTable::default()).await;
        found.ok().map(|queue| queue.message_count())
    }

    /// Publishes with `mandatory`, and waits for the broker's word: `Ack(None)` is "routed, and safe".
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> Confirmation {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publishing = self.publishing.basic_publish(exchange.into(), routing_key.into(), options, body, properties);
        timeout(ANSWER, publishing.await.unwrap()).await.expect("the broker does not confirm").unwrap()
    }

    /// Takes messages out of the queue until `expected` have come, or until `limit` is over: then there are fewer.
    /// Further messages in the queue stay untouched.
    pub async fn drain(&self, queue: &str, expected: u16, limit: Duration) -> Vec<Delivery> {
        let channel = self.channel().await;
        // No more than `expected` are handed over, since none is acknowledged before the consumer is cancelled.
        channel.basic_qos(expected, BasicQosOptions::default()).await.unwrap();
        let options = BasicConsumeOptions::default();
        let mut consumer =
            channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap();
        let mut taken = Vec::new();
        let _ = timeout(limit, async {
            while taken.len() < usize::from(expected) {
                taken.push(consumer.next().await.expect("the broker ended the consumer").unwrap());
            }
        })
        .await;
        channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await.unwrap();
        if let Some(last) = taken.last() {
            assert!(last.ack(BasicAckOptions { multiple: true }).await.unwrap(), "the acknowledgement was not sent");
        }
        channel.close(200, "drained".into()).await.unwrap();
        taken
    }
}

/// Properties of a message that survives a restart of the broker.
pub fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}
