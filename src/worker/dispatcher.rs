use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, error_span, field, info, warn};

use super::handler::Handler;
use super::in_hand::{CLOSE_DELAY, Fault, Tasks, all_ended, task_ended};
use super::settler::Settler;
use crate::broker::{BrokerError, Delivery as _, DeliveryKind, PublishError, Publisher as _, Session, SessionKind};
use crate::operations_api::Operations;
use crate::settings::Settings;
use crate::telemetry::Readiness;
use crate::telemetry::meters::{Consumed, InHand, Redelivered, SessionLabel};

/// How a session ended.
#[derive(Debug)]
pub(super) enum DispatchEnd {
    /// The worker was told to stop: everything in flight was settled or waits.
    Stopped,
    /// A fault: what was in flight will be delivered again.
    Fault(Fault),
}

/// A large message that the broker has not taken after so long no longer keeps others from being written.
const MEMORY_TIME: Duration = Duration::from_secs(10);

/// From one probe that the broker refused to the next.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Of the deliveries in the quarantine: each is alone.
pub(super) const QUARANTINE_PREFETCH: u16 = 1;

/// What a session keeps to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    prefetch: u16,
    /// From the stop to the end.
    pub(super) grace: Duration,
    /// For what is in hand when its queue is gone: a wait and a call.
    last_call: Duration,
}

impl Limits {
    pub(super) fn new(settings: &Settings, kind: SessionKind) -> Self {
        let grace = *settings.worker.shutdown_grace;
        let prefetch = match kind {
            SessionKind::Work => settings.amqp.prefetch,
            SessionKind::Quarantine => QUARANTINE_PREFETCH,
        };
        let last_call = grace.min(settings.worker.inline_wait.saturating_add(*settings.api.call_timeout));
        Self { prefetch, grace, last_call }
    }

    /// When, after a stop now, calls are given up, and when the connections are closed whatever is left.
    fn stop_times(&self) -> (Instant, Instant, Instant) {
        let end = Instant::now() + self.grace;
        (end - self.grace / 4, end - self.grace / 10, end)
    }
}

/// Takes deliveries and has each handled and settled in a task of its own, until a fault or the stop.
pub(super) async fn work<O: Operations, S: Session>(
    handler: &Arc<Handler<O>>,
    settler: &Arc<Settler>,
    session: S,
    kind: SessionKind,
    limits: Limits,
    readiness: Option<&Readiness>,
) -> DispatchEnd {
    let processor = Processor::<O, S> {
        handler: Arc::clone(handler),
        settler: Arc::clone(settler),
        publisher: session.publisher(),
        kind,
        set_aside: CancellationToken::new(),
    };
    let mut dispatcher = Dispatcher { processor, session, tasks: Tasks::new(), limits, readiness };
    match dispatcher.consume().await {
        Ok(()) => dispatcher.stop().await,
        Err(fault) => dispatcher.end(fault).await,
    }
}

/// One session and what is in hand of it.
struct Dispatcher<'a, O, S: Session> {
    processor: Processor<O, S>,
    session: S,
    tasks: Tasks,
    limits: Limits,
    /// Of the session whose end makes the worker not ready.
    readiness: Option<&'a Readiness>,
}

/// Why deliveries are taken no more.
enum Pause {
    Stop,
    Blocked,
}

