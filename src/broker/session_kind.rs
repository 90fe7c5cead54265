/// What a session is for. Each kind has connections of its own, so that the end of one touches nothing of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionKind {
    /// Takes requests and follow-ups.
    Work,
    /// Takes, one at a time, what was lost with sessions too often, or expired.
    Quarantine,
}

impl SessionKind {
    /// The word in names of connections and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Quarantine => "quarantine",
        }
    }
}
