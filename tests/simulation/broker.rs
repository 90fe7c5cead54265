use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use cancel_worker::broker::{Broker, BrokerError, Delivery, PublishError, Publisher, Role, Session, Source, Target};
use cancel_worker::message::{Envelope, Outgoing};

use crate::test_env::{Message, SessionState, TestEnv};

/// The simulated broker, as one worker sees it.
pub struct SimulatedBroker {
    pub env: TestEnv,
    pub worker: usize,
}

/// One worker's session.
#[derive(Clone)]
pub struct SimulatedSession {
    env: TestEnv,
    worker: usize,
    id: u64,
    over: CancellationToken,
}

pub struct SimulatedDelivery {
    session: SimulatedSession,
    tag: u64,
    source: Source,
    message: Message,
}

/// Only publishing makes one.
pub struct Proof(());

fn lost() -> BrokerError {
    BrokerError::Lost { role: Role::Consume, problem: "the simulation ended it".to_owned() }
}

impl Broker for SimulatedBroker {
    type Session = SimulatedSession;

    async fn open(&self) -> Result<SimulatedSession, BrokerError> {
        self.env.edge(self.worker, "open".to_owned()).await;
        let mut state = self.env.state();
        if state.strikes("unreachable", 0.2) {
            return Err(BrokerError::Unreachable { address: "simulated".to_owned(), problem: "refused".to_owned() });
        }
        let (id, over) = (state.id(), CancellationToken::new());
        let session = SessionState {
            worker: self.worker,
            unacknowledged: Default::default(),
            orphans: Default::default(),
            cancelled: None,
            doomed: false,
            prefetch: None,
            over: over.clone(),
        };
        state.sessions.insert(id, session);
        Ok(SimulatedSession { env: self.env.clone(), worker: self.worker, id, over })
    }
}

impl SimulatedSession {
    async fn edge(&self, what: &str) -> Result<(), BrokerError> {
        self.env.edge(self.worker, format!("session {}: {what}", self.id)).await;
        self.alive()
    }

    fn alive(&self) -> Result<(), BrokerError> {
        if self.over.is_cancelled() { Err(lost()) } else { Ok(()) }
    }

    /// Hands out the head of a queue.
    fn deliver(&self, source: Source) -> Result<Option<SimulatedDelivery>, BrokerError> {
        let mut state = self.env.state();
        let Some(message) = state.queue(source).pop_front() else { return Ok(None) };
        let (tag, poison) = (state.id(), message.poison);
        state.note(format_args!(
            "session {}: delivers {source} {tag} {:?}, before {}",
            self.id, message.message_id, message.deliveries
        ));
        match state.sessions.get_mut(&self.id) {
            Some(session) => session.unacknowledged.insert(tag, (source, message.clone())),
            None => {
                state.queue(source).push_front(message);
                return Err(lost());
            }
        };
        if poison {
            state.end_session(self.id);
            drop(state);
            self.env.tell();
            return Err(lost());
        }
        Ok(Some(SimulatedDelivery { session: self.clone(), tag, source, message }))
    }

    /// A queue may be gone, and its consumer with it.
    fn check_queues(&self) -> Result<(), BrokerError> {
        let mut state = self.env.state();
        let source = if state.jitter.bool() { Source::Requests } else { Source::Followups };
        state.delete_queue(source);
        if let Some((source, told)) = state.sessions.get_mut(&self.id).and_then(|session| session.cancelled.as_mut()) {
            *told = true;
            return Err(BrokerError::ConsumerCancelled { queue: source.to_string() });
        }
        Ok(())
    }

    fn has_room(&self, source: Source) -> bool {
        let state = self.env.state();
        let Some(session) = state.sessions.get(&self.id) else { return false };
        let taken = session.unacknowledged.values().filter(|(of, _)| *of == source).count();
        session.prefetch.is_some_and(|prefetch| taken < prefetch)
    }

    async fn store(&self, target: &Target, message: Message) -> Result<Proof, PublishError> {
        let over = |error| PublishError::SessionOver(error);
        self.edge("publish").await.map_err(over)?;
        let route = || (format!("{target:?}"), String::new());
        {
            let mut state = self.env.state();
            let refused = state.strikes("refused", 0.02);
            let unroutable = !refused && state.strikes("unroutable", 0.02);
            let (exchange, routing_key) = route();
            if refused {
                return Err(PublishError::Refused { exchange, routing_key });
            }
            if unroutable {
                return Err(PublishError::Unroutable { exchange, routing_key, reason: "NO_ROUTE".to_owned() });
            }
            state.note(format_args!("session {}: stores {:?} {target:?}", self.id, message.message_id));
            match target {
                Target::Request => state.requests.push_back(message),
                Target::Event(_) => state.events.push(message),
                Target::Wait(level) => {
                    let due = (Instant::now() + level.ttl(), state.id());
                    state.waiting.insert(due, message);
                }
                Target::Dead => state.dead.push(message),
            }
        }
        self.env.tell();
        self.edge("stored").await.map_err(over)?;
        let (never, late) = {
            let mut state = self.env.state();
            (state.strikes("confirm lost", 0.01), state.strikes("confirm late", 0.02).then(|| state.jitter.u64(..5000)))
        };
        if never {
            if let Some(session) = self.env.state().sessions.get_mut(&self.id) {
                session.doomed = true;
            }
            sleep(Duration::from_secs(30)).await;
            self.env.state().end_session(self.id);
            self.env.tell();
            return Err(over(BrokerError::ConfirmTimeout(Duration::from_secs(30))));
        }
        if let Some(late) = late {
            sleep(Duration::from_millis(late)).await;
        }
        self.alive().map(|()| Proof(())).map_err(over)
    }
}

