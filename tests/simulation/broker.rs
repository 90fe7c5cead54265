use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use cancel_worker::broker::{
    Broker, BrokerError, Delivery, DeliveryKind, PublishError, Publisher, Role, Session, SessionKind, Target,
};
use cancel_worker::message::{Envelope, Outgoing};

use crate::test_env::{InHand, Message, Outage, Queue, SessionState, TestEnv};

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
    kind: SessionKind,
    id: u64,
    over: CancellationToken,
}

pub struct SimulatedDelivery {
    session: SimulatedSession,
    tag: u64,
    queue: Queue,
    message: Message,
}

/// Only publishing makes one.
pub struct Proof(());

fn lost() -> BrokerError {
    BrokerError::Lost { role: Role::Consume, problem: "the simulation ended it".to_owned() }
}

impl Broker for SimulatedBroker {
    type Session = SimulatedSession;

    async fn open(&self, kind: SessionKind) -> Result<SimulatedSession, BrokerError> {
        self.env.edge(self.worker, "open".to_owned()).await;
        let mut state = self.env.state();
        if state.strikes("unreachable", 0.2) {
            return Err(BrokerError::Unreachable { address: "simulated".to_owned(), problem: "refused".to_owned() });
        }
        let (id, over) = (state.id(), CancellationToken::new());
        let session = SessionState {
            worker: self.worker,
            kind,
            unacknowledged: Default::default(),
            orphans: Default::default(),
            cancelled: None,
            doomed: false,
            prefetch: None,
            blocked: watch::channel(state.outage == Some(Outage::Alarm)).0,
            over: over.clone(),
        };
        state.sessions.insert(id, session);
        Ok(SimulatedSession { env: self.env.clone(), worker: self.worker, kind, id, over })
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
    fn deliver(&self, queue: Queue) -> Result<Option<SimulatedDelivery>, BrokerError> {
        let mut state = self.env.state();
        let Some(message) = state.queue(queue).pop_front() else { return Ok(None) };
        let (tag, poison) = (state.id(), message.poison);
        state.note(format_args!(
            "session {}: delivers {queue:?} {tag} {:?}, before {}",
            self.id, message.message_id, message.deliveries
        ));
        state.delivered(queue, &message);
        let in_hand = InHand { queue, message: message.clone(), since: Instant::now() };
        match state.sessions.get_mut(&self.id) {
            Some(session) => session.unacknowledged.insert(tag, in_hand),
            None => {
                state.queue(queue).push_front(message);
                return Err(lost());
            }
        };
        if poison {
            state.end_session(self.id);
            drop(state);
            self.env.tell();
            return Err(lost());
        }
        Ok(Some(SimulatedDelivery { session: self.clone(), tag, queue, message }))
    }

    /// A queue may be gone, and its consumer with it.
    fn check_queues(&self) -> Result<(), BrokerError> {
        let mut state = self.env.state();
        if self.kind == SessionKind::Work {
            let queue = if state.jitter.bool() { Queue::Requests } else { Queue::Followups };
            state.delete_queue(queue);
        }
        if let Some((queue, told)) = state.sessions.get_mut(&self.id).and_then(|session| session.cancelled.as_mut()) {
            *told = true;
            return Err(BrokerError::ConsumerCancelled { queue: format!("{queue:?}") });
        }
        Ok(())
    }

    fn has_room(&self, queue: Queue) -> bool {
        let state = self.env.state();
        let Some(session) = state.sessions.get(&self.id) else { return false };
        let taken = session.unacknowledged.values().filter(|delivery| delivery.queue == queue).count();
        session.prefetch.is_some_and(|prefetch| taken < prefetch)
    }

    /// An alarm lets nothing through. Otherwise there is no time-out for it.
    async fn unblocked(&self) -> Result<(), BrokerError> {
        loop {
            let changed = self.env.changed();
            self.alive()?;
            if self.env.state().outage != Some(Outage::Alarm) {
                return Ok(());
            }
            changed.await;
        }
    }

    async fn store(&self, target: &Target, message: Message) -> Result<Proof, PublishError> {
        let over = |error| PublishError::SessionOver(error);
        self.edge("publish").await.map_err(over)?;
        self.unblocked().await.map_err(over)?;
        let route = || (format!("{target:?}"), String::new());
        {
            let mut state = self.env.state();
            let outage = state.outage.filter(|_| matches!(target, Target::Event(_)));
            let refused = outage == Some(Outage::Full) || state.strikes("refused", 0.02);
            let unroutable = outage == Some(Outage::Unbound) || (!refused && state.strikes("unroutable", 0.02));
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
                Target::Event(_) => state.events.push(Message { at: Some(Instant::now()), ..message }),
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

    async fn next(&mut self) -> Result<SimulatedDelivery, BrokerError> {
        loop {
            let changed = self.env.changed();
            self.alive()?;
            self.check_queues()?;
            let mut queues = Queue::of(self.kind).to_vec();
            if self.env.state().jitter.bool() {
                queues.reverse();
            }
            for queue in queues {
                if self.has_room(queue)
                    && let Some(delivery) = self.deliver(queue)?
                {
                    return Ok(delivery);
                }
            }
            changed.await;
        }
    }

    fn blocked(&self) -> watch::Receiver<bool> {
        let state = self.env.state();
        // Of a session that is over, nothing is to be known any more.
        state.sessions.get(&self.id).map_or_else(|| watch::channel(false).1, |session| session.blocked.subscribe())
    }

    /// Here no queue is ever missing for long.
    fn topology_problem(&self) -> impl Fn() -> Option<String> + Send + 'static {
        || None
    }

    /// Some deliveries were on their way.
    async fn stop_consuming(&mut self) -> Vec<SimulatedDelivery> {
        let _ = self.edge("stop consuming").await;
        let mut buffered = Vec::new();
        for queue in Queue::of(self.kind) {
            let is_sent = self.has_room(*queue) && self.env.state().jitter.bool();
            if is_sent && let Ok(Some(delivery)) = self.deliver(*queue) {
                buffered.push(delivery);
            }
        }
        if let Some(session) = self.env.state().sessions.get_mut(&self.id) {
            session.prefetch = None;
        }
        buffered
    }

    async fn close(self) {
        let _ = self.edge("close").await;
        self.env.state().close_session(self.id);
        self.env.tell();
    }
}

impl Delivery for SimulatedDelivery {
    type Proof = Proof;

    fn kind(&self) -> DeliveryKind {
        self.message.kind(self.queue)
    }

    fn redeliveries(&self) -> u32 {
        self.message.deliveries
    }

    fn has_expired(&self) -> bool {
        self.message.expired
    }

    fn route(&self) -> (&str, &str) {
        ("simulated", "")
    }

    fn envelope(&self) -> Envelope<'_> {
        let Message { body, content_type, message_id, correlation_id, headers, .. } = &self.message;
        Envelope {
            body,
            content_type: Some(content_type),
            message_id: Some(message_id),
            correlation_id: correlation_id.as_deref(),
            headers: headers.iter().map(|(name, value)| (name.as_str(), value.as_str().into())).collect(),
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
}

impl Publisher for SimulatedSession {
    type Delivery = SimulatedDelivery;
    type Proof = Proof;

    async fn publish(&self, target: &Target, message: Outgoing) -> Result<Proof, PublishError> {
        self.store(target, message.into()).await
    }

    async fn forward(
        &self,
        target: &Target,
        delivery: &SimulatedDelivery,
        headers: Vec<(String, String)>,
    ) -> Result<Proof, PublishError> {
        let mut message = delivery.message.clone();
        message.headers.retain(|(name, _)| name != DeliveryKind::HEADER);
        message.headers.extend(headers);
        self.store(target, message).await
    }

    async fn probe(&self) -> Result<(), PublishError> {
        let over = |error| PublishError::SessionOver(error);
        self.edge("probe").await.map_err(over)?;
        self.unblocked().await.map_err(over)
    }

    async fn reply(&self, _address: &str, _message: Outgoing) -> Result<(), PublishError> {
        Ok(())
    }
}

impl From<Outgoing> for Message {
    fn from(message: Outgoing) -> Self {
        Self {
            body: message.body.into(),
            content_type: message.content_type.to_owned(),
            message_id: message.message_id.unwrap_or_default(),
            correlation_id: message.correlation_id,
            headers: message.headers,
            ..Self::default()
        }
    }
}
