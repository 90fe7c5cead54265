use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::key::Key;

/// What calls have lately shown of an endpoint: whether it is the endpoint that is unavailable, or only some operations.
#[derive(Clone, Debug, Default)]
pub(super) struct CallEvidence {
    /// The different operations that found it unavailable since it last answered a call.
    unavailable_in_a_row: Vec<Key>,
    /// Calls of the last [`WINDOW`], by the time of their end; the newest last.
    buckets: VecDeque<Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    start: Instant,
    calls: u32,
    unavailable: u32,
}

/// How far back calls are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// How finely: calls that end within this long are counted together.
const BUCKET_INTERVAL: Duration = Duration::from_secs(1);

/// Half of fewer calls in the window show nothing.
const MIN_CALLS: u32 = 20;

impl CallEvidence {
    /// A call ended, and the endpoint had answered it.
    pub(super) fn answered(&mut self, now: Instant) {
        self.unavailable_in_a_row.clear();
        self.bucket(now).calls += 1;
    }

    /// A call for this operation ended, and had found the endpoint unavailable. Tells whether at least `max_in_a_row`
    /// different operations in a row did, or half of all calls lately.
    pub(super) fn unavailable(&mut self, operation: Key, max_in_a_row: u32, now: Instant) -> bool {
        if !self.unavailable_in_a_row.contains(&operation) {
            self.unavailable_in_a_row.push(operation);
        }
        let bucket = self.bucket(now);
        bucket.calls += 1;
        bucket.unavailable += 1;
        self.in_a_row() >= max_in_a_row || self.half_of_the_calls()
    }

    /// How many different operations have found it unavailable since it last answered a call.
    pub(super) fn in_a_row(&self) -> u32 {
        u32::try_from(self.unavailable_in_a_row.len()).unwrap_or(u32::MAX)
    }

    fn half_of_the_calls(&self) -> bool {
        let sum = |count: fn(&Bucket) -> u32| self.buckets.iter().map(count).fold(0, u32::saturating_add);
        let (calls, unavailable) = (sum(|bucket| bucket.calls), sum(|bucket| bucket.unavailable));
        calls >= MIN_CALLS && unavailable >= calls.div_ceil(2)
    }

    fn bucket(&mut self, now: Instant) -> &mut Bucket {
        if self.buckets.back().is_none_or(|newest| now >= newest.start + BUCKET_INTERVAL) {
            while self.buckets.front().is_some_and(|oldest| oldest.is_over(now)) {
                self.buckets.pop_front();
            }
            self.buckets.push_back(Bucket { start: now, calls: 0, unavailable: 0 });
        }
        let newest = self.buckets.len() - 1;
        &mut self.buckets[newest]
    }
}

impl Bucket {
    fn is_over(&self, now: Instant) -> bool {
        now >= self.start + WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn begin() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn operation(number: u32) -> Key {
        Key::of(&number.to_string())
    }

    #[test]
    fn one_operation_however_often_it_fails_says_nothing_of_its_endpoint() {
        let (mut evidence, now) = (CallEvidence::default(), begin());
        for _ in 0..19 {
            assert!(!evidence.unavailable(operation(1), 3, now));
        }
        let (mut evidence, now) = (CallEvidence::default(), begin());
        for number in 0..100 {
            assert!(!evidence.unavailable(operation(number % 2), 3, now + number * SECOND), "two operations in turn");
        }
    }

    #[test]
    fn different_operations_in_a_row_do_and_any_answer_ends_the_row() {
        let (mut evidence, now) = (CallEvidence::default(), begin());
        assert!(!evidence.unavailable(operation(1), 3, now));
        assert!(!evidence.unavailable(operation(2), 3, now));
        evidence.answered(now);
        assert!(!evidence.unavailable(operation(3), 3, now));
        assert!(!evidence.unavailable(operation(4), 3, now));
        assert!(evidence.unavailable(operation(5), 3, now));
    }

    #[test]
    fn so_does_half_of_twenty_calls_within_ten_seconds() {
        let (mut evidence, now) = (CallEvidence::default(), begin());
        for number in 0..10 {
            assert!(!evidence.unavailable(operation(number), 100, now));
            if number < 9 {
                evidence.answered(now);
            }
        }
        evidence.answered(now);
        assert!(evidence.unavailable(operation(1), 100, now + 9 * SECOND), "11 of 21");
        assert!(!evidence.unavailable(operation(2), 100, now + 10 * SECOND), "the first 20 are too long ago");
    }

    #[test]
    fn one_call_in_ten_does_not_however_many_there_are() {
        let (mut evidence, begin) = (CallEvidence::default(), begin());
        for number in 0..20_000 {
            let now = begin + number * (SECOND / 1000);
            if number % 10 == 0 {
                assert!(!evidence.unavailable(operation(number), 10, now));
            } else {
                evidence.answered(now);
            }
        }
        assert!(evidence.buckets.len() <= 11, "bounded");
    }
}
