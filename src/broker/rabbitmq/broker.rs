use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::session::Session;
use crate::broker::error::BrokerError;
use crate::broker::port;
use crate::broker::session_kind::SessionKind;
use crate::settings;

/// The broker that the settings name.
#[derive(Debug)]
pub struct RabbitMq {
    settings: settings::Amqp,
    worker: String,
    /// Whether there has been a session.
    opened: AtomicBool,
}

impl RabbitMq {
    /// `worker` is the name by which operators know the connections.
    #[must_use]
    pub fn new(settings: &settings::Amqp, worker: &str) -> Self {
        Self { settings: settings.clone(), worker: worker.to_owned(), opened: AtomicBool::new(false) }
    }
}

impl port::Broker for RabbitMq {
    type Session = Session;

    async fn open(&self, kind: SessionKind) -> Result<Session, BrokerError> {
        let session = Session::open_kind(&self.settings, &self.worker, kind).await?;
        if kind == SessionKind::Work {
            session.tell_made(!self.opened.swap(true, Relaxed));
        }
        Ok(session)
    }
}
