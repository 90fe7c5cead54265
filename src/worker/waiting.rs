use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A wait before the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// How long.
    pub wait: Duration,
    /// Whose decision it is.
    pub reason: WaitReason,
}

/// Why the next call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// The decisions on this operation: a retry, a poll, what the service asked for. Never shorter.
    Backoff,
    /// The rate limit: others go first.
    RateLimited,
    /// What is left of a longer wait.
    Remainder,
    /// The circuit breaker: the endpoint is unavailable. Roughly.
    CircuitOpen,
}

/// How long whoever pursues an operation is ready to wait in process.
pub trait WaitBudget: Send {
    /// What is left to be waited when the patience has ended.
    type End: Send;

    /// Waits, or answers that the patience has ended.
    fn hold(&mut self, pause: Wait) -> impl Future<Output = Result<(), Self::End>> + Send;

    /// Whether another call may follow the last without a wait, or the patience has ended: calls take their time, too.
    fn call_again(&self) -> Result<(), Self::End>;
}

/// Waits as long as it takes.
#[derive(Clone, Copy, Debug)]
pub struct Unlimited;

impl WaitBudget for Unlimited {
    type End = Infallible;

    async fn hold(&mut self, pause: Wait) -> Result<(), Infallible> {
        tokio::time::sleep(pause.wait).await;
        Ok(())
    }

    fn call_again(&self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A delivery's: it is held for a time in all, calls and waits, and waits only while fewer than so many deliveries do.
/// Nothing waits here for a circuit breaker: that can take long, and the broker has the room.
#[derive(Debug)]
pub(super) struct Limited {
    /// When it began.
    pub(super) since: Instant,
    /// No wait ends, and no call but the first begins, later than this after it.
    pub(super) hold: Duration,
    /// Of the waits between an operation's calls, none longer than this is held.
    pub(super) longest_step: Duration,
    /// The places for deliveries that are held.
    pub(super) slots: Arc<Semaphore>,
    /// Ends every wait at once: the worker is to stop.
    pub(super) stop: CancellationToken,
}

impl WaitBudget for Limited {
    type End = Wait;

    /// Ends when the wait is too long, no place is free, or the worker is to stop.
    async fn hold(&mut self, pause: Wait) -> Result<(), Wait> {
        let too_long = match pause.reason {
            WaitReason::CircuitOpen => true,
            WaitReason::Backoff => pause.wait > self.longest_step,
            WaitReason::RateLimited | WaitReason::Remainder => false,
        };
        if too_long || self.since.elapsed() + pause.wait > self.hold || self.stop.is_cancelled() {
            return Err(pause);
        }
        let Ok(_slot) = self.slots.try_acquire() else { return Err(pause) };
        let end = Instant::now() + pause.wait;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                Err(Wait { wait: end.saturating_duration_since(Instant::now()), ..pause })
            }
            () = tokio::time::sleep_until(end) => Ok(()),
        }
    }

    fn call_again(&self) -> Result<(), Wait> {
        if self.since.elapsed() <= self.hold.max(MIN_HOLD) {
            return Ok(());
        }
        Err(Wait { wait: Duration::ZERO, reason: WaitReason::Remainder })
    }
}

/// A cancel and the get after it go together, as long as they are as quick as they should be, also where nothing is held.
const MIN_HOLD: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(seconds: u64, slots: usize) -> (Limited, CancellationToken) {
        let stop = CancellationToken::new();
        let slots = Arc::new(Semaphore::new(slots));
        let hold = Duration::from_secs(seconds);
        (Limited { since: Instant::now(), hold, longest_step: hold, slots, stop: stop.clone() }, stop)
    }

    const fn pause(seconds: u64) -> Wait {
        Wait { wait: Duration::from_secs(seconds), reason: WaitReason::Backoff }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_are_held_until_their_sum_would_exceed_the_limit() {
        let (mut budget, _stop) = limited(5, 1);
        assert_eq!(budget.hold(pause(3)).await, Ok(()));
        assert_eq!(budget.hold(pause(3)).await, Err(pause(3)));
        assert_eq!(budget.hold(pause(2)).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_calls_counts_as_held() {
        let (mut budget, _stop) = limited(5, 1);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(budget.call_again(), Ok(()));
        assert_eq!(budget.hold(pause(3)).await, Err(pause(3)));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(budget.call_again(), Err(Wait { wait: Duration::ZERO, reason: WaitReason::Remainder }));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_held_for_a_circuit_breaker() {
        let (mut budget, _stop) = limited(5, 1);
        let pause = Wait { reason: WaitReason::CircuitOpen, ..pause(1) };
        assert_eq!(budget.hold(pause).await, Err(pause));
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_is_held_a_quick_get_follows_its_cancel_all_the_same() {
        let (budget, _stop) = limited(0, 1);
        assert_eq!(budget.call_again(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_free_slot_nothing_is_held() {
        let (mut budget, _stop) = limited(5, 0);
        assert_eq!(budget.hold(pause(1)).await, Err(pause(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_a_wait_and_tells_what_is_left_of_it() {
        let (mut budget, stop) = limited(5, 1);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.cancel();
        });
        assert_eq!(budget.hold(pause(4)).await, Err(pause(3)));
    }
}
