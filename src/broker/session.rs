use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use lapin::{ConnectionStatus, Event};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::address::Address;
use super::connection::{BrokerConnection, Role};
use super::consumers::Consumers;
use super::names::Names;
use super::replies::Replies;
use super::session_end::EndOnDrop;
use super::topology;
use super::topology_item::TopologyItem;
use super::upkeep::{self, Upkeep};
use super::{BrokerError, Delivery, EventSubscription, Publisher, SessionEnd, Source};
use crate::settings;

/// How long stopping the consumers may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection that has ended is given to tell why.
const REASON_TIMEOUT: Duration = Duration::from_millis(250);
/// How often a connection is looked at: some ends have no event.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Two connections and everything on them. The first fault ends it; then it is dropped, and another opened.
pub struct Session {
    consumers: Consumers,
    publisher: Publisher,
    over: SessionEnd,
    names: Arc<Names>,
    consume: Arc<BrokerConnection>,
    publish: BrokerConnection,
    upkeep: Arc<Upkeep>,
    /// What was missing when the session was opened, and was made.
    made: Vec<TopologyItem>,
    /// Of the node, without the password.
    address: String,
    /// For what the broker has to answer.
    limit: Duration,
    _end: EndOnDrop,
}

impl Session {
    /// Connects twice, to one of the nodes at random, each within `amqp.connect_timeout`, declares or verifies the topology,
    /// and makes ready to publish and consume; all within three times `amqp.connect_timeout`. The file of `amqp.uri_file`
    /// is read again before.
    ///
    /// # Errors
    /// [`BrokerError::is_permanent`] tells whether to try again.
    pub async fn open(settings: &settings::Amqp, worker_name: &str) -> Result<Self, BrokerError> {
        let addresses = Address::all(&settings.uris);
        let limit = *settings.connect_timeout;
        // Connecting has a limit of its own, which tells more of what was being waited for.
        match timeout(limit * 3, Self::build(settings, &addresses, worker_name)).await {
            Ok(built) => built,
            Err(_) => Err(BrokerError::TimedOut {
                address: addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                stage: "setting up the session",
                limit: limit * 3,
            }),
        }
    }

    async fn build(settings: &settings::Amqp, addresses: &[Address], worker: &str) -> Result<Self, BrokerError> {
        let (consume, address) = BrokerConnection::open_any(addresses, Role::Consume, settings, worker, jitter).await?;
        let limit = *settings.connect_timeout;
        let publish = BrokerConnection::open(address, Role::Publish, *settings.heartbeat, worker, limit).await?;
        let names = Arc::new(Names::new(&settings.topology));
        let made = topology::apply(&consume, address, &names, &settings.topology).await?;

        let consume = Arc::new(consume);
        let over = SessionEnd::default();
        for link in [&*consume, &publish] {
            let connection = link.connection();
            tokio::spawn(watch(link.role(), connection.events_listener(), connection.status().clone(), over.clone()));
        }
        let consumers = Consumers::new(consume.channel().await?, &names, worker, over.clone());
        let replies = Replies::new(address.clone(), settings, worker);
        let timeout = *settings.confirm_timeout;
        let upkeep = Arc::<Upkeep>::default();
        let publisher =
            Publisher::open(&publish, Arc::clone(&names), timeout, replies, over.clone(), Arc::clone(&upkeep)).await?;
        let _end = EndOnDrop(over.clone());
        let place = upkeep::Place {
            link: Arc::clone(&consume),
            address: address.clone(),
            names: Arc::clone(&names),
            settings: settings.topology.clone(),
            limit,
        };
        tokio::spawn(Arc::clone(&upkeep).run(place, over.clone()));
        let address = address.to_string();
        Ok(Self { consumers, publisher, over, names, consume, publish, upkeep, made, address, limit, _end })
    }

    /// For publishing.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Starts taking deliveries from both queues, at most `prefetch` unanswered ones from each. Where it has been started
    /// before, the new prefetch replaces the old one; deliveries that nobody has taken yet are given back. All within
    /// `amqp.connect_timeout`.
    ///
    /// # Errors
    /// The session is over.
    pub async fn consume(&mut self, prefetch: u16) -> Result<(), BrokerError> {
        let consumers = &mut self.consumers;
        let starting = async {
            if consumers.is_started() {
                for delivery in consumers.stop().await? {
                    delivery.requeue().await?;
                }
            }
            consumers.start(prefetch).await
        };
        // A quorum queue without a leader leaves a consumer unanswered for a minute.
        match timeout(self.limit, starting).await {
            Ok(started) => started,
            Err(_) => Err(self.late("starting the consumers")),
        }
    }