impl<O: Operations, S: Session> Dispatcher<'_, O, S> {
    /// Consumes whenever the broker takes publishes, until the stop: an answer that cannot be published is not to be held
    /// unacknowledged for as long as an alarm lasts.
    async fn consume(&mut self) -> Result<(), Fault> {
        while self.until_taken().await? {
            self.session.consume(self.limits.prefetch).await?;
            if let Some(readiness) = self.readiness {
                readiness.consuming();
            }
            self.processor.handler.meters.session_began(session_label(self.processor.kind));
            match self.processor.kind {
                SessionKind::Work => info!(prefetch = self.limits.prefetch, "consuming"),
                SessionKind::Quarantine => info!("looking after the quarantine"),
            }
            match self.deliver().await? {
                Pause::Stop => break,
                Pause::Blocked => {
                    warn!(
                        session = self.processor.kind.as_str(),
                        "publishing is blocked: no new deliveries until it is not"
                    );
                    self.stop_consuming().await;
                }
            }
        }
        Ok(())
    }

    /// Waits until the broker takes publishes. Answers whether to go on.
    async fn until_taken(&mut self) -> Result<bool, Fault> {
        let publisher = self.processor.publisher.clone();
        let taken = async {
            loop {
                match publisher.probe().await {
                    Ok(()) => return Ok(()),
                    Err(PublishError::SessionOver(error)) => return Err(error),
                    Err(problem) => {
                        warn!(%problem, "the broker refuses a publish that no queue takes; trying again");
                        sleep(PROBE_INTERVAL).await;
                    }
                }
            }
        };
        let mut taken = std::pin::pin!(taken);
        let stop = self.processor.handler.stop.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(false),
                Some(ended) = self.tasks.join_next() => task_ended(ended)?,
                taken = &mut taken => return taken.map(|()| true).map_err(Fault::Broker),
                // Nothing is consumed: this is the session's end.
                next = self.session.next() => { next?; }
            }
        }
    }

    /// Has every delivery handled and settled, until the stop or an alarm.
    async fn deliver(&mut self) -> Result<Pause, Fault> {
        let stop = self.processor.handler.stop.clone();
        let mut blocked = self.session.blocked();
        let error = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Pause::Stop),
                Some(ended) = self.tasks.join_next() => task_ended(ended)?,
                Ok(_) = blocked.wait_for(|blocked| *blocked) => return Ok(Pause::Blocked),
                next = self.session.next() => match next {
                    Ok(delivery) => { self.tasks.spawn(self.processor.process(delivery)); }
                    Err(error) => break error,
                },
            }
        };
        if matches!(error, BrokerError::ConsumerCancelled { .. }) {
            if let Some(readiness) = self.readiness {
                readiness.no_session(&error);
            }
            self.finish_in_hand().await;
        }
        Err(error.into())
    }

    /// Takes no more. What the broker had sent already is in hand, too.
    async fn stop_consuming(&mut self) {
        for delivery in self.session.stop_consuming().await {
            self.tasks.spawn(self.processor.process(delivery));
        }
    }

    /// The broker has cancelled a consumer, whose queue is gone, and with it what is in hand: nobody would deliver that again.
    /// So, unlike what a lost connection leaves behind, it is finished first, on the session that still publishes: for as
    /// long as a wait and a call may take. What takes longer goes into a wait queue, and so does everything at once when the
    /// worker is to stop. Ends early only with the session itself, or with the time of grace.
    async fn finish_in_hand(&mut self) {
        info!(in_flight = self.tasks.len(), "a consumed queue is gone; what is in hand is finished or put aside");
        self.stop_consuming().await;
        let stop = self.processor.handler.stop.clone();
        tokio::select! {
            biased;
            ended = timeout(self.limits.last_call, all_ended(&mut self.tasks)) => {
                // Not a moment before the acknowledgements are sent.
                if ended.is_ok() {
                    return sleep(CLOSE_DELAY).await;
                }
            }
            () = stop.cancelled() => {}
        }
        self.processor.set_aside.cancel();
        let grace = self.limits.grace;
        let grace_over = async {
            stop.cancelled().await;
            sleep(grace).await;
        };
        tokio::select! {
            biased;
            () = all_ended(&mut self.tasks) => sleep(CLOSE_DELAY).await,
            () = grace_over => {
                error!(in_flight = self.tasks.len(), "the time of grace is over; what is left of a queue that is gone is lost");
            }
        }
    }

    /// Nothing of a dead session is finished: its deliveries come again, and work on them now would be work done twice.
    async fn end(mut self, fault: Fault) -> DispatchEnd {
        if let Some(readiness) = self.readiness {
            readiness.no_session(match &fault {
                Fault::Broker(error) => error,
                Fault::Panicked => &"a task panicked, see the log",
            });
        }
        self.tasks.shutdown().await;
        // A broker that answers no more must not hold up a stop.
        self.processor.handler.stop.run_until_cancelled(self.session.close()).await;
        DispatchEnd::Fault(fault)
    }

    /// Stops within the time of grace. What is buffered waits in the broker, what is in hand is finished, and what takes too
    /// long is given up and waits, too: giving back would count towards the delivery limit.
    async fn stop(mut self) -> DispatchEnd {
        if self.processor.kind == SessionKind::Work {
            info!(in_flight = self.tasks.len(), "stopping: no new deliveries; what is in flight is finished or waits");
        }
        let (give_up, close, end) = self.limits.stop_times();
        let finish = async {
            self.stop_consuming().await;
            all_ended(&mut self.tasks).await;
        };
        if timeout_at(give_up, finish).await.is_err() {
            warn!(
                in_flight = self.tasks.len(),
                "the time of grace ends; calls under way are given up and their requests wait"
            );
            self.processor.set_aside.cancel();
            let _ = timeout_at(close, all_ended(&mut self.tasks)).await;
        }
        if !self.tasks.is_empty() {
            warn!(in_flight = self.tasks.len(), "the time of grace is over; what is left will be delivered again");
            self.tasks.shutdown().await;
        }
        // RabbitMQ 3.10 may forget acknowledgements that arrive just before a channel's end, and delivers again what was
        // answered. This delay makes that rare, not impossible: delivery is at least once.
        let closing = async {
            sleep(CLOSE_DELAY).await;
            self.session.close().await;
        };
        if timeout_at(end, closing).await.is_err() {
            warn!("the broker did not close the connections in time: cut");
        }
        DispatchEnd::Stopped
    }
}

