use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::reader::ReadLetter;
use crate::cancellation::Reason;

/// Longest detail in a table, in characters.
const MAX_DETAIL: usize = 80;

/// The first characters of an id that are shown in a table, and suffice to name a letter.
const SHORT_ID: usize = 8;

impl ReadLetter {
    /// What `--json` shows of it.
    pub(super) fn json(&self) -> Value {
        let Self { place, raw, letter } = self;
        json!({
            "place": place,
            "id": letter.id.to_string(),
            "time": letter.time.and_then(|time| time.format(&Rfc3339).ok()),
            "reason": letter.reason(),
            "failed_reason": letter.failed.map(Reason::as_str),
            "answered": letter.is_answered(),
            "name": letter.name(),
            "identity": letter.identity(),
            "worker": letter.worker,
            "replay": letter.replay,
            "detail": letter.detail,
            "bytes": raw.content.envelope().body.len(),
        })
    }

    /// A line of the table: [`HEADINGS`].
    pub(super) fn cells(&self, now: OffsetDateTime) -> [String; 8] {
        let Self { place, letter, .. } = self;
        let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let detail = letter.detail.as_deref().unwrap_or("-").replace(['\n', '\r', '\t'], " ");
        [
            place.to_string(),
            letter.id.to_string().chars().take(SHORT_ID).collect(),
            letter.time.map_or_else(|| "-".to_owned(), |time| age(now - time)),
            letter.reason().to_owned(),
            letter.replay.to_string(),
            or_dash(letter.identity()),
            or_dash(letter.name()),
            detail.chars().take(MAX_DETAIL).collect(),
        ]
    }
}

/// Of a table of letters.
pub(super) const HEADINGS: [&str; 8] = ["#", "id", "age", "reason", "replay", "identity", "name", "detail"];

/// Of the largest unit, such as `3h`.
fn age(span: time::Duration) -> String {
    let seconds = span.whole_seconds().max(0);
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length);
    unit.map_or_else(|| format!("{seconds}s"), |(length, unit)| format!("{}{unit}", seconds / length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_of_the_largest_unit() {
        assert_eq!(
            [59, 60, 7200, 200_000].map(|seconds| age(time::Duration::seconds(seconds))),
            ["59s", "1m", "2h", "2d"]
        );
    }
}
