use std::fmt;

/// Which of the two queues a delivery comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Requests, from upstream.
    Requests,
    /// Follow-ups, back from a wait queue.
    Followups,
}

impl Source {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Requests, Self::Followups];

    /// The word in labels and consumer tags.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Followups => "followups",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
