use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long whoever pursues an operation is ready to wait in process.
pub trait Patience: Send {
    /// What is left to be waited when the patience has ended.
    type End: Send;

    /// Waits for `wait`, or answers that the patience has ended.
    fn hold(&mut self, wait: Duration) -> impl Future<Output = Result<(), Self::End>> + Send;
}

/// Waits as long as it takes.
#[derive(Clone, Copy, Debug)]
pub struct Unlimited;

impl Patience for Unlimited {
    type End = Infallible;

    async fn hold(&mut self, wait: Duration) -> Result<(), Infallible> {
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// A delivery's: it is held for a time in all, and only while fewer than so many deliveries are held.
#[derive(Debug)]
pub(super) struct Limited {
    /// What is left of the time.
    pub(super) left: Duration,
    /// The places for deliveries that are held.
    pub(super) slots: Arc<Semaphore>,
    /// Ends every wait at once: the worker is to stop.
    pub(super) stop: CancellationToken,
}

impl Patience for Limited {
    type End = Duration;

    /// Ends when the wait is too long, no place is free, or the worker is to stop.
    async fn hold(&mut self, wait: Duration) -> Result<(), Duration> {
        if wait > self.left || self.stop.is_cancelled() {
            return Err(wait);
        }
        let Ok(_slot) = self.slots.try_acquire() else { return Err(wait) };
        self.left -= wait;
        let end = Instant::now() + wait;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(end.saturating_duration_since(Instant::now())),
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
        (Limited { left: Duration::from_secs(seconds), slots, stop: stop.clone() }, stop)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn waits_are_held_until_their_sum_would_exceed_the_limit() {
        let (mut patience, _stop) = limited(5, 1);
        assert_eq!(patience.hold(3 * SECOND).await, Ok(()));
        assert_eq!(patience.hold(3 * SECOND).await, Err(3 * SECOND));
        assert_eq!(patience.hold(2 * SECOND).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_free_slot_nothing_is_held() {
        let (mut patience, _stop) = limited(5, 0);
        assert_eq!(patience.hold(SECOND).await, Err(SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_a_wait_and_tells_what_is_left_of_it() {
        let (mut patience, stop) = limited(5, 1);
        tokio::spawn(async move {
            tokio::time::sleep(SECOND).await;
            stop.cancel();
        });
        assert_eq!(patience.hold(4 * SECOND).await, Err(3 * SECOND));
    }
}
