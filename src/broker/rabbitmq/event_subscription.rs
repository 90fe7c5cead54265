use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};

use super::connection::BrokerConnection;
use super::content::Content;
use super::names::Names;
use super::refusal::connection_lost;
use super::session_end::SessionEnd;
use crate::broker::error::BrokerError;
use crate::broker::role::Role;

/// Watches events as they are published, through a queue of its own that goes with it. It takes nothing from other
/// consumers and keeps nothing: for the command line.
pub struct EventSubscription {
    consumer: Consumer,
    over: SessionEnd,
    _channel: Channel,
}

impl EventSubscription {
    pub(super) async fn open(
        connection: &BrokerConnection,
        names: &Names,
        over: SessionEnd,
    ) -> Result<Self, BrokerError> {
        let lost = |error: lapin::Error| over.end(connection_lost(Role::Consume, &error));
        let channel = connection.channel().await?;
        let options = QueueDeclareOptions::exclusive().auto_delete();
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.map_err(lost)?;
        let name = queue.name().clone();
        let exchange = ShortString::try_new(names.events_exchange.name.as_str()).unwrap_or_default();
        let (all, options) = ("operation.#".into(), QueueBindOptions::default());
        channel.queue_bind(name.clone(), exchange, all, options, FieldTable::default()).await.map_err(lost)?;
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        let consumer = channel.basic_consume(name, "".into(), options, FieldTable::default()).await.map_err(lost)?;
        Ok(Self { consumer, over, _channel: channel })
    }

    /// The next event. Can be dropped and called again.
    ///
    /// # Errors
    /// The session is over.
    pub async fn next(&mut self) -> Result<Content, BrokerError> {
        let event = tokio::select! {
            cause = self.over.ended() => return Err(cause),
            event = self.consumer.next() => event,
        };
        match event {
            Some(Ok(delivery)) => Ok(Content::new(delivery.data, delivery.properties)),
            Some(Err(error)) => Err(self.over.end(connection_lost(Role::Consume, &error))),
            None => Err(self.over.end(BrokerError::ConsumerCancelled { queue: self.consumer.queue().to_string() })),
        }
    }
}
