use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::handler::Handler;
use super::in_hand::{CLOSE_DELAY, Fault, Tasks, finish_in_hand, task_ended};
use super::quarantine::SafeMode;
use super::settler::Settler;
use crate::broker::{BrokerError, Session};
use crate::operations_api::Operations;
use crate::settings::Settings;
use crate::telemetry::Readiness;

/// How a session ended.
#[derive(Debug)]
pub(super) enum DispatchEnd {
    /// The worker was told to stop: everything in flight was settled or given back.
    Stopped,
    /// A fault: what was in flight will be delivered again.
    Fault {
        /// Which.
        fault: Fault,
        /// How long the session had consumed.
        consumed: Duration,
    },
}

/// While what is published waits for its confirm and is to be set aside: how often to look whether it was rejected.
const REJECTED_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// What a session keeps to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    prefetch: u16,
    safe_mode: SafeMode,
    /// From the stop to the end.
    grace: Duration,
    /// For what is in hand when its queue is gone: a wait and a call.
    last_call: Duration,
}

impl Limits {
    pub(super) fn new(settings: &Settings) -> Self {
        let grace = *settings.worker.shutdown_grace;
        let prefetch = settings.amqp.prefetch;
        Self {
            prefetch,
            safe_mode: SafeMode::new(settings.amqp.topology.delivery_limit, prefetch),
            grace,
            last_call: grace.min(settings.worker.inline_wait.saturating_add(*settings.api.call_timeout)),
        }
    }
}

/// Takes deliveries and has each handled and settled in a task of its own, until a fault or the stop. So many sessions were
/// lost soon after they were built, just before this one.
pub(super) async fn work<O: Operations, S: Session>(
    handler: &Arc<Handler<O>>,
    settler: &Arc<Settler>,
    mut session: S,
    limits: &Limits,
    short_sessions: u32,
    readiness: &Readiness,
) -> DispatchEnd {
    let mut tasks = Tasks::new();
    let processor = Processor::<O, S> {
        handler: Arc::clone(handler),
        settler: Arc::clone(settler),
        publisher: session.publisher(),
        set_aside: CancellationToken::new(),
    };
    let started = tokio::select! {
        biased;
        () = handler.stop.cancelled() => return stop(tasks, session, limits.grace).await,
        started = start(&processor, &mut session, limits, short_sessions, &mut tasks) => started,
    };
    if let Err(fault) = started {
        return fault_end(tasks, session, fault, Duration::ZERO, readiness).await;
    }
    let since = Instant::now();
    readiness.consuming();
    info!(prefetch = limits.prefetch, "consuming");
    match consume(&processor, &mut session, limits, &mut tasks, readiness).await {
        Ok(()) => stop(tasks, session, limits.grace).await,
        Err(fault) => fault_end(tasks, session, fault, since.elapsed(), readiness).await,
    }
}

/// Safe mode first, then the consumers.
async fn start<O: Operations, S: Session>(
    processor: &Processor<O, S>,
    session: &mut S,
    limits: &Limits,
    short_sessions: u32,
    tasks: &mut Tasks,
) -> Result<(), Fault> {
    let isolated = |delivery| processor.process(delivery, true);
    let heads = limits.safe_mode.run(session, short_sessions, tasks, isolated).await?;
    session.consume(limits.prefetch).await?;
    for delivery in heads {
        tasks.spawn(processor.process(delivery, false));
    }
    Ok(())
}

/// Has every delivery handled and settled until the stop.
async fn consume<O: Operations, S: Session>(
    processor: &Processor<O, S>,
    session: &mut S,
    limits: &Limits,
    tasks: &mut Tasks,
    readiness: &Readiness,
) -> Result<(), Fault> {
    let Processor { handler, set_aside, .. } = processor;
    let error = loop {
        tokio::select! {
            biased;
            () = handler.stop.cancelled() => return Ok(()),
            Some(ended) = tasks.join_next() => task_ended(ended)?,
            next = session.next() => match next {
                Ok(delivery) => {
                    tasks.spawn(processor.process(delivery, false));
                }
                Err(error) => break error,
            },
        }
    };
    if matches!(error, BrokerError::ConsumerCancelled { .. }) {
        readiness.no_session(&error);
        finish_in_hand(tasks, session, limits.last_call, limits.grace, set_aside, &handler.stop).await;
    }
    Err(error.into())
}

