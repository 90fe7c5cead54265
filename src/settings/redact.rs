//! No error and no list shows what may hold a password.

/// Whether a text may hold a login, whatever it was given for: then no error and no list shows it.
pub(super) fn may_hold_login(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let begins_like_a_uri = lower.contains("amqp:") || lower.contains("amqps:");
    begins_like_a_uri || text.rfind('@').is_some_and(|at| text[..at].contains(':'))
}

/// A text of others, for an error or a list; hidden where it may hold a login.
pub(super) fn unless_secret(text: String) -> String {
    if may_hold_login(&text) { HIDDEN.to_owned() } else { text }
}

/// A value in quotes, for an error or a list; hidden where it may hold a login.
pub(super) fn quoted(text: &str) -> String {
    if may_hold_login(text) { HIDDEN.to_owned() } else { format!("{text:?}") }
}

/// Stands for what may hold a password.
pub(super) const HIDDEN: &str = "(hidden: it may hold a password)";
