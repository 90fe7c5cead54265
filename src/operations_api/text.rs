/// Longest text of a service that is handed on to people, in bytes.
pub(super) const MAX_MESSAGE_BYTES: usize = 1024;

/// Stands for what is secret.
pub(super) const HIDDEN: &str = "[hidden]";

/// Text for people: at most `limit` bytes, and no character that would break a line of a log or a header.
pub(super) fn printable(text: &str, limit: usize) -> String {
    let text = text.get(..text.floor_char_boundary(limit)).unwrap_or_default();
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// A body without the byte order mark that some put before their JSON.
pub(super) fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body)
}