/// What handles and settles the deliveries of one session.
struct Processor<O, S: Session> {
    handler: Arc<Handler<O>>,
    settler: Arc<Settler>,
    publisher: S::Publisher,
    /// Cancelled when what is in hand has to be put into a wait queue at once.
    set_aside: CancellationToken,
}

impl<O: Operations, S: Session> Processor<O, S> {
    /// Handles a delivery and settles it, or sets it aside when that is asked for first. What this returns owns all that it
    /// needs.
    fn process(
        &self,
        delivery: S::Delivery,
        isolated: bool,
    ) -> impl Future<Output = Result<(), BrokerError>> + Send + use<O, S> {
        let (handler, settler) = (Arc::clone(&self.handler), Arc::clone(&self.settler));
        let (publisher, set_aside) = (self.publisher.clone(), self.set_aside.clone());
        async move {
            let handled = tokio::select! {
                biased;
                () = set_aside.cancelled() => None,
                disposition = handler.handle(&delivery, isolated) => Some(disposition),
            };
            let rejected = AtomicBool::new(false);
            let publish =
                |disposition| settler.publish_all(&publisher, &delivery, disposition, &handler.counters, &rejected);
            let settled = match handled {
                None => publish(handler.set_aside(&delivery)).await,
                Some(disposition) => tokio::select! {
                    biased;
                    settled = publish(disposition) => settled,
                    // What the broker may have taken already is an answer: there is to be no other.
                    () = rejected_when(&set_aside, &rejected) => publish(handler.set_aside(&delivery)).await,
                },
            };
            settler.acknowledge(&publisher, delivery, settled?).await
        }
    }
}

/// Waits until what is in hand is to be set aside, and the broker has rejected what is being published.
async fn rejected_when(set_aside: &CancellationToken, rejected: &AtomicBool) {
    set_aside.cancelled().await;
    while !rejected.load(Relaxed) {
        tokio::time::sleep(REJECTED_CHECK_INTERVAL).await;
    }
}

/// Nothing of a dead session is finished: its deliveries come again, and work on them now would be work done twice.
async fn fault_end(
    mut tasks: Tasks,
    session: impl Session,
    fault: Fault,
    consumed: Duration,
    readiness: &Readiness,
) -> DispatchEnd {
    readiness.no_session(match &fault {
        Fault::Broker(error) => error,
        Fault::Panicked => &"a task panicked, see the log",
    });
    tasks.shutdown().await;
    session.close().await;
    DispatchEnd::Fault { fault, consumed }
}

/// Stops consuming, gives what is in flight the time of grace, and leaves the rest to be delivered again.
async fn stop(mut tasks: Tasks, mut session: impl Session, grace: Duration) -> DispatchEnd {
    info!(in_flight = tasks.len(), "stopping: no new deliveries; what is in flight is finished or parked");
    let finish = async {
        session.stop_consuming().await;
        while let Some(ended) = tasks.join_next().await {
            if let Err(fault) = task_ended(ended) {
                error!(%fault, "a delivery could not be settled while stopping; it will be delivered again");
            }
        }
    };
    if tokio::time::timeout(grace, finish).await.is_err() {
        warn!(in_flight = tasks.len(), "the time of grace is over; what is left will be delivered again");
        tasks.shutdown().await;
    }
    // RabbitMQ 3.10 may forget acknowledgements that arrive just before a channel's end, and delivers again what was
    // answered. This delay makes that rare, not impossible: delivery is at least once.
    tokio::time::sleep(CLOSE_DELAY).await;
    session.close().await;
    DispatchEnd::Stopped
}
