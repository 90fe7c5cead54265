use std::time::Duration;

use crate::settings;

/// A wait queue, by how long a message stays in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitLevel {
    label: String,
    ttl: Duration,
}

impl WaitLevel {
    /// The level that waits for this long.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self { label: humantime::format_duration(ttl).to_string().replace(' ', ""), ttl }
    }

    /// In queue names and routing keys: `1s`, `1m30s`. Says the whole duration, so that another duration is another queue.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// How long a message stays.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }
}

/// The wait queues, by how long a message stays in each. Which of these a wait takes is decided by the table of
/// `worker::waiting`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitLevels {
    /// Ascending, never empty.
    levels: Vec<WaitLevel>,
}

/// A wait may become so much longer for want of a level, however short it is: another turn through the broker costs more.
const MAX_SHORT_EXCESS: Duration = Duration::from_secs(2);

impl WaitLevels {
    /// Those of the settings. None without any.
    #[must_use]
    pub fn of(topology: &settings::Topology) -> Option<Self> {
        Self::new(&topology.wait_levels.0.iter().map(|level| **level).collect::<Vec<_>>())
    }

    /// One level for each duration, in any order. None without any.
    pub(crate) fn new(durations: &[Duration]) -> Option<Self> {
        let mut durations = durations.to_vec();
        durations.sort_unstable();
        durations.dedup();
        let levels: Vec<WaitLevel> = durations.into_iter().map(WaitLevel::new).collect();
        (!levels.is_empty()).then_some(Self { levels })
    }

    /// The level with the shortest wait.
    #[must_use]
    pub fn shortest(&self) -> &WaitLevel {
        &self.levels[0]
    }

    /// The level with the longest wait.
    #[must_use]
    pub fn longest(&self) -> &WaitLevel {
        &self.levels[self.levels.len() - 1]
    }

    /// Ascending.
    pub fn levels(&self) -> impl Iterator<Item = &WaitLevel> {
        self.levels.iter()
    }

    /// Where to wait for `wait`: the smallest level that is not shorter, unless its end would be later than `latest`
    /// from now; then the largest that is not longer, but always a level.
    #[must_use]
    pub fn level_for(&self, wait: Duration, latest: Duration) -> &WaitLevel {
        let wait = wait.min(latest);
        let shorter = self.levels.partition_point(|level| level.ttl < wait);
        match self.levels.get(shorter) {
            Some(level) if level.ttl <= latest => level,
            _ => &self.levels[shorter.saturating_sub(1)],
        }
    }

    /// Where to wait for a backoff: the smallest level that is not shorter, if it is at most a quarter or two seconds longer
    /// and ends no later than `latest` from now; else where to begin a wait of which the rest follows.
    #[must_use]
    pub fn level_near(&self, wait: Duration, latest: Duration) -> &WaitLevel {
        let longer = wait.saturating_add((wait / 4).max(MAX_SHORT_EXCESS));
        self.level_for(wait, latest.min(longer))
    }

    /// Where to begin a wait of which the rest can follow: the largest level that is not longer, but always a level.
    #[must_use]
    pub fn level_within(&self, wait: Duration) -> &WaitLevel {
        let within = self.levels.partition_point(|level| level.ttl <= wait);
        &self.levels[within.saturating_sub(1)]
    }

