use std::path::Path;

use super::redact::{HIDDEN, may_hold_login};

/// What is told where the name of a file was wanted; see [`is_content`].
pub(super) const NO_FILE_NAME: &str = "it must be the name of a file, and is what belongs into the file";

/// What file systems allow a name to have, in bytes.
const MAX_FILE_NAME: usize = 255;

/// Whether what was given for a file's name is rather what belongs into the file: a URI, a key, a long token.
pub(super) fn is_content(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let is_text = text.contains(['\n', '\r']) || text.trim_start().starts_with('{') || text.contains("-----BEGIN");
    is_text || may_hold_login(&text) || text.split('/').any(|name| name.len() > MAX_FILE_NAME)
}

/// A file's name for an error about the file; hidden where a secret was given for it.
#[must_use]
pub fn shown_file(path: &Path) -> String {
    if is_content(path) { HIDDEN.to_owned() } else { path.display().to_string() }
}
