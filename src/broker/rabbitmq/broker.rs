use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::session::Session;
use crate::broker::error::BrokerError;
use crate::broker::port;
use crate::broker::session_kind::SessionKind;
use crate::settings;
use crate::telemetry::Meters;

/// The broker that the settings name.
#[derive(Debug)]
pub struct RabbitMq {
    settings: settings::Amqp,
    worker: String,
    meters: Arc<Meters>,
    /// Whether there has been a session.
    opened: AtomicBool,
}

impl RabbitMq {
    /// `worker` is the name by which operators know the connections; `meters` are told the depths of the queues.
    #[must_use]
    pub fn new(settings: &settings::Amqp, worker: &str, meters: Arc<Meters>) -> Self {
        Self { settings: settings.clone(), worker: worker.to_owned(), meters, opened: AtomicBool::new(false) }
    }
}

impl port::Broker for RabbitMq {
    type Session = Session;

    async fn open(&self, kind: SessionKind) -> Result<Session, BrokerError> {
        let session = Session::open_kind(&self.settings, &self.worker, kind, &self.meters).await?;
        if kind == SessionKind::Work {
            session.tell_made(!self.opened.swap(true, Relaxed));
        }
        Ok(session)
    }
}
