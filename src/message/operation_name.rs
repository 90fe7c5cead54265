use std::fmt;

use serde::{Deserialize, Serialize};

use super::name_pattern::NotAdmitted;

/// The name of an operation: segments with `/` between them, none of which is empty, `.` or `..` or holds a control
/// character; at most 1,024 bytes in all. So it can be put into a URL safely once its segments are percent-encoded.
/// Whether a service has operations of such a name, [`NamePatterns`](super::NamePatterns) say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OperationName(String);

/// Longest accepted name, in bytes.
const MAX_BYTES: usize = 1024;

/// Why a string is no operation name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOperationName {
    /// No name at all.
    #[error("the operation's name is empty")]
    Empty,
    /// Longer than any real name.
    #[error("the operation's name is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// No pattern admits it.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
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
        check_length(&name)?;
        let bad = |segment: &str| {
            segment.is_empty() || segment == "." || segment == ".." || segment.chars().any(char::is_control)
        };
        if name.split('/').any(bad) {
            return Err(InvalidOperationName::Segment);
        }
        Ok(Self(name))
    }

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The operation's own id: the last segment.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The project; empty where the name does not begin with one.
    #[must_use]
    pub fn project(&self) -> &str {
        let project = self.0.strip_prefix("projects/").and_then(|rest| rest.split('/').next());
        project.unwrap_or_default()
    }
}

/// What is wrong with a name whatever it is made of.
pub(super) fn check_length(name: &str) -> Result<(), InvalidOperationName> {
    match name.len() {
        0 => Err(InvalidOperationName::Empty),
        length if length > MAX_BYTES => Err(InvalidOperationName::TooLong),
        _ => Ok(()),
    }
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
    fn the_project_is_what_the_name_begins_with() {
        let project = |name: &str| OperationName::parse(name).expect("a name").project().to_owned();
        assert_eq!(project("projects/p/locations/us-central1/operations/o"), "p");
        assert_eq!(project("operations/o"), "");
    }

    #[test]
    fn what_could_change_a_url_is_refused_with_the_reason() {
        use InvalidOperationName::{Empty, Segment, TooLong};
        for (name, why) in [
            ("", Empty),
            ("/", Segment),
            ("/projects/p/operations/o", Segment),
            ("operations/o/", Segment),
            ("projects//operations/o", Segment),
            ("projects/p/locations/../operations/o", Segment),
            ("projects/p/operations/.", Segment),
            ("operations/o:cancel/..", Segment),
            ("projects/p/operations/a\nb", Segment),
            ("operations/\u{85}", Segment),
        ] {
            assert_eq!(OperationName::parse(name), Err(why), "{name:?}");
        }
        assert_eq!(OperationName::parse("o".repeat(MAX_BYTES + 1)), Err(TooLong));
        assert!(OperationName::parse("o".repeat(MAX_BYTES)).is_ok());
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
