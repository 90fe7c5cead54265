use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::state::SimulatorState;

/// What the handlers of all calls share.
pub(super) struct Shared {
    state: Mutex<SimulatorState>,
    closing: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(state: SimulatorState) -> Self {
        Self { state: Mutex::new(state), closing: watch::Sender::new(false) }
    }

    /// Held for the time of one decision, never while something is awaited.
    pub(super) fn state(&self) -> MutexGuard<'_, SimulatorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the simulator closes: what waits ends.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Waits until the simulator closes.
    pub(super) async fn closing(&self) {
        // The sender is `self`'s and outlives the wait: there is no error.
        let _closed = self.closing.subscribe().wait_for(|closing| *closing).await.is_ok();
    }

    /// Waits for this time, or until the simulator closes.
    pub(super) async fn pause(&self, time: Duration) {
        if !time.is_zero() {
            // Either is the end of the pause.
            let _ended = tokio::time::timeout(time, self.closing()).await.is_ok();
        }
    }
}
