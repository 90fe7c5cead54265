use std::time::Duration;

use lapin::Channel;
use lapin::options::BasicPublishOptions;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};

use super::address::Address;
use super::connection::BrokerConnection;
use super::outbound::Outbound;
use super::refusal::connection_lost;
use crate::broker::error::BrokerError;
use crate::broker::publish_error::PublishError;
use crate::broker::role::Role;
use crate::settings::{self, UriSource};

/// How long one reply may take, connecting included. A requester does not wait for ever either.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);
/// So many replies may be under way at once; what comes beside them is dropped. A requester whose address is slow or gone
/// must not hold up what others have in hand.
const MAX_UNDER_WAY: usize = 64;
/// The least time between two connections, in which replies are dropped.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Direct replies, best effort. Their address comes from the request, which is not trusted; at one that the broker
/// did not make, RabbitMQ 3.10 crashes the channel and closes the whole connection. So they have a connection of their
/// own, which is opened for the first of them, and whose end ends nothing else.
pub(super) struct Replies {
    address: Address,
    /// A password may have been replaced since the session began.
    uris: UriSource,
    worker: String,
    heartbeat: Duration,
    under_way: Semaphore,
    connection: Mutex<ReplyConnection>,
}

#[derive(Default)]
struct ReplyConnection {
    open: Option<(BrokerConnection, Channel)>,
    opened: Option<Instant>,
}

impl Replies {
    pub(super) fn new(address: Address, settings: &settings::Amqp, worker: &str) -> Self {
        let (uris, heartbeat) = (settings.uris.clone(), *settings.heartbeat);
        Self {
            address,
            uris,
            worker: worker.to_owned(),
            heartbeat,
            under_way: Semaphore::new(MAX_UNDER_WAY),
            connection: Mutex::default(),
        }
    }

    /// Sends one reply. Whether it is taken is not known: the broker returns mandatory replies that it delivered,
    /// and confirms replies that it did not.
    pub(super) async fn send(&self, message: Outbound) -> Result<(), PublishError> {
        let Ok(_place) = self.under_way.try_acquire() else {
            return Err(PublishError::TooManyReplies { limit: MAX_UNDER_WAY });
        };
        let sending = async {
            let channel = self.channel().await?;
            let Outbound { exchange, routing_key, body, properties } = message;
            let published =
                channel.basic_publish(exchange, routing_key, BasicPublishOptions::default(), &body, properties).await;
            published.map(drop).map_err(|error| connection_lost(Role::Reply, &error))
        };
        let late = || {
            let (address, stage) = (self.address.to_string(), "sending a reply");
            BrokerError::TimedOut { address, stage, limit: REPLY_TIMEOUT }
        };
        timeout(REPLY_TIMEOUT, sending).await.unwrap_or_else(|_| Err(late())).map_err(PublishError::ReplyLost)
    }

    /// The channel, opened with its connection where there is none.
    async fn channel(&self) -> Result<Channel, BrokerError> {
        let mut current = self.connection.lock().await;
        if let Some((connection, channel)) = &current.open {
            if connection.lapin().status().connected() && channel.status().connected() {
                return Ok(channel.clone());
            }
            current.open = None;
        }
        if current.opened.is_some_and(|opened| opened.elapsed() < RECONNECT_DELAY) {
            return Err(BrokerError::Lost { role: Role::Reply, problem: "it ended a moment ago".to_owned() });
        }
        current.opened = Some(Instant::now());
        let address = self.address.renewed(&self.uris).await;
        let connection =
            BrokerConnection::open(&address, Role::Reply, self.heartbeat, &self.worker, REPLY_TIMEOUT).await?;
        let channel = connection.channel().await?;
        current.open = Some((connection, channel.clone()));
        Ok(channel)
    }
}