    /// Where to wait for about `wait`, ending no later than `latest` from now where there is such a level: one of the
    /// levels around it, chosen by `jitter` from 0 to 1 so that the mean is right and those who came together part.
    #[must_use]
    pub fn level_around(&self, wait: Duration, latest: Duration, jitter: f64) -> &WaitLevel {
        let (below, above) = (self.level_within(wait.min(latest)), self.level_for(wait, latest));
        let distance = above.ttl.saturating_sub(below.ttl);
        let share = wait.saturating_sub(below.ttl).as_secs_f64() / distance.as_secs_f64().max(f64::MIN_POSITIVE);
        if jitter < share { above } else { below }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn wait_levels() -> WaitLevels {
        WaitLevels::new(&[secs(1), secs(2), secs(5), secs(60), secs(300)]).expect("levels")
    }

    #[test]
    fn a_backoff_becomes_little_longer_or_is_waited_for_in_parts() {
        for (wait, latest, label) in [
            (0, 3600, "1s"),
            (3, 3600, "5s"),
            (4, 3600, "5s"),
            (6, 3600, "5s"), // and 1 s more: 1m would be ten times that
            (47, 3600, "5s"),
            (48, 3600, "1m"),
            (60, 3600, "1m"),
            (61, 3600, "1m"),
            (240, 3600, "5m"),
            (50, 55, "5s"), // 1m would end after the deadline
            (4000, 9000, "5m"),
        ] {
            assert_eq!(wait_levels().level_near(secs(wait), secs(latest)).label(), label, "{wait} s of {latest} s");
        }
    }

    #[test]
    fn a_wait_is_rounded_up_to_a_level_or_down_where_up_would_be_too_late() {
        for (wait, latest, label) in [
            (0, 3600, "1s"),
            (1, 3600, "1s"),
            (3, 3600, "5s"),
            (6, 3600, "1m"),
            (61, 3600, "5m"),
            (4000, 9000, "5m"),
            (3, 4, "2s"),    // 5s would end after the deadline
            (6, 30, "5s"),   // 1m would
            (100, 30, "5s"), // a wait longer than the deadline is cut to it
            (5, 5, "5s"),
            (1, 0, "1s"), // nothing fits: the smallest
        ] {
            assert_eq!(
                wait_levels().level_for(secs(wait), secs(latest)).label(),
                label,
                "{wait} s, at most {latest} s"
            );
        }
    }

    #[test]
    fn a_wait_whose_rest_can_follow_begins_at_a_level_that_is_not_longer() {
        for (wait, label) in [(0, "1s"), (1, "1s"), (4, "2s"), (59, "5s"), (400, "5m")] {
            assert_eq!(wait_levels().level_within(secs(wait)).label(), label, "{wait} s");
        }
    }

    #[test]
    fn a_rough_wait_takes_one_of_the_levels_around_it_and_is_right_in_the_mean() {
        for (wait, latest, jitter, label) in [
            (20, 3600, 0.2, "1m"),
            (20, 3600, 0.3, "5s"), // 20 s are 15/55 of the way from 5 s to 1 m
            (20, 30, 0.2, "5s"),
            (5, 3600, 0.0, "5s"),
            (0, 3600, 0.0, "1s"),
            (900, 3600, 0.5, "5m"),
            (900, 0, 0.5, "1s"),
        ] {
            let wait_levels = wait_levels();
            let level = wait_levels.level_around(secs(wait), secs(latest), jitter);
            assert_eq!(level.label(), label, "{wait} s, at most {latest} s, {jitter}");
        }
    }

    #[test]
    fn labels_have_no_blanks_and_say_the_whole_duration() {
        assert_eq!(WaitLevel::new(secs(90)).label(), "1m30s");
        assert_eq!(WaitLevel::new(Duration::from_millis(250)).label(), "250ms");
    }

    #[test]
    fn wait_levels_are_sorted_and_there_is_one_at_least() {
        let wait_levels = WaitLevels::new(&[secs(5), secs(1), secs(5)]).expect("levels");
        assert_eq!(wait_levels.levels().map(WaitLevel::label).collect::<Vec<_>>(), ["1s", "5s"]);
        assert_eq!(WaitLevels::new(&[]), None);
    }

    proptest! {
        #[test]
        fn no_level_ends_after_the_latest_moment_unless_it_is_the_smallest(wait in 0..1000u64, latest in 0..1000u64) {
            let wait_levels = wait_levels();
            let level = wait_levels.level_for(secs(wait), secs(latest));
            prop_assert!(level.ttl() <= secs(latest) || level.ttl() == secs(1));
        }
    }
}
