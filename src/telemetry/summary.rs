use std::sync::PoisonError;
use std::time::Duration;

use tracing::{info, warn};

use super::meters::{DelayReason, Label, Meters};
use crate::cancellation::{Outcome, Reason};
use crate::message::DeadReason;

/// From one summary line to the next.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Logs, each minute in which something was settled, how much it was. Never ends.
pub async fn summarize(meters: &Meters) {
    let mut before = snapshot(meters);
    loop {
        tokio::time::sleep(REPORT_INTERVAL).await;
        report_lost_replies(meters);
        let after = snapshot(meters);
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

/// One line for all replies that were lost since the last.
fn report_lost_replies(meters: &Meters) {
    let (replies, problem) = std::mem::take(&mut *meters.replies_lost.lock().unwrap_or_else(PoisonError::into_inner));
    if replies > 0 {
        warn!(replies, problem, "direct replies were not sent in the last minute; their events are published");
    }
}

fn snapshot(meters: &Meters) -> [u64; 6] {
    let unusable = [DeadReason::UnusableRequest, DeadReason::UnreadableFollowUp];
    [
        meters.results.get(Outcome::Cancelled),
        meters.results.get(Outcome::Completed),
        meters.results.get(Outcome::Unimplemented),
        meters.results.get(Outcome::Failed(Reason::Unavailable)),
        unusable.into_iter().map(|reason| meters.dead_letters.get(reason)).sum(),
        DelayReason::all().iter().map(|reason| meters.delayed.get(*reason)).sum(),
    ]
}
