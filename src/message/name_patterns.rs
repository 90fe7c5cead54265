use std::sync::Arc;

use super::name_pattern::{NamePattern, NotAdmitted};
use super::operation_name::{InvalidOperationName, OperationName, check_length};

/// The forms that the names of a service's operations have, such as `projects/*/locations/*/operations/*`: `*` is one
/// segment, `**` (only as the last) one or more. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePatterns(Arc<[NamePattern]>);

/// A pattern that is none, or no pattern at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Nothing would be admitted.
    #[error("at least one pattern is needed, such as \"projects/*/locations/*/operations/*\"")]
    None,
    /// One of them.
    #[error(
        "{0:?} is no pattern such as \"projects/*/locations/*/operations/*\": segments are words of letters, digits, '-', '_' and '.', \"*\" for any one, or \"**\" for the rest; the first is a word, and not all are"
    )]
    Form(String),
}

impl NamePatterns {
    /// Reads patterns.
    ///
    /// # Errors
    /// Names the one that is no pattern.
    pub fn new(texts: Vec<String>) -> Result<Self, InvalidPattern> {
        if texts.is_empty() {
            return Err(InvalidPattern::None);
        }
        let read = |text: String| NamePattern::read(&text).ok_or(InvalidPattern::Form(text));
        Ok(Self(texts.into_iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Reads the name that somebody gives: one that is admitted and safe.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(&self, name: &str) -> Result<OperationName, InvalidOperationName> {
        check_length(name)?;
        self.admitting(name)?;
        OperationName::parse(name)
    }

    /// The location that a name says, if it says one: what stands for the `*` of `locations/*` in the first pattern that
    /// admits it. Nothing else in a name is ever taken for a location.
    ///
    /// # Errors
    /// No pattern admits the name.
    pub fn locate<'n>(&self, name: &'n OperationName) -> Result<Option<&'n str>, NotAdmitted> {
        let at = self.admitting(name.as_str())?.location;
        Ok(at.and_then(|at| name.as_str().split('/').nth(at)))
    }

    /// The name of no operation: by the first pattern that has a location, or has none, as asked for. `word` stands for
    /// all else. `None` if there is no such pattern, or no such name.
    #[must_use]
    pub fn sample_name(&self, location: Option<&str>, word: &str) -> Option<OperationName> {
        let pattern = self.0.iter().find(|pattern| pattern.location.is_some() == location.is_some())?;
        let mut segments: Vec<&str> = pattern.fixed.iter().map(|fixed| fixed.as_deref().unwrap_or(word)).collect();
        if let (Some(at), Some(location)) = (pattern.location, location) {
            segments[at] = location;
        }
        segments.extend(pattern.rest.then_some(word));
        self.parse(&segments.join("/")).ok()
    }

    fn admitting(&self, name: &str) -> Result<&NamePattern, NotAdmitted> {
        self.0.iter().find(|pattern| pattern.admits(name)).ok_or_else(|| NotAdmitted(Arc::clone(&self.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns(texts: &[&str]) -> NamePatterns {
        NamePatterns::new(texts.iter().map(|text| (*text).to_owned()).collect()).expect("patterns")
    }

    const BOTH: [&str; 2] = ["projects/*/locations/*/operations/*", "projects/*/operations/*"];

    #[test]
    fn a_name_is_admitted_by_the_first_pattern_of_its_form_which_tells_its_location() {
        let patterns = patterns(&[BOTH[0], BOTH[1], "operations/**", "projects/*/locations/*/models/*/operations/*"]);
        for (name, location) in [
            ("projects/p/locations/us-central1/operations/o", Some("us-central1")),
            ("projects/p/operations/o", None),
            ("projects/locations/operations/o", None),
            ("projects/p/locations/l/models/m/operations/o", Some("l")),
            ("operations/o", None),
            // Within `**` nothing is a location.
            ("operations/projects/p/locations/evil/operations/o", None),
        ] {
            let name = patterns.parse(name).expect(name);
            assert_eq!(patterns.locate(&name), Ok(location), "{name}");
        }
        for name in [
            "operations",
            "Projects/p/operations/o",
            "projects/p/operations/o/extra",
            "projects/p/locations/l/operations",
            "projects/p/locations/l/datasets/d/operations/o",
        ] {
            assert!(matches!(patterns.parse(name), Err(InvalidOperationName::NotAdmitted(_))), "{name}");
        }
        for name in ["operations/", "projects//operations/o", "projects/p/operations/..", "operations/a/./b"] {
            assert_eq!(patterns.parse(name), Err(InvalidOperationName::Segment), "{name}");
        }
        assert_eq!(patterns.parse(""), Err(InvalidOperationName::Empty));
    }

    #[test]
    fn a_refusal_says_which_forms_there_are() {
        let refusal = |texts: &[&str]| patterns(texts).parse("x").expect_err("not admitted").to_string();
        assert_eq!(refusal(&BOTH[..1]), "the operation's name is not of the form projects/*/locations/*/operations/*");
        assert_eq!(
            refusal(&BOTH),
            "the operation's name is not of the form projects/*/locations/*/operations/* or projects/*/operations/*"
        );
        assert_eq!(
            refusal(&["a/*", "b/*", "c/*", "d/*"]),
            "the operation's name is not of the form a/*, b/*, c/* or d/*"
        );
        assert_eq!(
            refusal(&["a/*", "b/*", "c/*", "d/*", "e/**"]),
            "the operation's name is not of the form a/*, b/*, c/* or one of 2 others"
        );
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        for text in ["", "*", "**", "operations", "/operations/*", "operations//*", "operations/*/", "operations/../*"]
        {
            assert_eq!(NamePatterns::new(vec![text.into()]), Err(InvalidPattern::Form(text.into())));
        }
        for text in ["operations/**/o", "operations/o*", "operations/{id}", "*/operations/*", "operations/a**", "a b/*"]
        {
            assert_eq!(NamePatterns::new(vec![text.into()]), Err(InvalidPattern::Form(text.into())));
        }
        assert_eq!(NamePatterns::new(Vec::new()), Err(InvalidPattern::None));
    }

    #[test]
    fn a_name_is_made_up_by_a_pattern_with_or_without_a_location() {
        let name = |texts: &[&str], location| patterns(texts).sample_name(location, "w").map(String::from);
        assert_eq!(name(&BOTH, Some("eu")).as_deref(), Some("projects/w/locations/eu/operations/w"));
        assert_eq!(name(&BOTH, None).as_deref(), Some("projects/w/operations/w"));
        assert_eq!(name(&["operations/**"], None).as_deref(), Some("operations/w"));
        assert_eq!(name(&["operations/**"], Some("eu")), None);
        assert_eq!(name(&BOTH[..1], Some("../eu")), None);
    }

    proptest! {
        #[test]
        fn any_string_is_refused_or_admitted_as_it_is(
            text in ".*|operations/.*|projects/[^/]*/operations/[^/]*",
            pattern in "[a-z*/.]{1,12}",
        ) {
            let both = patterns(&[BOTH[1], "operations/**"]);
            if let Ok(name) = both.parse(&text) {
                prop_assert_eq!(name.as_str(), text);
                prop_assert!(both.locate(&name).is_ok());
            }
            if let Ok(patterns) = NamePatterns::new(vec![pattern]) {
                prop_assert!(patterns.sample_name(None, "w").is_some() || patterns.sample_name(Some("l"), "w").is_some());
            }
        }
    }
}
