use std::fmt;
use std::sync::Arc;

/// Stands for one segment.
const ONE: &str = "*";

/// Stands for one segment or more, at the end of a pattern.
const REST: &str = "**";

/// What stands before the location.
const LOCATIONS: &str = "locations";

/// So many patterns are shown to whoever gave a name that none admits.
const SHOWN: usize = 3;

/// One form of names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamePattern {
    pub(super) text: String,
    /// Before `**`, if the pattern ends with it. `None` is any segment.
    pub(super) fixed: Vec<Option<String>>,
    pub(super) rest: bool,
    /// Which segment is the location: the `*` of `locations/*`.
    pub(super) location: Option<usize>,
}

/// A name that no pattern admits. Says which patterns there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAdmitted(pub(super) Arc<[NamePattern]>);

impl NamePattern {
    /// Reads a pattern.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (before, rest) = match text.strip_suffix(REST) {
            Some(before) => (before.strip_suffix('/')?, true),
            None => (text, false),
        };
        let word = |segment: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            (!matches!(segment, "" | "." | "..") && segment.bytes().all(plain)).then(|| segment.to_owned())
        };
        let segment = |segment| if segment == ONE { Some(None) } else { word(segment).map(Some) };
        let fixed: Vec<Option<String>> = before.split('/').map(segment).collect::<Option<_>>()?;
        if fixed.first()?.is_none() || !(rest || fixed.contains(&None)) {
            return None;
        }
        let location = fixed.windows(2).position(|pair| pair[0].as_deref() == Some(LOCATIONS) && pair[1].is_none());
        Some(Self { text: text.to_owned(), fixed, rest, location: location.map(|at| at + 1) })
    }

    /// Whether a name has this form.
    pub(super) fn admits(&self, name: &str) -> bool {
        let mut segments = name.split('/');
        let fixed = self.fixed.iter().all(|fixed| match (fixed, segments.next()) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(word), Some(segment)) => word == segment,
        });
        fixed && segments.next().is_some() == self.rest
    }
}

impl fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the operation's name is not of the form ")?;
        let patterns = &self.0;
        let shown = if patterns.len() > SHOWN + 1 { SHOWN } else { patterns.len() };
        for (at, pattern) in patterns.iter().take(shown).enumerate() {
            let last = at + 1 == patterns.len();
            f.write_str(if at == 0 {
                ""
            } else if last {
                " or "
            } else {
                ", "
            })?;
            f.write_str(&pattern.text)?;
        }
        if shown < patterns.len() {
            write!(f, " or one of {} others", patterns.len() - shown)?;
        }
        Ok(())
    }
}

impl std::error::Error for NotAdmitted {}
