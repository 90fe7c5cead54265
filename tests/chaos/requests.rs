//! What upstream asks, and the answers that are true.

use serde_json::json;

use crate::support::operation;

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

pub fn body(number: usize) -> Vec<u8> {
    let id = identity(number);
    json!({ "name": operation(&id), "request_id": id }).to_string().into_bytes()
}
