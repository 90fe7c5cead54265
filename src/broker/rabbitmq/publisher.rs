use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::confirms::{Confirmed, Job, Ledger, LedgerContext};
use super::connection::BrokerConnection;
use super::content::Content;
use super::delivery::Delivery;
use super::names::{Names, reply_route};
use super::outbound::{KeptHeaders, Outbound};
use super::replies::Replies;
use super::session_end::SessionEnd;
use super::upkeep::Upkeep;
use crate::broker::error::BrokerError;
use crate::broker::port;
use crate::broker::publish_error::PublishError;
use crate::broker::target::Target;
use crate::message::Outgoing;

/// Jobs that wait for the ledger; more wait with their publishers.
const MAX_QUEUED_JOBS: usize = 64;

/// Publishes, persistent and mandatory, and waits for the broker's confirm. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    jobs: mpsc::Sender<Job>,
    connection: Weak<BrokerConnection>,
    blocked: watch::Receiver<bool>,
    names: Arc<Names>,
    replies: Arc<Replies>,
    frame_max: usize,
    over: SessionEnd,
    upkeep: Arc<Upkeep>,
    repeated: Arc<AtomicU64>,
}

impl Publisher {
    /// Opens a channel and starts the task that owns it.
    pub(super) async fn open(
        connection: &Arc<BrokerConnection>,
        blocked: watch::Receiver<bool>,
        names: Arc<Names>,
        confirm_timeout: Duration,
        replies: Replies,
        over: SessionEnd,
        upkeep: Arc<Upkeep>,
    ) -> Result<Self, BrokerError> {
        let repeated = Arc::<AtomicU64>::default();
        let context = LedgerContext {
            connection: Arc::downgrade(connection),
            over: over.clone(),
            confirm_timeout,
            repeated: Arc::clone(&repeated),
        };
        let ledger = Ledger::open(context).await?;
        let (jobs, queue) = mpsc::channel(MAX_QUEUED_JOBS);
        tokio::spawn(ledger.run(queue));
        let (connection, frame_max) = (Arc::downgrade(connection), connection.frame_max());
        let replies = Arc::new(replies);
        Ok(Self { jobs, connection, blocked, names, replies, frame_max, over, upkeep, repeated })
    }

    /// How many publishes were made again because their confirm came with another's return.
    #[must_use]
    pub fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    /// Publishes a dead letter as a message once more: without what the broker and the workers have noted on it, plus
    /// `headers`.
    ///
    /// # Errors
    /// As for [`publish`](port::Publisher::publish).
    pub async fn replay(
        &self,
        target: &Target,
        letter: &Content,
        headers: Vec<(String, String)>,
    ) -> Result<Confirmed, PublishError> {
        self.again(target, KeptHeaders::Senders, letter, headers).await
    }

    /// Publishes a message with its body and properties as they are, plus `headers`, as
    /// [`forward`](port::Publisher::forward) does.
    ///
    /// # Errors
    /// As for [`publish`](port::Publisher::publish).
    pub async fn forward_content(
        &self,
        target: &Target,
        content: &Content,
        headers: Vec<(String, String)>,
    ) -> Result<Confirmed, PublishError> {
        self.again(target, KeptHeaders::of(target), content, headers).await
    }

    async fn again(
        &self,
        target: &Target,
        kept: KeptHeaders,
        content: &Content,
        headers: Vec<(String, String)>,
    ) -> Result<Confirmed, PublishError> {
        let route = self.names.route(target);
        self.confirmed(Outbound::forward(route, kept, content, headers, self.frame_max)?).await
    }

    async fn settled(&self, message: Outbound) -> Result<Confirmed, PublishError> {
        let over = || PublishError::SessionOver(self.over.cause().unwrap_or(BrokerError::Closed));
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job { message, answer }).await.map_err(|_| over())?;
        answered.await.unwrap_or_else(|_| Err(over()))
    }

    async fn confirmed(&self, message: Outbound) -> Result<Confirmed, PublishError> {
        let answer = self.settled(message).await;
        if let Err(PublishError::Unroutable { exchange, .. }) = &answer
            && self.names.is_ours(exchange)
        {
            self.upkeep.look_now();
        }
        answer
    }
}

impl port::Publisher for Publisher {
    type Delivery = Delivery;
    type Proof = Confirmed;

    async fn publish(&self, target: &Target, message: Outgoing) -> Result<Confirmed, PublishError> {
        let route = self.names.route(target);
        self.confirmed(Outbound::new(route, message, self.frame_max)?).await
    }

    /// Headers of the delivery that do not fit into a frame beside `headers` are dropped, and
    /// `cancel-worker-headers-dropped` says how many bytes that were.
    async fn forward(
        &self,
        target: &Target,
        delivery: &Delivery,
        headers: Vec<(String, String)>,
    ) -> Result<Confirmed, PublishError> {
        self.forward_content(target, delivery.content(), headers).await
    }

    /// The broker blocks a connection at its first publish in an alarm, says so, and still answers that publish: so the
    /// answer alone tells nothing.
    async fn probe(&self) -> Result<(), PublishError> {
        loop {
            match self.settled(Outbound::probe(self.names.probe_route())?).await {
                // Somebody has bound the key. It was taken, which is what was asked.
                Ok(_) | Err(PublishError::Unroutable { .. }) => {}
                Err(problem) => return Err(problem),
            }
            if !self.connection.upgrade().is_some_and(|connection| connection.lapin().status().blocked()) {
                return Ok(());
            }
            // What is known here may lag behind the connection; then the next publish waits in that.
            let mut blocked = self.blocked.clone();
            let _ = blocked.wait_for(|blocked| !blocked).await;
        }
    }

    async fn reply(&self, address: &str, message: Outgoing) -> Result<(), PublishError> {
        let route = reply_route(address).ok_or(PublishError::NoReplyAddress)?;
        let message = Outbound::new(route, message, self.frame_max)?;
        self.replies.send(message).await
    }
}
