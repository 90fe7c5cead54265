use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tracing::error;

use crate::broker::BrokerError;

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

/// Waits until every task has ended, or the session has. Can be dropped and called again.
pub(super) async fn all_ended(tasks: &mut Tasks) {
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
