use time::OffsetDateTime;

use super::arguments::Filter;
use crate::cancellation::Reason;
use crate::message::Letter;

impl Filter {
    /// Whether a letter is meant. One whose time nobody knows is neither newer nor older than anything.
    pub(super) fn matches(&self, letter: &Letter, now: OffsetDateTime) -> bool {
        let is_one_of = |wanted: &[String], word: Option<&str>| {
            wanted.is_empty() || word.is_some_and(|word| wanted.iter().any(|wanted| wanted == word))
        };
        let age = letter.time.map(|time| now - time);
        let begins = |id: &String| letter.id.to_string().starts_with(id.as_str());
        is_one_of(&self.reasons, Some(letter.reason()))
            && is_one_of(&self.failed_reasons, letter.failed.map(Reason::as_str))
            && self.name.as_ref().is_none_or(|pattern| letter.name().is_some_and(|name| is_like(pattern, name)))
            && self.request_id.as_deref().is_none_or(|id| letter.identity() == Some(id))
            && self.newer_than.is_none_or(|span| age.is_some_and(|age| age < span))
            && self.older_than.is_none_or(|span| age.is_some_and(|age| age > span))
            && self.worker.as_ref().is_none_or(|worker| letter.worker.as_ref() == Some(worker))
            && self.id.as_ref().is_none_or(begins)
    }

    /// Whether letters of this reason are asked for by name.
    pub(super) fn names_reason(&self, reason: &str) -> bool {
        self.reasons.iter().any(|named| named == reason)
    }
}

/// Whether a text is like a pattern, in which `*` stands for anything.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some((_, after)) = text.split_once(part) else { return false };
        text = after;
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text) in
            [("a", "a"), ("*", ""), ("a*", "abc"), ("*c", "abc"), ("a*c*e", "abcde"), ("a**", "a"), ("*b*", "abc")]
        {
            assert!(is_like(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a", "ab"), ("a*", "ba"), ("*c", "abcd"), ("a*c*e", "abde"), ("ab*bc", "abc"), ("", "a")]
        {
            assert!(!is_like(pattern, text), "{pattern} {text}");
        }
    }
}
