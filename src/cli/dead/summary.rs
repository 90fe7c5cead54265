use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::json;

use super::arguments::Filter;
use super::explain::{Explained, explain};
use super::reader::Reader;
use crate::cancellation::Reason;
use crate::cli::exit::Exit;
use crate::cli::output::print;
use crate::cli::table::table;
use crate::message::{Letter, OperationName};
use crate::telemetry;
use crate::worker::now;

/// Ages by which letters are told apart, longest last, with their words.
const AGES: [(Duration, &str); 3] = [
    (Duration::from_secs(3600), "1h"),
    (Duration::from_secs(24 * 3600), "1d"),
    (Duration::from_secs(7 * 24 * 3600), "7d"),
];

/// Letters that were given up for the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    reason: String,
    failed: Option<&'static str>,
    is_answered: bool,
}

/// `dead summary`.
pub(super) async fn summary(
    reader: Reader<'_>,
    filter: &Filter,
    with_explanation: bool,
    as_json: bool,
) -> anyhow::Result<Exit> {
    let now = now();
    let mut groups = BTreeMap::<Group, [u64; AGES.len() + 2]>::new();
    let mut names = BTreeSet::<OperationName>::new();
    let mut chosen = 0;
    let (count, letters) = reader.letters(u32::MAX).await?;
    {
        let mut letters = pin!(letters);
        while let Some(read) = letters.next().await.transpose()? {
            let letter = &read.letter;
            if !filter.matches(letter, now) {
                continue;
            }
            chosen += 1;
            groups.entry(Group::of(letter)).or_default()[bucket(letter, now)] += 1;
            if with_explanation && let Some(request) = letter.request() {
                names.insert(request.name.clone());
            }
        }
    }
    // Nothing is held while the API is asked.
    let (queue, settings) = (reader.queue.name().to_owned(), reader.settings);
    reader.queue.close().await;
    let explained = if with_explanation { Some(explain(settings, names).await?) } else { None };
    if as_json {
        let groups: Vec<_> = groups.iter().map(|(group, counts)| group.json(counts)).collect();
        let explained = explained.as_ref().map(Explained::json);
        let whole =
            json!({ "queue": queue, "letters": count, "chosen": chosen, "groups": groups, "explained": explained });
        print(&format!("{whole}\n"))?;
    } else if groups.is_empty() {
        telemetry::print_line(&format!("cancel-worker: {chosen} of {count} letters of {queue} are meant"));
    } else {
        let rows: Vec<_> = groups.iter().map(|(group, counts)| group.cells(counts)).collect();
        print(&table(["letters", "reason", "<1h", "<1d", "<7d", "older", "age unknown", "what to do"], &rows))?;
        if let Some(explained) = &explained {
            print(&format!("\n{explained}\n"))?;
        }
    }
    Ok(Exit::Success)
}

fn bucket(letter: &Letter, now: time::OffsetDateTime) -> usize {
    let Some(time) = letter.time else { return AGES.len() + 1 };
    AGES.iter().position(|(age, _)| now - time < *age).unwrap_or(AGES.len())
}

impl Group {
    fn of(letter: &Letter) -> Self {
        Self {
            reason: letter.reason().to_owned(),
            failed: letter.failed.map(Reason::as_str),
            is_answered: letter.is_answered(),
        }
    }

    /// What to type for these letters.
    fn command(&self) -> String {
        let verb = if self.is_answered { "replay" } else { "answer" };
        let failed = self.failed.map(|reason| format!(" --failed-reason {reason}")).unwrap_or_default();
        format!("cancel-worker dead {verb} --reason {}{failed}", self.reason)
    }

    fn json(&self, counts: &[u64]) -> serde_json::Value {
        let words = AGES.iter().map(|(_, word)| *word).chain(["older", "unknown"]);
        let ages: BTreeMap<_, _> = words.zip(counts).collect();
        json!({ "reason": self.reason, "failed_reason": self.failed, "answered": self.is_answered, "letters": counts.iter().sum::<u64>(), "ages": ages, "command": self.command() })
    }

    fn cells(&self, counts: &[u64; AGES.len() + 2]) -> [String; 8] {
        let reason = self.failed.map_or_else(|| self.reason.clone(), |failed| format!("{}: {failed}", self.reason));
        let [hour, day, week, older, unknown] = counts.map(|count| count.to_string());
        [counts.iter().sum::<u64>().to_string(), reason, hour, day, week, older, unknown, self.command()]
    }
}
