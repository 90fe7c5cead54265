//! Safe mode: what may be what ends the sessions is handled isolated, one delivery at a time, before a session consumes.
//!
//! A message that ends every session it is delivered in takes whatever is in flight beside it towards the delivery limit,
//! until good requests are dead-lettered without an answer. So each session begins with the heads of both queues, and what
//! has come suspiciously often is handled one at a time. The broker puts what it takes back before what is new, but in any
//! order: so where the last sessions did not last, all that comes again is handled like this until one has never come
//! before, or for a time. What ends sessions reaches its limit alone, and what only stood beside it is finished.
//!
//! | threshold | what it decides |
//! |---|---|
//! | [`SafeMode::suspicious`], a quarter of the delivery limit | a delivery that has come so often is handled isolated, in any session |
//! | [`MIN_SESSION_AGE`] | a session that consumed for this long was no short one |
//! | [`MAX_SHORT_SESSIONS`] | after so many in a row, in this process or with the delivery at hand, all that comes again is handled isolated |
//! | [`SAFE_MODE_TIMEOUT`] | for how long that goes on; what is suspicious is isolated after it as well |
//! | [`ISOLATED_TIMEOUT`] | for how long an isolated delivery keeps the others waiting |

use std::time::Duration;

use tokio::task::Id;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::in_hand::{Fault, Tasks, task_ended};
use crate::broker::{BrokerError, Delivery as _, Session, Source};

/// A session that consumed for this long was a good one.
pub(super) const MIN_SESSION_AGE: Duration = Duration::from_secs(30);

/// After so many sessions in a row that did not last, any message that comes again may be what ends them.
const MAX_SHORT_SESSIONS: u32 = 3;

/// How long a session goes on with what has not come suspiciously often, one at a time.
const SAFE_MODE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an isolated delivery keeps the others waiting: as long as a healthy API may need.
const ISOLATED_TIMEOUT: Duration = Duration::from_secs(3);

/// What a session begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct SafeMode {
    /// A delivery that has come so often may be what ends the sessions.
    suspicious: u32,
    /// No more deliveries than this are in hand.
    prefetch: u16,
}

impl SafeMode {
    pub(super) fn new(delivery_limit: u32, prefetch: u16) -> Self {
        Self { suspicious: (delivery_limit / 4).max(1), prefetch }
    }

    /// Takes the heads of both queues and has those that may be what ends the sessions handled by `isolated`, one at a
    /// time. So many sessions were lost soon after they were built, just before this one. Answers with the heads that
    /// nothing is wrong with.
    ///
    /// Follow-ups first: only upstream can write what ends a session as soon as it is delivered.
    pub(super) async fn run<S: Session, F>(
        &self,
        session: &S,
        short_sessions: u32,
        tasks: &mut Tasks,
        isolated: impl Fn(S::Delivery) -> F,
    ) -> Result<Vec<S::Delivery>, Fault>
    where
        F: Future<Output = Result<(), BrokerError>> + Send + 'static,
    {
        let mut heads = Vec::new();
        let mut state = State::begin(short_sessions, Instant::now());
        for source in [Source::Followups, Source::Requests] {
            while let Some(delivery) = session.take(source).await? {
                let redeliveries = delivery.redeliveries();
                if !self.isolates(redeliveries, &mut state, Instant::now()) {
                    heads.push(delivery);
                    break;
                }
                if redeliveries >= self.suspicious {
                    warn!(%source, redeliveries, "a delivery has come suspiciously often and is handled alone");
                }
                // In a task: a panic is this delivery's end, not the process's.
                let task = tasks.spawn(isolated(delivery)).id();
                ended(tasks, task).await?;
                self.make_room(tasks).await?;
            }
        }
        Ok(heads)
    }

    /// Whether a delivery that has come so often is handled isolated.
    fn isolates(&self, redeliveries: u32, state: &mut State, now: Instant) -> bool {
        let suspicious = redeliveries >= self.suspicious;
        state.sessions_end |= suspicious || redeliveries >= MAX_SHORT_SESSIONS;
        suspicious || (redeliveries > 0 && state.sessions_end && now < state.end)
    }

    /// Those that still wait for the API, or to be published, are not to be more than in any session.
    async fn make_room(&self, tasks: &mut Tasks) -> Result<(), Fault> {
        while tasks.len() >= usize::from(self.prefetch)
            && let Some(ended) = tasks.join_next().await
        {
            task_ended(ended)?;
        }
        Ok(())
    }
}

/// What one run of the safe mode has seen.
struct State {
    /// Whether something seems to end the sessions, so that all that comes again is handled isolated.
    sessions_end: bool,
    /// When that is over.
    end: Instant,
}

impl State {
    fn begin(short_sessions: u32, now: Instant) -> Self {
        Self { sessions_end: short_sessions >= MAX_SHORT_SESSIONS, end: now + SAFE_MODE_TIMEOUT }
    }
}

/// Waits until this task has ended. One that waits for an API which does not answer goes on beside the next.
async fn ended(tasks: &mut Tasks, task: Id) -> Result<(), Fault> {
    let end = Instant::now() + ISOLATED_TIMEOUT;
    while let Ok(Some(next)) = timeout_at(end, tasks.join_next_with_id()).await {
        let (id, result) = next.map_err(|_| Fault::Panicked)?;
        result?;
        if id == task {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether deliveries that have come so often, one after the other, are each handled isolated.
    fn isolated<const N: usize>(short_sessions: u32, redeliveries: [u32; N], after: Duration) -> [bool; N] {
        let safe_mode = SafeMode::new(20, 100);
        let now = Instant::now();
        let mut state = State::begin(short_sessions, now);
        redeliveries.map(|redeliveries| safe_mode.isolates(redeliveries, &mut state, now + after))
    }

    #[test]
    fn what_has_come_suspiciously_often_is_isolated_in_any_session_and_at_any_time() {
        assert_eq!(isolated(0, [4], SAFE_MODE_TIMEOUT), [false]);
        assert_eq!(isolated(0, [5], SAFE_MODE_TIMEOUT), [true]);
    }

    #[test]
    fn after_short_sessions_all_that_comes_again_is_isolated_for_a_time() {
        assert_eq!(isolated(MAX_SHORT_SESSIONS - 1, [0, 1, 2], Duration::ZERO), [false; 3]);
        assert_eq!(isolated(MAX_SHORT_SESSIONS, [0, 1, 2], Duration::ZERO), [false, true, true]);
        assert_eq!(isolated(MAX_SHORT_SESSIONS, [0, 1, 2], SAFE_MODE_TIMEOUT), [false; 3]);
    }

    #[test]
    fn a_delivery_that_short_sessions_of_other_processes_met_is_as_good_as_short_sessions_of_this_one() {
        assert_eq!(isolated(0, [2, MAX_SHORT_SESSIONS, 1], Duration::ZERO), [false, true, true]);
    }
}
