//! The intervals and wait levels in `src/README.md` are those of the settings as they come.

use std::time::Duration;

use cancel_worker::broker::WaitLevels;
use cancel_worker::settings::{self, Settings};
use cancel_worker::worker;

use crate::markdown::{quoted, read, table};

fn defaults() -> Settings {
    settings::load(&[], &[]).unwrap().settings
}

/// `0.2s`, `90s`, `1h`.
pub fn duration(text: &str) -> Duration {
    match text.strip_suffix('s').and_then(|seconds| seconds.parse().ok()) {
        Some(seconds) => Duration::from_secs_f64(seconds),
        None => humantime::parse_duration(text).unwrap_or_else(|error| panic!("{text}: {error}")),
    }
}

#[test]
fn the_intervals_of_retries_and_polls_are_those_of_the_policy() {
    let policy = worker::policy(&defaults()).unwrap();
    let rows = table(&read("src/README.md"), "| wait | 1st |");
    for (row, backoff) in rows.iter().zip([&policy.retry, &policy.polling]) {
        let (last, first) = row[1..].split_last().unwrap();
        for (attempt, cell) in (0..).zip(first) {
            assert_eq!(duration(cell), backoff.delay(attempt), "{row:?}");
        }
        assert_eq!(duration(last), backoff.longest(), "{row:?}");
    }
}

#[test]
fn a_backoff_waits_at_the_level_that_the_table_says() {
    let levels = WaitLevels::of(&defaults().amqp.topology).unwrap();
    for row in table(&read("src/README.md"), "| wait | wait level |") {
        let level = levels.level_near(duration(&row[0]), Duration::MAX);
        assert_eq!(quoted(&row[1]), [level.label()], "{row:?}");
    }
}
