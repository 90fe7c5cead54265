/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it has to be.
    Good,
    /// It may do harm.
    Warn,
    /// It does harm.
    Fail,
}

impl Severity {
    /// The word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at: what it is, why that matters, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about, in a word.
    pub part: &'static str,
    /// A sentence.
    pub what: String,
}

impl Diagnosis {
    pub(super) fn good(part: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Good, part, what: what.into() }
    }

    pub(super) fn warn(part: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Warn, part, what: what.into() }
    }

    pub(super) fn fail(part: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Fail, part, what: what.into() }
    }
}
