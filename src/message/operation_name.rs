use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of an operation: `projects/*/locations/*/operations/*` or `projects/*/operations/*`, where each `*` is one
/// segment that is not empty, `.` or `..` and holds no control character. It can be put into a URL safely once its
/// segments are percent-encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OperationName(String);

/// Longest accepted name, in bytes.
const MAX_BYTES: usize = 1024;

/// Why a string is no operation name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOperationName {
    /// No name at all.
    #[error("the operation's name is empty")]
    Empty,
    /// Longer than any real name.
    #[error("the operation's name is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Not one of the two forms.
    #[error("the operation's name is not of the form projects/*/locations/*/operations/* or projects/*/operations/*")]
    Form,
    /// A segment that would change the URL it is put into.
    #[error("the operation's name has a segment that is empty, '.' or '..', or has a control character")]
    Segment,
}

impl OperationName {
    /// Reads a name.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(name: impl Into<String>) -> Result<Self, InvalidOperationName> {
        let name = name.into();
        if name.is_empty() {
            return Err(InvalidOperationName::Empty);
        }
        if name.len() > MAX_BYTES {
            return Err(InvalidOperationName::TooLong);
        }
        let segments: Vec<&str> = name.split('/').collect();
        match segments.as_slice() {
            ["projects", project, "locations", location, "operations", id] => {
                check_segments(&[project, location, id])?;
            }
            ["projects", project, "operations", id] => check_segments(&[project, id])?,
            _ => return Err(InvalidOperationName::Form),
        }
        Ok(Self(name))
    }

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The project.
    #[must_use]
    pub fn project(&self) -> &str {
        self.0.split('/').nth(1).unwrap_or_default()
    }

    /// The location, if the name has one.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        let mut segments = self.0.split('/').skip(2);
        (segments.next() == Some("locations")).then(|| segments.next()).flatten()
    }
}

fn check_segments(segments: &[&str]) -> Result<(), InvalidOperationName> {
    let bad = |segment: &&str| {
        segment.is_empty() || *segment == "." || *segment == ".." || segment.chars().any(char::is_control)
    };
    if segments.iter().any(bad) {
        return Err(InvalidOperationName::Segment);
    }
    Ok(())
}

impl TryFrom<String> for OperationName {
    type Error = InvalidOperationName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::parse(name)
    }
}

impl From<OperationName> for String {
    fn from(name: OperationName) -> Self {
        name.0
    }
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_names_and_tell_their_location() {
        let with = OperationName::parse("projects/p/locations/us-central1/operations/o").expect("a name");
        assert_eq!((with.project(), with.location()), ("p", Some("us-central1")));
        let without = OperationName::parse("projects/p/operations/o").expect("a name");
        assert_eq!(without.location(), None);
    }

    #[test]
    fn what_is_not_a_name_is_refused_with_the_reason() {
        use InvalidOperationName::{Empty, Form, Segment, TooLong};
        for (name, why) in [
            ("", Empty),
            ("operations/o", Form),
            ("projects/p/locations/l/operations", Form),
            ("projects/p/locations/l/operations/o/extra", Form),
            ("projects/p/locations/l/operations/o:cancel/..", Form),
            ("/projects/p/operations/o", Form),
            ("projects//operations/o", Segment),
            ("projects/p/locations/../operations/o", Segment),
            ("projects/p/operations/.", Segment),
            ("projects/p/operations/a\nb", Segment),
            ("Projects/p/operations/o", Form),
        ] {
            assert_eq!(OperationName::parse(name), Err(why), "{name:?}");
        }
        let long = format!("projects/p/operations/{}", "o".repeat(MAX_BYTES));
        assert_eq!(OperationName::parse(long), Err(TooLong));
    }

    proptest! {
        #[test]
        fn any_string_is_refused_or_kept_as_it_is(text in ".*") {
            if let Ok(name) = OperationName::parse(text.clone()) {
                prop_assert_eq!(name.as_str(), text);
            }
        }
    }
}
