use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

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
    /// Since the last summary: how many, and why the last of them.
    replies_lost: Mutex<(u64, String)>,
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

    /// A direct reply was not sent, and this is why. Its event is published all the same.
    pub fn reply_lost(&self, problem: &dyn fmt::Display) {
        let mut lost = self.replies_lost.lock().unwrap_or_else(PoisonError::into_inner);
        *lost = (lost.0 + 1, problem.to_string());
    }

    /// One line for all replies that were lost since the last.
    fn report_lost_replies(&self) {
        let (replies, problem) = std::mem::take(&mut *self.replies_lost.lock().unwrap_or_else(PoisonError::into_inner));
        if replies > 0 {
            warn!(replies, problem, "direct replies were not sent in the last minute; their events are published");
        }
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
            self.report_lost_replies();
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
