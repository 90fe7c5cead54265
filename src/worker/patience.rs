use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A wait before the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// How long.
    pub wait: Duration,
    /// Whose decision it is.
    pub cause: Cause,
}

/// Why the next call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The decisions on this operation: a retry, a poll, what the service asked for. Never shorter.
    Step,
    /// The rate limit: others go first.
    Turn,
    /// What is left of a longer wait.
    Rest,
    /// The circuit breaker: the endpoint is unavailable. Roughly.
    Outage,
}

/// How long whoever pursues an operation is ready to wait in process.
pub trait Patience: Send {
    /// What is left to be waited when the patience has ended.
    type End: Send;

    /// Waits, or answers that the patience has ended.
    fn hold(&mut self, pause: Pause) -> impl Future<Output = Result<(), Self::End>> + Send;
}

/// Waits as long as it takes.
#[derive(Clone, Copy, Debug)]
pub struct Unlimited;

impl Patience for Unlimited {
    type End = Infallible;

    async fn hold(&mut self, pause: Pause) -> Result<(), Infallible> {
        tokio::time::sleep(pause.wait).await;
        Ok(())
    }
}

/// A delivery's: it is held for a time in all, and only while fewer than so many deliveries are held.
#[derive(Debug)]
pub(super) struct Limited {
    /// What is left of the time.
    pub(super) left: Duration,
    /// Of the waits between an operation's calls, none longer than this is held.
    pub(super) longest_step: Duration,
    /// The places for deliveries that are held.
    pub(super) slots: Arc<Semaphore>,
    /// Ends every wait at once: the worker is to stop.
    pub(super) stop: CancellationToken,
}

impl Patience for Limited {
    type End = Pause;

    /// Ends when the wait is too long, no place is free, or the worker is to stop.
    async fn hold(&mut self, pause: Pause) -> Result<(), Pause> {
        let too_long = pause.wait > self.left || (pause.cause == Cause::Step && pause.wait > self.longest_step);
        if too_long || self.stop.is_cancelled() {
            return Err(pause);
        }
        let Ok(_slot) = self.slots.try_acquire() else { return Err(pause) };
        self.left -= pause.wait;
        let end = Instant::now() + pause.wait;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                Err(Pause { wait: end.saturating_duration_since(Instant::now()), ..pause })
            }
            () = tokio::time::sleep_until(end) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(seconds: u64, slots: usize) -> (Limited, CancellationToken) {
        let stop = CancellationToken::new();
        let slots = Arc::new(Semaphore::new(slots));
        let left = Duration::from_secs(seconds);
        (Limited { left, longest_step: left, slots, stop: stop.clone() }, stop)
    }

    const fn pause(seconds: u64) -> Pause {
        Pause { wait: Duration::from_secs(seconds), cause: Cause::Step }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_are_held_until_their_sum_would_exceed_the_limit() {
        let (mut patience, _stop) = limited(5, 1);
        assert_eq!(patience.hold(pause(3)).await, Ok(()));
        assert_eq!(patience.hold(pause(3)).await, Err(pause(3)));
        assert_eq!(patience.hold(pause(2)).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_free_slot_nothing_is_held() {
        let (mut patience, _stop) = limited(5, 0);
        assert_eq!(patience.hold(pause(1)).await, Err(pause(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_a_wait_and_tells_what_is_left_of_it() {
        let (mut patience, stop) = limited(5, 1);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.cancel();
        });
        assert_eq!(patience.hold(pause(4)).await, Err(pause(3)));
    }
}