impl Session for SimulatedSession {
    type Proof = Proof;
    type Delivery = SimulatedDelivery;
    type Publisher = Self;

    fn publisher(&self) -> Self {
        self.clone()
    }

    async fn consume(&mut self, prefetch: u16) -> Result<(), BrokerError> {
        self.edge("consume").await?;
        if let Some(session) = self.env.state().sessions.get_mut(&self.id) {
            session.prefetch = Some(prefetch.into());
        }
        Ok(())
    }

    async fn take(&self, source: Source) -> Result<Option<SimulatedDelivery>, BrokerError> {
        self.edge("take").await?;
        self.deliver(source)
    }

    async fn next(&mut self) -> Result<SimulatedDelivery, BrokerError> {
        loop {
            let changed = self.env.changed();
            self.alive()?;
            self.check_queues()?;
            let followups_first = self.env.state().jitter.bool();
            let order = if followups_first { [1, 0] } else { [0, 1] };
            for source in order.map(|index| Source::ALL[index]) {
                if self.has_room(source)
                    && let Some(delivery) = self.deliver(source)?
                {
                    return Ok(delivery);
                }
            }
            changed.await;
        }
    }

    /// Here no publish ever waits for an alarm.
    fn blocked(&self) -> impl Fn() -> bool + Send + 'static {
        || false
    }

    /// Nor is a queue ever missing for long.
    fn topology_problem(&self) -> impl Fn() -> Option<String> + Send + 'static {
        || None
    }

    async fn stop_consuming(&mut self) {
        let _ = self.edge("stop consuming").await;
        if let Some(session) = self.env.state().sessions.get_mut(&self.id) {
            session.prefetch = None;
        }
    }

    async fn close(self) {
        let _ = self.edge("close").await;
        self.env.state().close_session(self.id);
        self.env.tell();
    }
}

impl Delivery for SimulatedDelivery {
    type Proof = Proof;

    fn source(&self) -> Source {
        self.source
    }

    fn redeliveries(&self) -> u32 {
        self.message.deliveries
    }

    fn envelope(&self) -> Envelope<'_> {
        let Message { body, content_type, message_id, correlation_id, headers, .. } = &self.message;
        Envelope {
            body,
            content_type: Some(content_type),
            message_id: Some(message_id),
            correlation_id: correlation_id.as_deref(),
            headers: headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            ..Envelope::default()
        }
    }

    async fn ack(self, proof: Proof) -> Result<(), BrokerError> {
        let Proof(()) = proof;
        self.session.edge("ack").await?;
        {
            let mut state = self.session.env.state();
            if state.strikes("ack lost", 0.01) {
                // Sent, as far as the worker knows.
                state.end_session(self.session.id);
            } else if let Some(session) = state.sessions.get_mut(&self.session.id) {
                session.unacknowledged.remove(&self.tag);
                session.orphans.remove(&self.tag);
            }
        }
        self.session.env.tell();
        let _ = self.session.edge("acked").await;
        Ok(())
    }

    async fn requeue(self) -> Result<(), BrokerError> {
        self.session.edge("requeue").await?;
        let mut state = self.session.env.state();
        let held = state
            .sessions
            .get_mut(&self.session.id)
            .and_then(|of| of.unacknowledged.remove(&self.tag).or_else(|| of.orphans.remove(&self.tag)));
        if let Some((source, message)) = held {
            state.give_back(source, message);
        }
        drop(state);
        self.session.env.tell();
        Ok(())
    }
}

impl Publisher for SimulatedSession {
    type Delivery = SimulatedDelivery;
    type Proof = Proof;

    async fn publish(&self, target: &Target, message: Outgoing) -> Result<Proof, PublishError> {
        self.store(target, message.into()).await
    }

    async fn dead_letter(
        &self,
        delivery: &SimulatedDelivery,
        headers: Vec<(String, String)>,
    ) -> Result<Proof, PublishError> {
        let mut message = delivery.message.clone();
        message.headers.extend(headers);
        self.store(&Target::Dead, message).await
    }

    async fn reply(&self, _address: &str, _message: Outgoing) -> Result<(), PublishError> {
        Ok(())
    }
}

impl From<Outgoing> for Message {
    fn from(message: Outgoing) -> Self {
        Self {
            body: message.body,
            content_type: message.content_type.to_owned(),
            message_id: message.message_id,
            correlation_id: message.correlation_id,
            headers: message.headers,
            ..Self::default()
        }
    }
}
