use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tracing::info;

use crate::cancellation::Outcome;

/// What was settled since the process started.
#[derive(Debug, Default)]
pub struct Counters {
    cancelled: AtomicU64,
    completed: AtomicU64,
    unimplemented: AtomicU64,
    failed: AtomicU64,
    unusable: AtomicU64,
    delayed: AtomicU64,
}

/// From one summary line to the next.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

impl Counters {
    /// A request was answered.
    pub fn finished(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Cancelled => &self.cancelled,
            Outcome::Completed => &self.completed,
            Outcome::Unimplemented => &self.unimplemented,
            Outcome::Failed(_) => &self.failed,
        };
        counter.fetch_add(1, Relaxed);
    }

    /// A message that cannot be used was dead-lettered.
    pub fn unusable(&self) {
        self.unusable.fetch_add(1, Relaxed);
    }

    /// A request was put into a wait queue.
    pub fn delayed(&self) {
        self.delayed.fetch_add(1, Relaxed);
    }

    fn snapshot(&self) -> [u64; 6] {
        [&self.cancelled, &self.completed, &self.unimplemented, &self.failed, &self.unusable, &self.delayed]
            .map(|counter| counter.load(Relaxed))
    }

    /// Logs, each minute in which something was settled, how much it was. Never ends.
    pub async fn report(&self) {
        let mut before = self.snapshot();
        loop {
            tokio::time::sleep(REPORT_INTERVAL).await;
            let after = self.snapshot();
            if after != before {
                let mut delta = after;
                for (delta, before) in delta.iter_mut().zip(before) {
                    *delta -= before;
                }
                let [cancelled, completed, unimplemented, failed, unusable, delayed] = delta;
                info!(
                    cancelled,
                    completed,
                    unimplemented,
                    failed,
                    unusable,
                    parked = delayed,
                    "settled in the last minute"
                );
                before = after;
            }
        }
    }
}
