use std::fmt;

/// What is wrong with a message: one sentence for the person who sent it, which names the field and what is expected
/// there, and quotes only a little of what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::message) struct FieldError(pub(in crate::message) String);

/// Most bytes of a message that a sentence quotes.
const MAX_QUOTED: usize = 60;

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first problem that was met. What comes after it is still read, as far as it can be, but not complained about.
#[derive(Debug, Default)]
pub(in crate::message) struct FirstError(pub(in crate::message) Option<FieldError>);

impl FirstError {
    /// Keeps the problem if it is the first.
    pub(in crate::message) fn note(&mut self, problem: FieldError) {
        self.0.get_or_insert(problem);
    }

    /// The value, or `None` with the problem noted.
    pub(in crate::message) fn take<T>(&mut self, value: Result<T, FieldError>) -> Option<T> {
        value.map_err(|problem| self.note(problem)).ok()
    }
}

/// A text in quotation marks, cut short, with everything that does not print escaped.
pub(in crate::message) fn quoted(text: &str) -> String {
    let shown = cut(text, MAX_QUOTED);
    let escaped = shown.chars().fold(String::with_capacity(shown.len() + 4), |mut escaped, c| {
        match c {
            '"' | '\'' | '\\' => escaped.push(c),
            _ => escaped.extend(c.escape_debug()),
        }
        escaped
    });
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("\"{escaped}{more}\"")
}

/// The longest beginning of a text that has at most `limit` bytes and ends between two characters.
pub(in crate::message) fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quote_is_short_and_prints() {
        assert_eq!(quoted("plain \"words\""), "\"plain \"words\"\"");
        assert_eq!(quoted("a\nb\u{0}c\u{202e}d"), "\"a\\nb\\0c\\u{202e}d\"");
        assert_eq!(quoted(&"é".repeat(40)), format!("\"{}…\"", "é".repeat(30)));
    }

    proptest! {
        #[test]
        fn a_cut_is_a_beginning_within_the_limit(text in ".*", limit in 0_usize..200) {
            let cut = cut(&text, limit);
            prop_assert!(cut.len() <= limit && text.starts_with(cut));
            prop_assert!(cut.len() + 4 > limit || cut == text);
        }
    }
}
