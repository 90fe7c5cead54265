use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::session::Session;
use crate::broker::error::BrokerError;
use crate::broker::port;
use crate::settings;

/// The broker that the settings name.
#[derive(Debug)]
pub struct RabbitMq<'a> {
    settings: &'a settings::Amqp,
    worker: &'a str,
    /// Whether there has been a session.
    opened: AtomicBool,
}

impl<'a> RabbitMq<'a> {
    /// `worker` is the name by which operators know the connections.
    #[must_use]
    pub const fn new(settings: &'a settings::Amqp, worker: &'a str) -> Self {
        Self { settings, worker, opened: AtomicBool::new(false) }
    }
}

impl port::Broker for RabbitMq<'_> {
    type Session = Session;

    async fn open(&self) -> Result<Session, BrokerError> {
        let session = Session::open(self.settings, self.worker).await?;
        session.tell_made(!self.opened.swap(true, Relaxed));
        Ok(session)
    }
}
