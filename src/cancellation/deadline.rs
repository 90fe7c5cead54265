use std::time::Duration;

use time::OffsetDateTime;
use time::macros::datetime;

/// The last time that RFC 3339 can write.
pub const LAST: OffsetDateTime = datetime!(9999-12-31 23:59:59.999999999 UTC);

/// What a request says of its deadline, which is the earlier of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlineTerms {
    /// A time of day.
    pub at: Option<OffsetDateTime>,
    /// From when the request was first seen.
    pub timeout: Duration,
}

impl DeadlineTerms {
    /// When an answer is given whatever is known by then.
    #[must_use]
    pub fn deadline(&self, first_seen: OffsetDateTime) -> OffsetDateTime {
        let timeout = time::Duration::try_from(self.timeout).unwrap_or(time::Duration::MAX);
        let after = first_seen.checked_add(timeout).unwrap_or(LAST).min(LAST);
        self.at.map_or(after, |at| at.min(after))
    }
}

/// Why the times of a progress are not the true ones: they are by a clock that may be wrong, since no call has been answered
/// that tells. By that clock alone they are right, and so is what is left until the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provisional {
    /// By how much the clock was being corrected then.
    pub correction: time::Duration,
    /// The true ones.
    pub truth: TrueTimes,
}

/// How the true times of a request are found, once the clock is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrueTimes {
    /// A worker whose clock was right wrote them: to get there, all times move by this.
    Written(time::Duration),
    /// The request was first seen when this clock says, corrected, and its deadline is reckoned from there.
    Reckoned(DeadlineTerms),
}
