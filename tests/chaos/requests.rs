//! What upstream asks, and the answers that are true.

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Requests are for one location, where nothing else is said, and for this one where another endpoint is needed.
pub const OTHER_LOCATION: &str = "europe-west1";

pub const LOCATION: &str = "us-central1";

/// The scripts of sixteen neighbouring requests, each with its true answer: all outcomes, and all the ways to them (at once,
/// a wait in hand, a wait in a queue, a retry).
const MIX: [(&str, &str); 16] = [
    ("cancels", "cancelled"),
    ("completes", "completed"),
    ("cancels-50ms", "cancelled"),
    ("unimplemented", "unimplemented"),
    ("cancels", "cancelled"),
    ("cancels-2s", "cancelled"),
    ("cancels", "cancelled"),
    ("completes-300ms", "completed"),
    ("cancels", "cancelled"),
    ("flaky-1", "cancelled"),
    ("cancels", "cancelled"),
    ("denied", "failed: permission_denied"),
    ("cancels", "cancelled"),
    ("already-done", "completed"),
    ("cancels", "cancelled"),
    ("completes", "completed"),
];

/// The request with this number.
fn script(number: usize) -> (&'static str, &'static str) {
    MIX[number % MIX.len()]
}

/// Its identity, which is its operation's id too.
pub fn identity(number: usize) -> String {
    format!("{}-n{number}", script(number).0)
}

/// Which of so many requests has this identity.
pub fn number(of: &str, count: usize) -> Option<usize> {
    let number = of.rsplit_once("-n")?.1.parse().ok()?;
    (number < count && identity(number) == of).then_some(number)
}

/// The one true answer.
pub fn truth(number: usize) -> &'static str {
    script(number).1
}

/// How many cancels the first so many requests need: one each, and those with a retry two.
pub fn cancels(count: usize) -> usize {
    count + (0..count).filter(|number| script(*number).0 == "flaky-1").count()
}

/// Whether the service answers this request's first call with all there is to know.
pub fn is_prompt(identity: &str) -> bool {
    identity.starts_with("unimplemented-n") || identity.starts_with("denied-n")
}

/// The request, as it is published now: the time goes with it, and comes back in the event.
#[expect(clippy::disallowed_methods, reason = "to be compared with the times in events")]
pub fn body(number: usize, location: &str) -> Vec<u8> {
    let id = identity(number);
    let name = format!("projects/p/locations/{location}/operations/{id}");
    let published = OffsetDateTime::now_utc().format(&Rfc3339).unwrap();
    json!({ "name": name, "request_id": id, "context": { "published": published } }).to_string().into_bytes()
}
