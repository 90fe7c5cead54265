use std::sync::Arc;
use std::time::Duration;

use tokio::task::Id;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::handler::Handler;
use super::in_hand::{CLOSE_DELAY, Fault, Tasks, finish_in_hand, task_ended};
use super::settler::Settler;
use crate::broker::{BrokerError, Delivery as _, Session, Source};
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

/// After so many sessions in a row that did not last, in this process or with the delivery at hand, any message may be what
/// ends them.
const MAX_SHORT_SESSIONS: u32 = 3;

/// How long a delivery that is handled alone keeps the others waiting: as long as a healthy API may need.
const ALONE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a session goes on with what has not come suspiciously often, one at a time.
const SAFE_MODE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a session keeps to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    prefetch: u16,
    /// A delivery that has come so often may be what ends the sessions: it is handled alone.
    suspicious: u32,
    /// From the stop to the end.
    grace: Duration,
    /// For what is in hand when its queue is gone: a wait and a call.
    last_call: Duration,
}

impl Limits {
    pub(super) fn new(settings: &Settings) -> Self {
        let grace = *settings.worker.shutdown_grace;
        Self {
            prefetch: settings.amqp.prefetch,
            suspicious: (settings.amqp.topology.delivery_limit / 4).max(1),
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
    lost_soon: u32,
    readiness: &Readiness,
) -> DispatchEnd {
    let publisher = session.publisher();
    let mut tasks = Tasks::new();
    let hurry = CancellationToken::new();
    let one = |delivery, alone| {
        let (handler, settler, hurry) = (Arc::clone(handler), Arc::clone(settler), hurry.clone());
        process::<O, S>(handler, settler, publisher.clone(), delivery, alone, hurry)
    };
    let start = async {
        let careful = lost_soon >= MAX_SHORT_SESSIONS;
        let heads = safe_mode(&session, limits, careful, &mut tasks, |delivery| one(delivery, true)).await?;
        session.consume(limits.prefetch).await?;
        Ok(heads)
    };
    let started = tokio::select! {
        biased;
        () = handler.stop.cancelled() => return stop(tasks, session, limits.grace).await,
        started = start => started,
    };
    let heads = match started {
        Ok(heads) => heads,
        Err(fault) => return fault_end(tasks, session, fault, Duration::ZERO, readiness).await,
    };
    let since = Instant::now();
    for delivery in heads {
        tasks.spawn(one(delivery, false));
    }
    readiness.consuming();
    info!(prefetch = limits.prefetch, "consuming");
    loop {
        tokio::select! {
            biased;
            () = handler.stop.cancelled() => break,
            Some(ended) = tasks.join_next() => if let Err(fault) = task_ended(ended) {
                return fault_end(tasks, session, fault, since.elapsed(), readiness).await;
            },
            next = session.next() => match next {
                Ok(delivery) => {
                    tasks.spawn(one(delivery, false));
                }
                Err(error) => {
                    if matches!(error, BrokerError::ConsumerCancelled { .. }) {
                        readiness.no_session(&error);
                        let Limits { last_call, grace, .. } = *limits;
                        finish_in_hand(&mut tasks, &mut session, last_call, grace, &hurry, &handler.stop).await;
                    }
                    return fault_end(tasks, session, error.into(), since.elapsed(), readiness).await;
                }
            },
        }
    }
    stop(tasks, session, limits.grace).await
}

/// A message that ends every session it is delivered in takes whatever is in flight beside it towards the delivery limit,
/// until good requests are dead-lettered without an answer. So each session begins with the heads of both queues, and what
/// has come suspiciously often is handled one at a time. The broker puts what it takes back before what is new, but in any
/// order: so where the last sessions did not last, all that comes again is handled like this until one has never come
/// before, or for [`SAFE_MODE_TIMEOUT`]. What ends sessions reaches its limit alone, and what only stood beside it is finished. Answers
/// with the heads that nothing is wrong with.
///
/// Follow-ups first: only upstream can write what ends a session as soon as it is delivered.
async fn safe_mode<S: Session, F>(
    session: &S,
    limits: &Limits,
    mut careful: bool,
    tasks: &mut Tasks,
    alone: impl Fn(S::Delivery) -> F,
) -> Result<Vec<S::Delivery>, Fault>
where
    F: Future<Output = Result<(), BrokerError>> + Send + 'static,
{
    let mut heads = Vec::new();
    let end = Instant::now() + SAFE_MODE_TIMEOUT;
    for source in [Source::Followups, Source::Requests] {
        while let Some(delivery) = session.take(source).await? {
            let redeliveries = delivery.redeliveries();
            let suspicious = redeliveries >= limits.suspicious;
            careful |= suspicious || redeliveries >= MAX_SHORT_SESSIONS;
            if !suspicious && (redeliveries == 0 || !careful || Instant::now() >= end) {
                heads.push(delivery);
                break;
            }
            if suspicious {
                warn!(%source, redeliveries, "a delivery has come suspiciously often and is handled alone");
            }
            // In a task: a panic is this delivery's end, not the process's.
            let task = tasks.spawn(alone(delivery)).id();
            ended(tasks, task).await?;
            // Those that still wait for the API, or to be published, are not to be more than in any session.
            while tasks.len() >= usize::from(limits.prefetch)
                && let Some(ended) = tasks.join_next().await
            {
                task_ended(ended)?;
            }
        }
    }
    Ok(heads)
}

/// Waits until this task has ended. One that waits for an API which does not answer goes on beside the next.
async fn ended(tasks: &mut Tasks, task: Id) -> Result<(), Fault> {
    let end = Instant::now() + ALONE_TIMEOUT;
    while let Ok(Some(next)) = timeout_at(end, tasks.join_next_with_id()).await {
        let (id, result) = next.map_err(|_| Fault::Panicked)?;
        result?;
        if id == task {
            break;
        }
    }
    Ok(())
}

/// Handles a delivery and settles it; when in a hurry, puts it aside instead.
async fn process<O: Operations, S: Session>(
    handler: Arc<Handler<O>>,
    settler: Arc<Settler>,
    publisher: S::Publisher,
    delivery: S::Delivery,
    alone: bool,
    hurry: CancellationToken,
) -> Result<(), BrokerError> {
    let finish = async {
        let disposition = handler.handle(&delivery, alone).await;
        settler.publish_all(&publisher, &delivery, disposition, &handler.counters).await
    };
    let settled = tokio::select! {
        biased;
        () = hurry.cancelled() => {
            settler.publish_all(&publisher, &delivery, handler.set_aside(&delivery), &handler.counters).await
        }
        settled = finish => settled,
    };
    settler.acknowledge(&publisher, delivery, settled?).await
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
    // answered. This pause makes that rare, not impossible: delivery is at least once.
    tokio::time::sleep(CLOSE_DELAY).await;
    session.close().await;
    DispatchEnd::Stopped
}
