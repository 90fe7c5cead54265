use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use tokio::sync::{mpsc, oneshot};

use super::confirms::{Confirmed, Job, Ledger};
use super::connection::BrokerConnection;
use super::names::{Names, Target, reply_route};
use super::outbound::Outbound;
use super::replies::Replies;
use super::upkeep::Upkeep;
use super::{BrokerError, Delivery, SessionEnd};
use crate::message::Outgoing;

/// Jobs that wait for the ledger; more wait with their publishers.
const QUEUED_JOBS: usize = 64;

/// Why a message is not known to be safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No queue takes it: the broker returned it.
    #[error("no queue is bound to exchange {exchange:?} for routing key {routing_key:?} ({reason}): bind one")]
    Unroutable {
        /// Where it was published to; empty is the default exchange.
        exchange: String,
        /// With which routing key.
        routing_key: String,
        /// Code and text of the broker.
        reason: String,
    },
    /// A queue refused it: it is full, or could not be written.
    #[error(
        "the broker refused the message for exchange {exchange:?}, routing key {routing_key:?}: a queue behind it is full or not available"
    )]
    Refused {
        /// Where it was published to; empty is the default exchange.
        exchange: String,
        /// With which routing key.
        routing_key: String,
    },
    /// It cannot be put on the wire. Trying again is in vain.
    #[error("the message's {what} takes {size} bytes, and at most {limit} can be sent")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// In bytes.
        size: usize,
        /// In bytes.
        limit: usize,
    },
    /// A reply to anything but a direct reply-to address. Trying again is in vain.
    #[error("a reply goes to direct reply-to addresses only (amq.rabbitmq.reply-to.*)")]
    NoReplyAddress,
    /// A direct reply could not be sent. The session goes on: replies are best effort, on a connection of their own.
    #[error("the reply was not sent: {0}")]
    ReplyLost(#[source] BrokerError),
    /// The session ended first: whether the message arrived is not known.
    #[error("the session ended before the message was confirmed: {0}")]
    SessionOver(BrokerError),
}

/// Publishes, persistent and mandatory, and waits for the broker's confirm. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    jobs: mpsc::Sender<Job>,
    names: Arc<Names>,
    replies: Arc<Replies>,
    frame_max: usize,
    over: SessionEnd,
    upkeep: Arc<Upkeep>,
    repeated: Arc<AtomicU64>,
}

impl Publisher {
    /// Opens the channel and starts the task that owns it.
    pub(super) async fn open(
        link: &BrokerConnection,
        names: Arc<Names>,
        confirm_timeout: Duration,
        replies: Replies,
        over: SessionEnd,
        upkeep: Arc<Upkeep>,
    ) -> Result<Self, BrokerError> {
        let channel = link.channel().await?;
        let options = ConfirmSelectOptions::default();
        channel.confirm_select(options).await.map_err(|error| BrokerError::lost(link.role(), &error))?;
        let repeated = Arc::new(AtomicU64::new(0));
        let status = link.connection().status().clone();
        let ledger = Ledger::new(channel, status, over.clone(), confirm_timeout, Arc::clone(&repeated));
        let (jobs, queue) = mpsc::channel(QUEUED_JOBS);
        tokio::spawn(ledger.run(queue));
        Ok(Self { jobs, names, replies: Arc::new(replies), frame_max: link.frame_max(), over, upkeep, repeated })
    }

    /// Publishes a message and waits until it is safe.
    ///
    /// # Errors
    /// It is not known to be safe; it may have arrived all the same.
    pub async fn publish(&self, target: &Target, message: Outgoing) -> Result<Confirmed, PublishError> {
        let route = self.names.route(target);
        self.confirmed(Outbound::new(route, message, self.frame_max)?).await
    }

    /// Sends a message to a request's `reply_to`, which must be a direct reply-to address. Best effort: it proves nothing,
    /// and nothing is known of its fate.
    ///
    /// # Errors
    /// It was not sent. The session goes on.
    pub async fn reply(&self, address: &str, message: Outgoing) -> Result<(), PublishError> {
        let route = reply_route(address).ok_or(PublishError::NoReplyAddress)?;
        let message = Outbound::new(route, message, self.frame_max)?;
        self.replies.send(message).await.map_err(PublishError::ReplyLost)
    }

    /// Publishes a delivery to the dead letters: its body and properties as they are, plus `headers`. Headers of the
    /// delivery that do not fit into a frame beside these are dropped, and `cancel-worker-headers-dropped` says how many
    /// bytes that were.
    ///
    /// # Errors
    /// As for [`publish`](Self::publish).
    pub async fn dead_letter(
        &self,
        delivery: &Delivery,
        headers: Vec<(String, String)>,
    ) -> Result<Confirmed, PublishError> {
        let route = self.names.route(&Target::Dead);
        self.confirmed(Outbound::dead_letter(route, delivery.content(), headers, self.frame_max)?).await
    }

    /// How many publishes were made again because their confirm came with another's return. For metrics.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    async fn confirmed(&self, message: Outbound) -> Result<Confirmed, PublishError> {
        let over = || PublishError::SessionOver(self.over.cause().unwrap_or(BrokerError::Closed));
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job { message, answer }).await.map_err(|_| over())?;
        let answer = answered.await.unwrap_or_else(|_| Err(over()));
        if let Err(PublishError::Unroutable { exchange, .. }) = &answer
            && self.names.is_ours(exchange)
        {
            self.upkeep.look_now();
        }
        answer
    }
}