/// What handles and settles the deliveries of one session.
struct Processor<O, S: Session> {
    handler: Arc<Handler<O>>,
    settler: Arc<Settler>,
    publisher: S::Publisher,
    kind: SessionKind,
    /// Cancelled when what is in hand has to be put into a wait queue at once.
    set_aside: CancellationToken,
}

impl<O: Operations, S: Session> Processor<O, S> {
    /// Handles a delivery and settles it, or sets it aside when that is asked for first. What this returns owns all that it
    /// needs.
    fn process(&self, delivery: S::Delivery) -> impl Future<Output = Result<(), BrokerError>> + Send + use<O, S> {
        let (handler, settler) = (Arc::clone(&self.handler), Arc::clone(&self.settler));
        let (publisher, set_aside, kind) = (self.publisher.clone(), self.set_aside.clone(), self.kind);
        let redelivered = if delivery.redeliveries() > 0 { Redelivered::Yes } else { Redelivered::No };
        let mut in_hand = InHand::enter(Arc::clone(&handler.meters), consumed(kind, delivery.kind()), redelivered);
        // Whatever is said of the delivery says whose it is: the handler knows as soon as it has read it.
        let span = error_span!("delivery", request_key = field::Empty, operation = field::Empty);
        let processed = async move {
            let mut memory = None;
            let handled = async {
                match kind {
                    SessionKind::Work => handler.handle(&delivery, &mut memory).await,
                    SessionKind::Quarantine => handler.handle_quarantined(&delivery, &mut memory).await,
                }
            };
            let disposition = match set_aside.run_until_cancelled(handled).await {
                Some(disposition) => disposition,
                None => handler.set_aside(&delivery),
            };
            let published = settler.publish_all(&publisher, &delivery, disposition, &set_aside);
            let settled = match memory {
                None => published.await?,
                Some(memory) => {
                    let mut published = std::pin::pin!(published);
                    let taken = timeout(MEMORY_TIME, &mut published).await;
                    drop(memory);
                    match taken {
                        Ok(settled) => settled?,
                        Err(_) => published.await?,
                    }
                }
            };
            let reply = settler.acknowledge(delivery, settled).await?;
            in_hand.acked();
            drop(in_hand);
            if let Some(answer) = reply {
                settler.copy_to_requester(&publisher, *answer).await;
            }
            Ok(())
        };
        processed.instrument(span)
    }
}

/// A session as metrics call it.
pub(super) const fn session_label(kind: SessionKind) -> SessionLabel {
    match kind {
        SessionKind::Work => SessionLabel::Work,
        SessionKind::Quarantine => SessionLabel::Quarantine,
    }
}

/// The queue that a delivery came from.
const fn consumed(session: SessionKind, delivery: DeliveryKind) -> Consumed {
    match (session, delivery) {
        (SessionKind::Quarantine, _) => Consumed::Quarantine,
        (SessionKind::Work, DeliveryKind::Request) => Consumed::Requests,
        (SessionKind::Work, DeliveryKind::FollowUp | DeliveryKind::DeadLetter) => Consumed::FollowUps,
    }
}
