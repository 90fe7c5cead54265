use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::address::Address;
use super::confirms::Confirmed;
use super::connection_pair::ConnectionPair;
use super::consumers::Consumers;
use super::delivery::Delivery;
use super::event_subscription::EventSubscription;
use super::publisher::Publisher;
use super::session_end::SessionEnd;
use super::topology::{self, Findings};
use super::topology_item::TopologyItem;
use super::upkeep::{self, TopologyChecker};
use crate::broker::error::BrokerError;
use crate::broker::port;
use crate::broker::session_kind::SessionKind;
use crate::settings;
use crate::telemetry::Meters;

/// How long stopping the consumers may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Two connections and everything on them. The first fault ends it; then it is dropped, and another opened.
pub struct Session {
    pair: ConnectionPair,
    consumers: Consumers,
    /// What was missing when the session was opened, and was made.
    made: Vec<TopologyItem>,
    /// For what the broker has to answer.
    limit: Duration,
}

impl Session {
    /// Connects twice, to one of the nodes at random, each within `amqp.connect_timeout`, declares or verifies the topology,
    /// and makes ready to publish and consume; all within three times `amqp.connect_timeout`. The file of `amqp.uri_file`
    /// is read again before.
    ///
    /// # Errors
    /// [`BrokerError::is_permanent`] tells whether to try again.
    pub async fn open(settings: &settings::Amqp, worker_name: &str) -> Result<Self, BrokerError> {
        Self::open_kind(settings, worker_name, SessionKind::Work, &Arc::default()).await
    }

    /// As [`open`](Self::open), of a kind. The topology is the matter of those that work.
    pub(super) async fn open_kind(
        settings: &settings::Amqp,
        worker_name: &str,
        kind: SessionKind,
        meters: &Arc<Meters>,
    ) -> Result<Self, BrokerError> {
        let addresses = Address::all(&settings.uris).await;
        let limit = *settings.connect_timeout;
        let worker = match kind {
            SessionKind::Work => worker_name.to_owned(),
            SessionKind::Quarantine => format!("{worker_name} {}", kind.as_str()),
        };
        // Connecting has a limit of its own, which tells more of what was being waited for.
        match timeout(limit * 3, Self::build(settings, &addresses, &worker, kind, meters)).await {
            Ok(built) => built,
            Err(_) => Err(BrokerError::TimedOut {
                address: addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                stage: "setting up the session",
                limit: limit * 3,
            }),
        }
    }

    async fn build(
        settings: &settings::Amqp,
        addresses: &[Address],
        worker: &str,
        kind: SessionKind,
        meters: &Arc<Meters>,
    ) -> Result<Self, BrokerError> {
        let pair = ConnectionPair::open(settings, addresses, worker).await?;
        let ConnectionPair { consume, names, upkeep, over, address, .. } = &pair;
        let limit = *settings.connect_timeout;
        let made = match kind {
            SessionKind::Work => {
                let Findings { made, depths, .. } =
                    topology::apply(consume, address, names, &settings.topology).await?;
                depths.tell(names, meters);
                // It would have ended with the first.
                meters.topology_problems(0);
                let checker = TopologyChecker {
                    connection: Arc::clone(consume),
                    address: address.clone(),
                    names: Arc::clone(names),
                    settings: settings.topology.clone(),
                    timeout: limit,
                    meters: Arc::clone(meters),
                };
                tokio::spawn(Arc::clone(upkeep).run(checker, over.clone()));
                made
            }
            SessionKind::Quarantine => Vec::new(),
        };
        let consumers = Consumers::new(consume.channel().await?, names, kind, worker, over.clone());
        Ok(Self { pair, consumers, made, limit })
    }

    /// The broker took too long: the session is over.
    fn late(&self, stage: &'static str) -> BrokerError {
        self.pair.over.end(BrokerError::TimedOut { address: self.pair.address.to_string(), stage, limit: self.limit })
    }

    /// Tells when and why the session is over.
    #[must_use]
    pub fn over(&self) -> SessionEnd {
        self.pair.over.clone()
    }

    /// Says what was missing when this session was opened and has been made: a matter of course the first time, and later
    /// a sign that things are being deleted.
    pub(super) fn tell_made(&self, first: bool) {
        if !first {
            upkeep::tell_made(&self.made);
        } else if !self.made.is_empty() {
            tracing::info!(parts = upkeep::named(&self.made), "queues and exchanges have been made");
        }
    }

    /// Watches the events that are published from now on.
    ///
    /// # Errors
    /// The session is over.
    pub async fn subscribe_to_events(&self) -> Result<EventSubscription, BrokerError> {
        EventSubscription::open(&self.pair.consume, &self.pair.names, self.pair.over.clone()).await
    }
}

impl port::Session for Session {
    type Proof = Confirmed;
    type Delivery = Delivery;
    type Publisher = Publisher;

    fn publisher(&self) -> Publisher {
        self.pair.publisher.clone()
    }

    /// Within `amqp.connect_timeout`.
    async fn consume(&mut self, prefetch: u16) -> Result<(), BrokerError> {
        // A quorum queue without a leader leaves a consumer unanswered for a minute.
        match timeout(self.limit, self.consumers.start(prefetch)).await {
            Ok(started) => started,
            Err(_) => Err(self.late("starting the consumers")),
        }
    }

    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        tokio::select! {
            biased;
            cause = self.pair.over.ended() => Err(cause),
            delivery = std::future::poll_fn(|context| self.consumers.poll_next(context)) => delivery,
        }
    }

    async fn stop_consuming(&mut self) -> Vec<Delivery> {
        match timeout(STOP_TIMEOUT, self.consumers.stop()).await {
            Ok(Ok(left)) => return left,
            Ok(Err(error)) => tracing::debug!(%error, "the consumers did not stop in order"),
            Err(_) => tracing::debug!("the consumers did not stop in time"),
        }
        Vec::new()
    }

    fn blocked(&self) -> watch::Receiver<bool> {
        self.pair.blocked.clone()
    }

    /// The session looks at them once a minute, and at once where a publish found no queue.
    fn topology_problem(&self) -> impl Fn() -> Option<String> + Send + 'static {
        let upkeep = Arc::clone(&self.pair.upkeep);
        move || upkeep.problem()
    }

    async fn close(self) {
        self.pair.close().await;
    }
}
