use std::error::Error;

/// What went wrong, from what was attempted to what the system said: the texts of an error and of its causes, each made
/// fit for people by `shown`. `None` if they say nothing.
pub(super) fn causes(error: &(dyn Error + 'static), shown: impl Fn(String) -> String) -> Option<String> {
    let mut joined = String::new();
    for cause in chain(error) {
        let text = shown(cause.to_string());
        // Some libraries repeat their cause in their own text.
        if !joined.contains(&text) {
            if !joined.is_empty() {
                joined.push_str(": ");
            }
            joined.push_str(&text);
        }
    }
    (!joined.is_empty()).then_some(joined)
}

/// An error and its causes, the deepest last.
pub(super) fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Self>>);

    fn told(texts: &[&'static str]) -> Option<String> {
        let mut texts = texts.iter().rev();
        let last = Link(texts.next().expect("a text"), None);
        let first = texts.fold(last, |cause, text| Link(text, Some(Box::new(cause))));
        causes(&first, |text| text.replace("s3cret", ""))
    }

    #[test]
    fn each_cause_is_told_once_and_one_without_a_text_not_at_all() {
        assert_eq!(told(&["connect", "refused"]).as_deref(), Some("connect: refused"));
        assert_eq!(
            told(&["connect: refused", "refused", "os error 111"]).as_deref(),
            Some("connect: refused: os error 111")
        );
        assert_eq!(told(&["a s3cretb", "", "s3cret", "c"]).as_deref(), Some("a b: c"));
        assert_eq!(told(&["", "s3cret"]), None);
    }
}
