use std::time::Duration;

use tokio::time::Instant;

/// A call after the last one, which decides between its answer and the operation's own end, may take so long at least.
const MIN_LAST_CALL: Duration = Duration::from_secs(1);

/// How long calls about one operation may take: until its deadline, where one that is under way is cut. What begins shortly
/// before, or later, is among the last calls, which have one time in all and a second at least.
#[derive(Debug)]
pub(super) struct LastCalls {
    timeout: Duration,
    /// When their time is over, as soon as one has begun.
    end: Option<Instant>,
}

impl LastCalls {
    /// With this time in all.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, end: None }
    }

    /// How long the call that begins now may take, so long before the deadline.
    pub(super) fn limit(&mut self, time_left: Duration) -> Duration {
        if time_left >= self.timeout {
            return time_left;
        }
        let end = *self.end.get_or_insert_with(|| Instant::now() + self.timeout);
        end.saturating_duration_since(Instant::now()).max(MIN_LAST_CALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_with_the_deadline_and_the_last_ones_soon_after_it() {
        let mut calls = LastCalls::new(seconds(3));
        assert_eq!(calls.limit(seconds(100)), seconds(100));
        assert_eq!(calls.limit(seconds(3)), seconds(3));
        assert_eq!(calls.limit(seconds(1)), seconds(3), "begun before, and the last");
        tokio::time::sleep(seconds(2)).await;
        assert_eq!(calls.limit(Duration::ZERO), seconds(1), "what is left");
        tokio::time::sleep(seconds(9)).await;
        assert_eq!(calls.limit(Duration::ZERO), MIN_LAST_CALL);
        assert_eq!(LastCalls::new(seconds(3)).limit(Duration::ZERO), seconds(3), "the first, too late");
    }
}
