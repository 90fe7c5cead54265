use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::deadline::{DeadlineTerms, LAST, Provisional, TrueTimes};
use super::outcome::{ErrorDetail, Reason};

/// No request is older, by far.
const MAX_AGE: Duration = Duration::from_hours(24 * 3660);

/// Where one cancellation stands: all that has to survive a wait, a crash or a change of worker.
///
/// Failures and polls are counted apart: waiting is not failing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// Which call is being made, and what its answer will mean.
    #[serde(flatten)]
    pub phase: Phase,
    /// When a worker first read the request.
    #[serde(with = "time::serde::rfc3339")]
    pub first_seen: OffsetDateTime,
    /// When an answer is given whatever is known by then.
    #[serde(with = "time::serde::rfc3339")]
    pub deadline: OffsetDateTime,
    /// What is still to be waited before the next call, after the wait queue it comes from. A duration, not a time:
    /// the clocks of two workers need not agree.
    #[serde(default, rename = "wait_left_ms", with = "milliseconds", skip_serializing_if = "Duration::is_zero")]
    pub wait_left: Duration,
    /// How long ago the request was first seen, once it comes back from its wait: so that what is left until its deadline
    /// is known to a worker whose clock is wrong, too. None: the worker that wrote it did not say.
    #[serde(default, rename = "age_ms", with = "optional_milliseconds", skip_serializing_if = "Option::is_none")]
    pub age: Option<Duration>,
    /// The times are by a clock that may be wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unconfirmed: bool,
    /// The same in the worker that has it in hand.
    #[serde(skip)]
    pub provisional: Option<Provisional>,
    /// When the service accepted the cancel.
    #[serde(with = "time::serde::rfc3339::option", default, skip_serializing_if = "Option::is_none")]
    pub accepted_at: Option<OffsetDateTime>,
    /// Calls made so far, for the result event.
    #[serde(default)]
    pub calls: Calls,
    /// Transient failures since the last useful answer: they choose the retry interval.
    #[serde(default)]
    pub failures: u32,
    /// The last call that was made found the endpoint unavailable.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found_unavailable: bool,
    /// When the service first refused it, in a row of refusals.
    #[serde(with = "time::serde::rfc3339::option", default, skip_serializing_if = "Option::is_none")]
    pub refused_since: Option<OffsetDateTime>,
    /// Refusals in a row of a project that nobody has seen work, by an endpoint that works for others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub foreign: u32,
    /// Conflicts answered to the cancel: their retries are limited.
    #[serde(default)]
    pub conflicts: u32,
    /// "Not done yet" answers: they choose the poll interval.
    #[serde(default)]
    pub polls: u32,
    /// NOT_FOUND answers in a row: of cancel and get both, or of the get after the cancel was accepted.
    #[serde(default)]
    pub not_found: u32,
    /// Answers in a row that could not be decoded.
    #[serde(default)]
    pub undecodable: u32,
    /// The last answer was 401, or there was no token, and the call is repeated with renewed credentials.
    #[serde(default)]
    pub renewed: bool,
    /// The last failure, for the event if nothing better is learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ErrorDetail>,
    /// The operation as last seen. Not part of the serialized form: a follow-up carries it beside, bounded.
    #[serde(skip)]
    pub operation: Option<Arc<RawValue>>,
}

/// The states of a cancellation that is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// The cancel has not been accepted yet.
    Cancelling,
    /// The cancel was refused or its time is up: one get decides between the operation's own end and this failure.
    Verifying {
        /// What the answer will be unless the operation turns out to be done.
        reason: Reason,
        /// The answer that led here.
        error: ErrorDetail,
    },
    /// The cancel was accepted: get until the operation is done.
    Polling,
}

/// How often each call was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// `POST …:cancel`.
    pub cancel: u32,
    /// `GET …`.
    pub get: u32,
}

impl Phase {
    /// The words in the serialized form.
    pub const WORDS: [&'static str; 3] = ["cancelling", "verifying", "polling"];
}

impl Progress {
    /// A request that was just read.
    #[must_use]
    pub fn new(first_seen: OffsetDateTime, deadline: OffsetDateTime) -> Self {
        Self {
            phase: Phase::Cancelling,
            first_seen,
            deadline,
            wait_left: Duration::ZERO,
            age: None,
            unconfirmed: false,
            provisional: None,
            accepted_at: None,
            calls: Calls::default(),
            failures: 0,
            found_unavailable: false,
            refused_since: None,
            foreign: 0,
            conflicts: 0,
            polls: 0,
            not_found: 0,
            undecodable: 0,
            renewed: false,
            last_error: None,
            operation: None,
        }
    }

