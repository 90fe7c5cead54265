use super::outcome::{ErrorDetail, Outcome};
use super::policy::Policy;
use super::progress::Progress;
use super::reply::Reply;
use std::time::Duration;
use time::OffsetDateTime;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Call `POST …:cancel` now.
    Cancel,
    /// Call `GET …` now.
    Get,
    /// Wait this long, then [`resume`].
    Wait(Duration),
    /// Answer the request.
    Finish(Conclusion),
}

/// The answer, once it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conclusion {
    /// One of the four.
    pub outcome: Outcome,
    /// For *failed* the cause; for *completed* the operation's own error, if it has one.
    pub error: Option<ErrorDetail>,
}
/// placeholder
pub fn resume(_p: &Progress, _now: OffsetDateTime) -> Step {
    Step::Cancel
}
/// placeholder
pub fn next_step(p: Progress, _r: Reply, _now: OffsetDateTime, _dice: f64, _policy: &Policy) -> (Progress, Step) {
    (p, Step::Cancel)
}