    /// The one message at the head of a queue, if there is any, without consuming. Within `amqp.connect_timeout`.
    ///
    /// # Errors
    /// The session is over.
    pub async fn take(&self, source: Source) -> Result<Option<Delivery>, BrokerError> {
        // A message that cannot be parsed ends the connection and leaves this call without an answer.
        tokio::select! {
            biased;
            cause = self.over.ended() => Err(cause),
            taken = timeout(self.limit, self.consumers.take(source)) => {
                taken.unwrap_or_else(|_| Err(self.late("taking a single message")))
            }
        }
    }

    /// The broker took too long: the session is over.
    fn late(&self, stage: &'static str) -> BrokerError {
        self.over.end(BrokerError::TimedOut { address: self.address.clone(), stage, limit: self.limit })
    }

    /// The next delivery, from both queues in turn. Can be dropped and called again. Waits for the session's end where
    /// nothing is being consumed.
    ///
    /// # Errors
    /// Why the session is over. Or that the broker has cancelled a consumer, whose queue is gone: nothing more will come, but
    /// the session goes on publishing, so that what is in hand can be finished.
    pub async fn next(&mut self) -> Result<Delivery, BrokerError> {
        tokio::select! {
            biased;
            cause = self.over.ended() => Err(cause),
            delivery = std::future::poll_fn(|context| self.consumers.poll_next(context)) => delivery,
        }
    }

    /// Stops taking deliveries; those that nobody has taken yet are given back. Failures are left to the broker, which
    /// gives everything back when the session ends.
    pub async fn stop_consuming(&mut self) {
        let stopping = async {
            for delivery in self.consumers.stop().await? {
                delivery.requeue().await?;
            }
            Ok::<(), BrokerError>(())
        };
        match timeout(STOP_TIMEOUT, stopping).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the consumers did not stop in order"),
            Err(_) => tracing::debug!("the consumers did not stop in time"),
        }
    }

    /// Tells when and why the session is over.
    #[must_use]
    pub fn over(&self) -> SessionEnd {
        self.over.clone()
    }

    /// Tells, whenever it is called, whether an alarm (memory, disk) keeps the broker from taking publishes. They wait,
    /// without time-out, until it takes them again.
    pub fn blocked(&self) -> impl Fn() -> bool + Send + use<> {
        let status = self.publish.connection().status().clone();
        move || status.blocked()
    }

    /// Tells, whenever it is called, what is wrong with queues and exchanges and what to do, if anything is. The session looks
    /// at them once a minute, and at once where a publish found no queue.
    pub fn topology_problem(&self) -> impl Fn() -> Option<String> + Send + use<> {
        let upkeep = Arc::clone(&self.upkeep);
        move || upkeep.problem()
    }

    /// Says what was missing when this session was opened and has been made: a matter of course the first time, and later
    /// a sign that somebody deletes things.
    pub fn tell_made(&self, first: bool) {
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
    pub async fn tap(&self) -> Result<EventSubscription, BrokerError> {
        EventSubscription::open(&self.consume, &self.names, self.over.clone()).await
    }

    /// Closes both connections, in order where the broker plays along. Publishes that are not confirmed yet fail.
    pub async fn close(self) {
        self.over.end(BrokerError::Closed);
        let Self { consume, publish, .. } = self;
        tokio::join!(consume.close(), publish.close());
    }
}

/// From 0 to 1.
#[expect(clippy::disallowed_methods, reason = "rolled here, at the edge; what decides by it takes it as an argument")]
fn jitter() -> f64 {
    fastrand::f64()
}

/// Ends the session with its connection, and tells of alarms.
async fn watch(role: Role, events: impl Stream<Item = Event> + Send, status: ConnectionStatus, over: SessionEnd) {
    let mut events = std::pin::pin!(events);
    let mut tick = interval(WATCH_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = over.ended() => return,
            event = events.next() => match event {
                // Of a channel alone it is its users' matter: those of the upkeep are refused things every day.
                Some(Event::Error(error)) if !status.connected() => { over.end(BrokerError::lost(role, &error)); }
                Some(Event::ConnectionBlocked(reason)) => tracing::warn!(%role, %reason, "the broker blocks publishing"),
                Some(Event::ConnectionUnblocked) => tracing::info!(%role, "the broker takes publishes again"),
                Some(_) => {}
                None => { over.end(BrokerError::Lost { role, problem: "it was closed".to_owned() }); }
            },
            _ = tick.tick() => if !status.connected() {
                // The event that tells why may be on its way.
                over.end(match timeout(REASON_TIMEOUT, events.next()).await {
                    Ok(Some(Event::Error(error))) => BrokerError::lost(role, &error),
                    _ => BrokerError::Lost { role, problem: "it was closed".to_owned() },
                });
            },
        }
    }
}