    /// A request that was just read, by a clock that may be wrong and is being corrected by so much.
    #[must_use]
    pub fn begin(first_seen: OffsetDateTime, correction: time::Duration, terms: DeadlineTerms) -> Self {
        let provisional = Provisional { correction, truth: TrueTimes::Reckoned(terms) };
        Self { provisional: Some(provisional), ..Self::new(first_seen, terms.deadline(first_seen)) }
    }

    /// It has come back from a wait. Its times become those of this worker's clock: the request was first seen as long ago
    /// as the worker that wrote them says.
    pub fn come_back(&mut self, now: OffsetDateTime, correction: time::Duration, terms: DeadlineTerms) {
        // A longer one is nobody's, and could not be reckoned with.
        let Some(age) = self.age.take().filter(|age| *age <= MAX_AGE) else { return };
        let moved = now.saturating_sub(age.try_into().unwrap_or_default()) - self.first_seen;
        self.move_by(moved);
        let truth = if self.unconfirmed { TrueTimes::Reckoned(terms) } else { TrueTimes::Written(-moved) };
        self.provisional = Some(Provisional { correction, truth });
    }

    /// The clock is right, and corrected by so much.
    pub fn confirm(&mut self, correction: time::Duration) {
        let Some(Provisional { correction: before, truth }) = self.provisional.take() else { return };
        self.unconfirmed = false;
        match truth {
            TrueTimes::Written(back) => self.move_by(back),
            TrueTimes::Reckoned(terms) => {
                self.move_by(correction - before);
                self.deadline = terms.deadline(self.first_seen);
            }
        }
    }

    /// It goes on after a wait of that long, in whichever worker takes it then.
    pub fn wait_for(&mut self, wait: Duration, now: OffsetDateTime) {
        self.age = Some(Duration::try_from(now - self.first_seen).unwrap_or_default() + wait);
        match self.provisional.take().map(|provisional| provisional.truth) {
            Some(TrueTimes::Written(back)) => self.move_by(back),
            Some(TrueTimes::Reckoned(_)) => self.unconfirmed = true,
            None => self.unconfirmed = false,
        }
    }

    /// Its time is over, by any clock.
    pub fn expire(&mut self) {
        self.deadline = OffsetDateTime::UNIX_EPOCH;
        self.provisional = None;
        self.unconfirmed = false;
    }

    fn move_by(&mut self, by: time::Duration) {
        self.first_seen = self.first_seen.saturating_add(by).min(LAST);
        self.deadline = self.deadline.saturating_add(by).min(LAST);
        for at in [&mut self.accepted_at, &mut self.refused_since].into_iter().flatten() {
            *at = at.saturating_add(by).min(LAST);
        }
    }

    /// What is left until the deadline; zero when it has passed.
    #[must_use]
    pub fn time_left(&self, now: OffsetDateTime) -> Duration {
        Duration::try_from(self.deadline - now).unwrap_or_default()
    }

