use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tracing::info;

use crate::cancellation::Outcome;

/// What was settled since the process started.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) cancelled: AtomicU64,
    pub(super) completed: AtomicU64,
    pub(super) unimplemented: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) unusable: AtomicU64,
    pub(super) delayed: AtomicU64,
}

impl Counters {
    pub(super) fn finished(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Cancelled => &self.cancelled,
            Outcome::Completed => &self.completed,
            Outcome::Unimplemented => &self.unimplemented,
            Outcome::Failed(_) => &self.failed,
        };
        counter.fetch_add(1, Relaxed);
    }

    fn snapshot(&self) -> [u64; 6] {
        [&self.cancelled, &self.completed, &self.unimplemented, &self.failed, &self.unusable, &self.delayed]
            .map(|counter| counter.load(Relaxed))
    }

    /// Logs, each minute in which something was settled, how much it was. Never ends.
    pub(super) async fn report(&self) {
        const EVERY: Duration = Duration::from_secs(60);
        let mut before = self.snapshot();
        loop {
            tokio::time::sleep(EVERY).await;
            let after = self.snapshot();
            if after != before {
                let mut delta = after;
                for (delta, before) in delta.iter_mut().zip(before) {
                    *delta -= before;
                }
                let [cancelled, completed, unimplemented, failed, unusable, delayed] = delta;
                info!(cancelled, completed, unimplemented, failed, unusable, delayed, "settled in the last minute");
                before = after;
            }
        }
    }
}
