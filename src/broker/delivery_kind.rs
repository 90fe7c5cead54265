use std::fmt;

/// What a delivery is, and with it how its bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryKind {
    /// A request, from upstream.
    Request,
    /// A follow-up, back from a wait queue.
    FollowUp,
    /// A dead letter that had to wait for the dead queue; it has its headers.
    DeadLetter,
}

impl DeliveryKind {
    /// Header of what waits as it came, since it is no follow-up: says what it is. Only the worker writes to where it is read.
    pub const HEADER: &'static str = "cancel-worker-kind";

    /// The word in the header and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::FollowUp => "followup",
            Self::DeadLetter => "dead_letter",
        }
    }

    /// What a message on its way back from a wait queue is, by its header, if it has one.
    #[must_use]
    pub fn of_header(value: Option<&str>) -> Self {
        [Self::Request, Self::DeadLetter]
            .into_iter()
            .find(|kind| value == Some(kind.as_str()))
            .unwrap_or(Self::FollowUp)
    }
}

impl fmt::Display for DeliveryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_a_follow_up_unless_its_header_says_otherwise() {
        for kind in [DeliveryKind::Request, DeliveryKind::DeadLetter] {
            assert_eq!(DeliveryKind::of_header(Some(kind.as_str())), kind);
        }
        assert_eq!(DeliveryKind::of_header(None), DeliveryKind::FollowUp);
        assert_eq!(DeliveryKind::of_header(Some("something")), DeliveryKind::FollowUp);
    }
}
