//! Every wait before a call of the Operations API: held in memory, or delayed in a wait queue of the broker.
//!
//! [`decide`] is the one function that decides it, by this table:
//!
//! | reason | held in memory | otherwise, at which wait level | what is left after that level |
//! |---|---|---|---|
//! | [`Backoff`](WaitReason::Backoff): the decisions on this operation | if it is not longer than `max_backoff` and ends within `max_hold` | the smallest that is not shorter, unless it is more than a quarter and 2 s longer, or its end past the deadline; then the largest that is not longer | what the level is shorter |
//! | [`RateLimited`](WaitReason::RateLimited): others go first | if it ends within `max_hold` | the largest that is not longer: a turn that is missed is lost | what the level is shorter |
//! | [`Remainder`](WaitReason::Remainder): the rest of a longer wait | if it ends within `max_hold` | as above | as above |
//! | [`Remainder`](WaitReason::Remainder) of zero: the next call follows the last at once | within `max_hold`, and within [`MIN_HOLD`] in any case; it needs no slot | the shortest | nothing |
//! | [`CircuitOpen`](WaitReason::CircuitOpen): the endpoint is unavailable | never: that can take long, and the broker has the room | one of the two around it, by jitter, not past the deadline | nothing: what comes back early may find it available |
//!
//! A level is always found: the shortest, if nothing fits. A wait that is held needs a free slot as well
//! (`worker.inline_slots`), and a worker that is not told to stop; when it is told, the rest of what is held is delayed by
//! the same table. `max_hold` and `max_backoff` depend on the delivery: [`HoldLimits`]. No wait goes past the deadline: the
//! state machine ends its own there, and [`Wait::before_deadline`] those for a permit.

use std::convert::Infallible;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clock::{Clock, jitter};
use crate::broker::{DeliveryKind, WaitLevel, WaitLevels};

/// A wait before the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// How long.
    pub wait: Duration,
    /// Whose decision it is.
    pub reason: WaitReason,
}

impl Wait {
    /// The next call follows the last at once.
    const NONE: Self = Self { wait: Duration::ZERO, reason: WaitReason::Remainder };

    /// The wait for a permit, cut to what is left until the deadline. None: it has come, and the call is made at once.
    pub(super) fn before_deadline(self, time_left: Duration) -> Option<Self> {
        (!time_left.is_zero()).then(|| self.at_most(time_left))
    }

    /// This wait, cut to what is left until the deadline.
    pub(super) fn at_most(self, time_left: Duration) -> Self {
        Self { wait: self.wait.min(time_left), ..self }
    }
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

/// A wait that is not held in memory: it goes through a wait queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delayed {
    /// The wait queue.
    pub(super) level: WaitLevel,
    /// What is still to be waited after it.
    pub(super) left: Duration,
    /// Whose decision the wait was.
    pub(super) reason: WaitReason,
}

/// A delivery that has come so often is not held: what it has to wait for, it waits for in the broker.
const MAX_HELD_REDELIVERIES: u32 = 3;

/// A cancel and the get after it go together, as long as they are as quick as they should be, also where nothing is held.
const MIN_HOLD: Duration = Duration::from_secs(1);

/// How long a delivery may be held in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HoldLimits {
    /// No wait ends, and no call but the first begins, later than this after the delivery came.
    max_hold: Duration,
    /// Of the backoffs, none longer than this is held.
    max_backoff: Duration,
}

impl HoldLimits {
    /// Those of a delivery. One that is handled `alone`, while all others wait, is not held.
    pub(super) fn new(
        kind: DeliveryKind,
        redeliveries: u32,
        alone: bool,
        inline_wait: Duration,
        shortest_level: Duration,
    ) -> Self {
        // While faults last, every second that a delivery is held is a chance of the next, until it is in the quarantine;
        // a follow-up begins to count anew. Not at once: each delay may leave one follow-up too many.
        let max_hold = if alone || redeliveries >= MAX_HELD_REDELIVERIES { Duration::ZERO } else { inline_wait };
        // What has been delayed once waits in the broker from then on, but for what no wait queue is short enough for.
        let max_backoff = match kind {
            DeliveryKind::Request => inline_wait,
            DeliveryKind::FollowUp | DeliveryKind::DeadLetter => shortest_level,
        };
        Self { max_hold, max_backoff }
    }
}

