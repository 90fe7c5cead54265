use std::sync::Arc;

use tokio::sync::watch;

use super::address::Address;
use super::connection::BrokerConnection;
use super::connection_watch::spawn_watch;
use super::names::Names;
use super::publisher::Publisher;
use super::replies::Replies;
use super::session_end::{EndOnDrop, SessionEnd};
use super::upkeep::Upkeep;
use crate::broker::error::BrokerError;
use crate::broker::role::Role;
use crate::settings;

/// Two connections to one node, and what publishes on the second. The first fault of either ends both.
pub(super) struct ConnectionPair {
    pub(super) consume: Arc<BrokerConnection>,
    publish: Arc<BrokerConnection>,
    pub(super) publisher: Publisher,
    pub(super) names: Arc<Names>,
    pub(super) upkeep: Arc<Upkeep>,
    /// Whether the second is blocked by an alarm.
    pub(super) blocked: watch::Receiver<bool>,
    pub(super) over: SessionEnd,
    pub(super) address: Address,
    _end: EndOnDrop,
}

impl ConnectionPair {
    /// Connects to one of the nodes at random, each time within `amqp.connect_timeout`.
    pub(super) async fn open(
        settings: &settings::Amqp,
        addresses: &[Address],
        worker: &str,
    ) -> Result<Self, BrokerError> {
        let (consume, address) = BrokerConnection::open_any(addresses, Role::Consume, settings, worker, jitter).await?;
        let limit = *settings.connect_timeout;
        let publish = BrokerConnection::open(address, Role::Publish, *settings.heartbeat, worker, limit).await?;
        let (consume, publish) = (Arc::new(consume), Arc::new(publish));
        let (names, upkeep) = (Arc::new(Names::new(&settings.topology)), Arc::<Upkeep>::default());
        let over = SessionEnd::default();
        let _end = EndOnDrop(over.clone());
        spawn_watch(&consume, over.clone());
        let blocked = spawn_watch(&publish, over.clone());
        let publisher = Publisher::open(
            &publish,
            blocked.clone(),
            Arc::clone(&names),
            *settings.confirm_timeout,
            Replies::new(address.clone(), settings, worker),
            over.clone(),
            Arc::clone(&upkeep),
        )
        .await?;
        Ok(Self { consume, publish, publisher, names, upkeep, blocked, over, address: address.clone(), _end })
    }

    /// Ends both, in order where the broker plays along.
    pub(super) async fn close(self) {
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
