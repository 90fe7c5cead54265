use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::broker::{BrokerError, Session};

/// From the last acknowledgement to the end of the connection.
pub(super) const CLOSE_DELAY: Duration = Duration::from_millis(200);

/// What ends a session.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("{0}")]
    Broker(#[from] BrokerError),
    /// A bug. The delivery that met it would stay unacknowledged, so the session ends and the broker counts it. What it said
    /// is left out, since it may quote what was being handled; where it was, has been logged.
    #[error("a task panicked")]
    Panicked,
}

/// One for each delivery in hand.
pub(super) type Tasks = JoinSet<Result<(), BrokerError>>;

pub(super) type Ended = Result<Result<(), BrokerError>, JoinError>;

pub(super) fn task_ended(ended: Ended) -> Result<(), Fault> {
    match ended {
        Ok(result) => result.map_err(Fault::Broker),
        Err(_) => Err(Fault::Panicked),
    }
}

/// The broker has cancelled a consumer, whose queue is gone, and with it what is in hand: nobody would deliver that again.
/// So, unlike what a lost connection leaves behind, it is finished first, on the session that still publishes: for as long
/// as a wait and a call may take. What takes longer goes into a wait queue, and so does everything at once when the worker
/// is to stop. Ends early only with the session itself, or with the time of grace.
pub(super) async fn finish_in_hand(
    tasks: &mut Tasks,
    session: &mut impl Session,
    last_call: Duration,
    grace: Duration,
    set_aside: &CancellationToken,
    stop: &CancellationToken,
) {
    info!(in_flight = tasks.len(), "a consumed queue is gone; what is in hand is finished or put aside");
    session.stop_consuming().await;
    tokio::select! {
        biased;
        ended = timeout(last_call, all_ended(tasks)) => {
            // Not a moment before the acknowledgements are sent.
            if ended.is_ok() {
                return sleep(CLOSE_DELAY).await;
            }
        }
        () = stop.cancelled() => {}
    }
    set_aside.cancel();
    let grace_over = async {
        stop.cancelled().await;
        sleep(grace).await;
    };
    tokio::select! {
        biased;
        () = all_ended(tasks) => sleep(CLOSE_DELAY).await,
        () = grace_over => {
            error!(in_flight = tasks.len(), "the time of grace is over; what is left of a queue that is gone is lost");
        }
    }
}

/// Waits until every task has ended, or the session has. Can be dropped and called again.
async fn all_ended(tasks: &mut Tasks) {
    while let Some(ended) = tasks.join_next().await {
        match task_ended(ended) {
            Ok(()) => {}
            Err(fault @ Fault::Panicked) => error!(%fault, "a delivery could not be settled"),
            Err(Fault::Broker(error)) => {
                error!(%error, in_flight = tasks.len(), "what is in hand cannot be finished: the session has ended");
                return;
            }
        }
    }
}