/// All that [`decide`] looks at besides the wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitContext<'a> {
    /// How long this delivery may be held.
    pub(super) limits: HoldLimits,
    /// For how long it has been held, calls counted.
    pub(super) held_for: Duration,
    /// Whether there is a slot for it, and the worker is not told to stop.
    pub(super) can_hold: bool,
    /// The wait queues.
    pub(super) levels: &'a WaitLevels,
    /// Until the deadline.
    pub(super) time_left: Duration,
    /// From 0 to 1.
    pub(super) jitter: f64,
}

/// Decides a wait by the table above: it is held in memory, or delayed.
pub(super) fn decide(wait: Wait, context: &WaitContext<'_>) -> Result<(), Delayed> {
    if is_held(wait, context) { Ok(()) } else { Err(delayed(wait, context)) }
}

fn is_held(wait: Wait, context: &WaitContext<'_>) -> bool {
    let HoldLimits { max_hold, max_backoff } = context.limits;
    let fits = context.can_hold && context.held_for + wait.wait <= max_hold;
    match wait.reason {
        _ if wait == Wait::NONE => context.held_for <= max_hold.max(MIN_HOLD),
        WaitReason::Backoff => fits && wait.wait <= max_backoff,
        WaitReason::RateLimited | WaitReason::Remainder => fits,
        WaitReason::CircuitOpen => false,
    }
}

fn delayed(Wait { wait, reason }: Wait, context: &WaitContext<'_>) -> Delayed {
    let WaitContext { levels, time_left, jitter, .. } = *context;
    let level = match reason {
        WaitReason::Backoff => levels.level_near(wait, time_left),
        WaitReason::RateLimited | WaitReason::Remainder => levels.level_within(wait),
        WaitReason::CircuitOpen => levels.level_around(wait, time_left, jitter),
    };
    let left = match reason {
        WaitReason::Backoff | WaitReason::RateLimited | WaitReason::Remainder => wait.saturating_sub(level.ttl()),
        WaitReason::CircuitOpen => Duration::ZERO,
    };
    Delayed { level: level.clone(), left, reason }
}

/// What waits of an operation may take in process.
pub trait WaitBudget: Send {
    /// What is left to be waited when the budget is spent.
    type End: Send;

    /// Waits, or answers that the budget is spent.
    fn hold(&mut self, wait: Wait) -> impl Future<Output = Result<(), Self::End>> + Send;

    /// Whether another call may follow the last without a wait, or the budget is spent: calls take their time, too.
    fn call_again(&self) -> Result<(), Self::End>;
}

/// Waits as long as it takes.
#[derive(Clone, Copy, Debug)]
pub struct Unlimited;

impl WaitBudget for Unlimited {
    type End = Infallible;

    async fn hold(&mut self, wait: Wait) -> Result<(), Infallible> {
        tokio::time::sleep(wait.wait).await;
        Ok(())
    }

    fn call_again(&self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A delivery's: it is held for a time in all, calls and waits, and waits only while fewer than so many deliveries do.
#[derive(Debug)]
pub(super) struct DeliveryBudget<'a> {
    /// When the delivery came.
    pub(super) since: Instant,
    /// How long it may be held.
    pub(super) limits: HoldLimits,
    /// Where it waits otherwise.
    pub(super) levels: &'a WaitLevels,
    /// The request's.
    pub(super) deadline: OffsetDateTime,
    /// By which the deadline is reckoned.
    pub(super) clock: &'a Clock,
    /// The places for deliveries that are held.
    pub(super) slots: &'a Semaphore,
    /// Ends every wait at once: the worker is to stop.
    pub(super) stop: &'a CancellationToken,
}

impl DeliveryBudget<'_> {
    fn context(&self, can_hold: bool) -> WaitContext<'_> {
        WaitContext {
            limits: self.limits,
            held_for: self.since.elapsed(),
            can_hold,
            levels: self.levels,
            time_left: Duration::try_from(self.deadline - self.clock.now()).unwrap_or_default(),
            jitter: jitter(),
        }
    }
}