    /// Whether the next call repeats one that found the endpoint unavailable. It may be this operation alone that does, so
    /// a circuit breaker prefers others as probes.
    #[must_use]
    pub const fn is_retry(&self) -> bool {
        self.found_unavailable
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives it so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

mod optional_milliseconds {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde gives it so")]
    pub(super) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        super::milliseconds::serialize(&duration.unwrap_or_default(), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        super::milliseconds::deserialize(deserializer).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const TRUE_START: OffsetDateTime = datetime!(2026-01-31 12:00 UTC);
    const MINUTE: Duration = Duration::from_secs(60);
    /// A clock that is two hours ahead, and one that is an hour behind.
    const AHEAD: time::Duration = time::Duration::hours(2);
    const BEHIND: time::Duration = time::Duration::hours(-1);

    const IN_TEN_MINUTES: DeadlineTerms = DeadlineTerms { at: None, timeout: Duration::from_secs(600) };
    const AT_TEN_PAST: DeadlineTerms =
        DeadlineTerms { at: Some(datetime!(2026-01-31 12:10 UTC)), timeout: Duration::from_secs(3600) };

    /// What comes to a worker of what waits: the times, and how long ago it was first seen.
    fn read_again(progress: &Progress) -> Progress {
        serde_json::from_str(&serde_json::to_string(progress).expect("JSON")).expect("a progress")
    }

    #[test]
    fn a_wrong_clock_is_corrected_by_the_first_answer_and_then_the_deadline_is_what_the_request_says() {
        for terms in [IN_TEN_MINUTES, AT_TEN_PAST] {
            for error in [AHEAD, BEHIND, time::Duration::ZERO] {
                let mut progress = Progress::begin(TRUE_START + error, time::Duration::ZERO, terms);
                progress.confirm(-error);
                assert_eq!((progress.first_seen, progress.deadline), (TRUE_START, TRUE_START + 10 * MINUTE));
                progress.confirm(time::Duration::HOUR);
                assert_eq!(progress.first_seen, TRUE_START, "once");
            }
        }
    }

    #[test]
    fn what_is_left_until_the_deadline_is_the_same_to_a_worker_whose_clock_is_wrong() {
        let mut progress = Progress::begin(TRUE_START, time::Duration::ZERO, IN_TEN_MINUTES);
        progress.confirm(time::Duration::ZERO);
        progress.wait_for(3 * MINUTE, TRUE_START + MINUTE);
        assert!(!progress.unconfirmed);
        let back = TRUE_START + 4 * MINUTE;
        for error in [AHEAD, BEHIND] {
            let mut read = read_again(&progress);
            read.come_back(back + error, time::Duration::ZERO, IN_TEN_MINUTES);
            assert_eq!(read.time_left(back + error), 6 * MINUTE);
            let mut unanswered = read.clone();
            unanswered.wait_for(MINUTE, back + error);
            assert_eq!((unanswered.first_seen, unanswered.age), (TRUE_START, Some(5 * MINUTE)), "as it was written");
            read.confirm(-error);
            assert_eq!((read.first_seen, read.deadline), (TRUE_START, TRUE_START + 10 * MINUTE));
        }
    }

    #[test]
    fn an_age_that_nobody_can_have_is_none() {
        for age in ["1e3", "18446744073709551615", "400000000000"] {
            let text = serde_json::to_string(&Progress::new(TRUE_START, TRUE_START + MINUTE)).expect("JSON");
            let text = text.replacen('{', &format!("{{\"age_ms\":{age},"), 1);
            let Ok(mut read) = serde_json::from_str::<Progress>(&text) else { continue };
            read.come_back(TRUE_START, time::Duration::ZERO, IN_TEN_MINUTES);
            assert_eq!((read.first_seen, read.provisional), (TRUE_START, None));
        }
    }

    #[test]
    fn what_has_expired_has_no_time_left_by_any_clock() {
        let mut progress = Progress::begin(TRUE_START + AHEAD, time::Duration::ZERO, IN_TEN_MINUTES);
        progress.expire();
        progress.wait_for(MINUTE, TRUE_START + AHEAD);
        for error in [AHEAD, BEHIND, time::Duration::ZERO] {
            let (mut read, now) = (read_again(&progress), TRUE_START + MINUTE + error);
            read.come_back(now, time::Duration::ZERO, IN_TEN_MINUTES);
            assert_eq!(read.time_left(now), Duration::ZERO);
            read.confirm(-error);
            assert_eq!(read.time_left(TRUE_START + MINUTE), Duration::ZERO);
        }
    }

    #[test]
    fn what_a_wrong_clock_wrote_is_reckoned_anew_by_a_right_one_and_by_another_wrong_one() {
        for terms in [IN_TEN_MINUTES, AT_TEN_PAST] {
            let mut written = Progress::begin(TRUE_START + AHEAD, time::Duration::ZERO, terms);
            written.wait_for(3 * MINUTE, TRUE_START + AHEAD + MINUTE);
            assert!(written.unconfirmed);
            for error in [BEHIND, time::Duration::ZERO] {
                let (mut read, now) = (read_again(&written), TRUE_START + 4 * MINUTE + error);
                read.come_back(now, time::Duration::ZERO, terms);
                let mut again = read.clone();
                again.wait_for(MINUTE, now);
                assert!(again.unconfirmed);
                read.confirm(-error);
                assert_eq!((read.first_seen, read.deadline), (TRUE_START, TRUE_START + 10 * MINUTE));
            }
        }
    }
}
