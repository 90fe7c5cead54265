use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long something took, by buckets: one atomic addition for the bucket and one for the sum, and the same memory for
/// ever.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, in seconds, ascending.
    bounds: &'static [f64],
    /// One more than bounds: the last has no bound.
    buckets: Box<[AtomicU64]>,
    sum_micros: AtomicU64,
}

/// What a [`Histogram`] holds at one moment.
#[derive(Debug, PartialEq)]
pub(in crate::telemetry) struct Observed {
    /// Of each bucket alone: the upper bound, and how many.
    pub(in crate::telemetry) buckets: Vec<(f64, u64)>,
    pub(in crate::telemetry) count: u64,
    /// In seconds.
    pub(in crate::telemetry) sum: f64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum_micros: AtomicU64::new(0) }
    }

    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(in crate::telemetry) fn observed(&self) -> Observed {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.buckets.iter().map(|bucket| bucket.load(Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        #[expect(clippy::cast_precision_loss, reason = "exact for 285 years")]
        let sum = self.sum_micros.load(Relaxed) as f64 / 1e6;
        Observed { buckets, count, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_as_long_as_a_bound_is_within_it() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for millis in [0, 100, 101, 1000, 5000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let expected = Observed { buckets: vec![(0.1, 2), (1.0, 2), (f64::INFINITY, 1)], count: 5, sum: 6.201 };
        assert_eq!(histogram.observed(), expected);
    }
}