impl WaitBudget for DeliveryBudget<'_> {
    type End = Delayed;

    /// Ends when the wait is too long, no slot is free, or the worker is to stop.
    async fn hold(&mut self, wait: Wait) -> Result<(), Delayed> {
        let can_hold = !self.stop.is_cancelled() && self.slots.available_permits() > 0;
        decide(wait, &self.context(can_hold))?;
        let Ok(_slot) = self.slots.try_acquire() else { return Err(delayed(wait, &self.context(false))) };
        let end = Instant::now() + wait.wait;
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                let rest = Wait { wait: end.saturating_duration_since(Instant::now()), ..wait };
                Err(delayed(rest, &self.context(false)))
            }
            () = tokio::time::sleep_until(end) => Ok(()),
        }
    }

    fn call_again(&self) -> Result<(), Delayed> {
        decide(Wait::NONE, &self.context(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const fn backoff(wait: u64) -> Wait {
        Wait { wait: seconds(wait), reason: WaitReason::Backoff }
    }

    const fn rate_limited(wait: u64) -> Wait {
        Wait { wait: seconds(wait), reason: WaitReason::RateLimited }
    }

    const fn remainder(wait: u64) -> Wait {
        Wait { wait: seconds(wait), reason: WaitReason::Remainder }
    }

    const fn circuit_open(wait: u64) -> Wait {
        Wait { wait: seconds(wait), reason: WaitReason::CircuitOpen }
    }

    fn wait_levels() -> WaitLevels {
        WaitLevels::new(&[1, 2, 5, 60, 300].map(seconds)).expect("levels")
    }

    /// A request that came just now and may be held for 10 s, backoffs for 5 s, with an hour's time.
    fn context(levels: &WaitLevels) -> WaitContext<'_> {
        WaitContext {
            limits: HoldLimits { max_hold: seconds(10), max_backoff: seconds(5) },
            held_for: Duration::ZERO,
            can_hold: true,
            levels,
            time_left: seconds(3600),
            jitter: 0.0,
        }
    }

    /// "held", or the level and what is left after it.
    fn decided(wait: Wait, context: &WaitContext<'_>) -> String {
        match decide(wait, context) {
            Ok(()) => "held".to_owned(),
            Err(Delayed { level, left, .. }) if left.is_zero() => level.label().to_owned(),
            Err(Delayed { level, left, .. }) => format!("{}, then {} s", level.label(), left.as_secs()),
        }
    }

    #[test]
    fn the_table_of_waits() {
        let levels = wait_levels();
        let usual = context(&levels);
        let no_slot = WaitContext { can_hold: false, ..usual };
        let held_for_8 = WaitContext { held_for: seconds(8), ..usual };
        let held_for_11 = WaitContext { held_for: seconds(11), ..usual };
        let not_held = HoldLimits { max_hold: Duration::ZERO, max_backoff: seconds(5) };
        let never = WaitContext { limits: not_held, ..usual };
        let soon_over = WaitContext { time_left: seconds(4), ..no_slot };
        let late_jitter = WaitContext { jitter: 0.9, ..usual };
        for (wait, context, expected) in [
            (backoff(5), usual, "held"),
            (backoff(6), usual, "5s, then 1 s"), // longer than max_backoff; 1m would be much more than was asked for
            (backoff(50), usual, "1m"),
            (backoff(47), usual, "5s, then 42 s"),
            (backoff(2), held_for_8, "held"),
            (backoff(3), held_for_8, "5s"), // would end after max_hold
            (backoff(3), no_slot, "5s"),
            (backoff(3), never, "5s"),
            (backoff(3), soon_over, "2s, then 1 s"), // 5s would end after the deadline
            (backoff(400), usual, "5m, then 100 s"),
            (rate_limited(10), usual, "held"), // max_backoff is for backoffs
            (rate_limited(11), usual, "5s, then 6 s"),
            (rate_limited(4), no_slot, "2s, then 2 s"),
            (remainder(10), usual, "held"),
            (remainder(4), held_for_8, "2s, then 2 s"),
            (remainder(2), never, "2s"),
            (Wait::NONE, usual, "held"),
            (Wait::NONE, no_slot, "held"),
            (Wait::NONE, never, "held"), // within MIN_HOLD
            (Wait::NONE, held_for_8, "held"),
            (Wait::NONE, held_for_11, "1s"),
            (Wait::NONE, WaitContext { held_for: seconds(2), ..never }, "1s"),
            (circuit_open(1), usual, "1s"),
            (circuit_open(20), usual, "1m"),
            (circuit_open(20), late_jitter, "5s"),
            (circuit_open(900), usual, "5m"),
            (circuit_open(20), soon_over, "2s"),
        ] {
            assert_eq!(decided(wait, &context), expected, "{wait:?} of {context:?}");
        }
    }

    #[test]
    fn how_long_a_delivery_is_held_depends_on_where_it_comes_from_and_how_often_it_came() {
        let of = |kind, redeliveries, alone| {
            let limits = HoldLimits::new(kind, redeliveries, alone, seconds(10), seconds(1));
            (limits.max_hold.as_secs(), limits.max_backoff.as_secs())
        };
        assert_eq!(of(DeliveryKind::Request, 0, false), (10, 10));
        assert_eq!(of(DeliveryKind::Request, MAX_HELD_REDELIVERIES - 1, false), (10, 10));
        assert_eq!(of(DeliveryKind::Request, MAX_HELD_REDELIVERIES, false), (0, 10));
        assert_eq!(of(DeliveryKind::Request, 0, true), (0, 10));
        assert_eq!(of(DeliveryKind::FollowUp, 0, false), (10, 1));
    }

    #[test]
    fn a_wait_for_a_permit_ends_at_the_deadline() {
        assert_eq!(rate_limited(5).before_deadline(seconds(9)), Some(rate_limited(5)));
        assert_eq!(rate_limited(5).before_deadline(seconds(3)), Some(rate_limited(3)));
        assert_eq!(circuit_open(5).before_deadline(Duration::ZERO), None);
    }

    /// What the budgets of a test borrow.
    struct TestEnv {
        levels: WaitLevels,
        slots: Semaphore,
        stop: CancellationToken,
        clock: Clock,
    }

    impl TestEnv {
        fn with_slots(slots: usize) -> Self {
            let (stop, clock) = (CancellationToken::new(), Clock::starting_at(OffsetDateTime::UNIX_EPOCH));
            Self { levels: wait_levels(), slots: Semaphore::new(slots), stop, clock }
        }

        fn budget(&self, hold: u64) -> DeliveryBudget<'_> {
            let Self { levels, slots, stop, clock } = self;
            let limits = HoldLimits { max_hold: seconds(hold), max_backoff: seconds(hold) };
            let deadline = clock.now() + seconds(3600);
            DeliveryBudget { since: Instant::now(), limits, levels, deadline, clock, slots, stop }
        }
    }

    fn delayed_at(level: u64, left: u64, reason: WaitReason) -> Result<(), Delayed> {
        Err(Delayed { level: WaitLevel::new(seconds(level)), left: seconds(left), reason })
    }

    #[tokio::test(start_paused = true)]
    async fn waits_are_held_until_their_sum_would_exceed_the_limit() {
        let env = TestEnv::with_slots(1);
        let mut budget = env.budget(5);
        assert_eq!(budget.hold(backoff(3)).await, Ok(()));
        assert_eq!(budget.hold(backoff(3)).await, delayed_at(5, 0, WaitReason::Backoff));
        assert_eq!(budget.hold(backoff(2)).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_calls_counts_as_held() {
        let env = TestEnv::with_slots(1);
        let mut budget = env.budget(5);
        tokio::time::sleep(seconds(3)).await;
        assert_eq!(budget.call_again(), Ok(()));
        assert_eq!(budget.hold(backoff(3)).await, delayed_at(5, 0, WaitReason::Backoff));
        tokio::time::sleep(seconds(3)).await;
        assert_eq!(budget.call_again(), delayed_at(1, 0, WaitReason::Remainder));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_free_slot_nothing_is_held() {
        let env = TestEnv::with_slots(0);
        assert_eq!(env.budget(5).hold(backoff(1)).await, delayed_at(1, 0, WaitReason::Backoff));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_a_wait_and_tells_what_is_left_of_it() {
        let env = TestEnv::with_slots(1);
        let stop = env.stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(seconds(1)).await;
            stop.cancel();
        });
        assert_eq!(env.budget(10).hold(rate_limited(10)).await, delayed_at(5, 4, WaitReason::RateLimited));
        assert_eq!(env.budget(10).hold(rate_limited(1)).await, delayed_at(1, 0, WaitReason::RateLimited));
    }
}
