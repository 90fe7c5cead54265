//! The decision table, row by row. Each test is one column of one row: an answer, and what must follow.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::macros::datetime;

use super::*;
use crate::pacing::Backoff;

pub(super) const START: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn policy() -> Policy {
    let second = Duration::from_secs(1);
    Policy {
        retry: Backoff::new(second, 2.0, 32 * second, 0.25).expect("valid"),
        polling: Backoff::new(second, 1.5, 20 * second, 0.2).expect("valid"),
        conflict_retries: 2,
        refusal_grace: 300 * second,
        last_call_timeout: 3 * second,
    }
}

pub(super) fn failure(kind: FailureKind) -> Reply {
    let error = ErrorDetail { code: Some(99), status: None, message: format!("{kind:?}") };
    Reply::Failure(Failure { kind, error, retry_after: None })
}

pub(super) fn operation(done: bool, error: Option<i32>) -> Reply {
    let error = error.map(|code| OperationStatus { code, message: "its own error".to_owned() });
    let resource: Arc<RawValue> = RawValue::from_string("{}".to_owned()).expect("JSON").into();
    Reply::Operation(Operation { done, error, resource })
}

fn not_done() -> Reply {
    operation(false, None)
}

/// A request read at START with an hour's time; calls take no time, waits take what was asked for.
struct TestEnv {
    progress: Progress,
    now: OffsetDateTime,
    step: Step,
}

impl TestEnv {
    fn begins() -> Self {
        let mut progress = Progress::new(START, START + HOUR);
        let step = resume(&mut progress);
        Self { progress, now: START, step }
    }

    fn accepted() -> Self {
        Self::begins().answered(Step::Cancel, Reply::Accepted)
    }

    /// Expects this call, after any wait, and answers it.
    fn answered(mut self, call: Step, reply: Reply) -> Self {
        if let Step::Wait(wait) = self.step {
            self.now += wait;
            self.step = resume(&mut self.progress);
        }
        assert_eq!(self.step, call);
        let (progress, step) = next_step(self.progress, reply, false, self.now, 0.0, &policy());
        Self { progress, now: self.now, step }
    }

    fn times(self, count: usize, call: &Step, reply: impl Fn() -> Reply) -> Self {
        (0..count).fold(self, |story, _| story.answered(call.clone(), reply()))
    }

    fn waits(self, seconds: f64) -> Self {
        assert_eq!(self.step, Step::Wait(Duration::from_secs_f64(seconds)));
        self
    }

    /// Time passes until this long before the deadline.
    fn until_before_deadline(mut self, left: Duration) -> Self {
        self.now = self.progress.deadline - left;
        self.step = resume(&mut self.progress);
        self
    }

    fn ends(self, outcome: Outcome) -> Option<ErrorDetail> {
        match self.step {
            Step::Finish(conclusion) => {
                assert_eq!(conclusion.outcome, outcome);
                conclusion.error
            }
            step => panic!("expected the end, {outcome:?}, but the next step is {step:?}"),
        }
    }

    fn fails(self, reason: Reason) {
        let error = self.ends(Outcome::Failed(reason));
        assert!(!error.expect("a failure has an error").message.is_empty());
    }
}

const TRANSIENT: [FailureKind; 2] = [FailureKind::Unavailable, FailureKind::RateLimited];

mod cancel {
    use super::*;

    #[test]
    fn success_is_followed_by_a_get_at_once() {
        let story = TestEnv::accepted();
        assert_eq!(story.step, Step::Get);
        assert_eq!(story.progress.accepted_at, Some(START));
    }

    #[test]
    fn a_call_that_was_never_made_is_repeated_and_not_counted() {
        let not_made = || match failure(FailureKind::Unavailable) {
            Reply::Failure(failure) => Reply::NotMade(failure),
            other => other,
        };
        let story =
            TestEnv::begins().answered(Step::Cancel, not_made()).waits(1.0).answered(Step::Cancel, Reply::Accepted);
        let story = story.answered(Step::Get, not_made()).waits(1.0);
        assert_eq!(story.progress.calls, Calls { cancel: 1, get: 0 });
        story.answered(Step::Get, operation(true, Some(1))).ends(Outcome::Cancelled);
    }

    #[test]
    fn credentials_that_could_not_be_had_are_asked_for_again_within_seconds_and_then_ever_less_often() {
        let Reply::Failure(refused) = failure(FailureKind::Unauthenticated) else { panic!("a failure") };
        let not_made = || Reply::NotMade(refused.clone());
        for (mut story, call) in [(TestEnv::begins(), Step::Cancel), (TestEnv::accepted(), Step::Get)] {
            for wait in [1.0, 2.0, 4.0] {
                story = story.answered(call.clone(), not_made()).waits(wait);
            }
            let late = story.until_before_deadline(Duration::ZERO);
            late.answered(call, not_made()).ends(Outcome::Failed(Reason::Unauthenticated));
        }
    }

    #[test]
    fn only_what_found_the_endpoint_unavailable_is_a_retry_until_a_call_is_answered() {
        for kind in [FailureKind::RateLimited, FailureKind::Conflict] {
            assert!(!TestEnv::begins().answered(Step::Cancel, failure(kind)).progress.is_retry(), "{kind:?}");
        }
        let story = TestEnv::begins().answered(Step::Cancel, failure(FailureKind::Unavailable));
        assert!(story.progress.is_retry());
        let not_made = match failure(FailureKind::Unavailable) {
            Reply::Failure(failure) => Reply::NotMade(failure),
            other => other,
        };
        let story = story.answered(Step::Cancel, not_made);
        assert!(story.progress.is_retry(), "nothing was learnt");
        assert!(!story.answered(Step::Cancel, Reply::Accepted).progress.is_retry());
    }

    #[test]
    fn the_get_at_the_deadline_of_an_operation_that_hangs_is_a_retry_as_well() {
        let mut story = TestEnv::begins();
        story.now = START + HOUR;
        let story = story.answered(Step::Cancel, failure(FailureKind::Unavailable));
        assert_eq!((story.step.clone(), story.progress.is_retry()), (Step::Get, true));
    }

    #[test]
    fn unimplemented_finishes_unimplemented() {
        TestEnv::begins().answered(Step::Cancel, failure(FailureKind::Unimplemented)).ends(Outcome::Unimplemented);
    }

    #[test]
    fn failed_precondition_is_verified_by_one_get() {
        let refused = || TestEnv::begins().answered(Step::Cancel, failure(FailureKind::FailedPrecondition));
        refused().answered(Step::Get, operation(true, None)).ends(Outcome::Completed);
        refused().answered(Step::Get, operation(true, Some(1))).ends(Outcome::Cancelled);
        refused().answered(Step::Get, not_done()).fails(Reason::NotCancellable);
        refused().answered(Step::Get, failure(FailureKind::NotFound)).fails(Reason::NotCancellable);
        refused().answered(Step::Get, failure(FailureKind::Unimplemented)).fails(Reason::NotCancellable);
        refused().answered(Step::Get, Reply::Undecodable { detail: "?".to_owned() }).fails(Reason::NotCancellable);
    }

    #[test]
    fn not_found_is_believed_when_cancel_and_get_have_said_so_four_times_over_ten_seconds() {
        let missing = || failure(FailureKind::NotFound);
        let round = |story: TestEnv| story.answered(Step::Cancel, missing()).answered(Step::Get, missing());
        let doubtful = || round(round(round(TestEnv::begins()).waits(2.0)).waits(3.0)).waits(5.0);
        round(doubtful()).fails(Reason::NotFound);
        doubtful()
            .answered(Step::Cancel, Reply::Accepted)
            .answered(Step::Get, operation(true, Some(1)))
            .ends(Outcome::Cancelled);
        doubtful()
            .answered(Step::Cancel, missing())
            .answered(Step::Get, operation(true, None))
            .ends(Outcome::Completed);
        // In a row: any other answer begins the count anew.
        round(doubtful().answered(Step::Cancel, failure(FailureKind::Unavailable))).waits(2.0);
        let late = || TestEnv::begins().until_before_deadline(Duration::ZERO);
        round(late()).fails(Reason::NotFound);
    }

    #[test]
    fn what_the_get_finds_running_and_the_cancel_does_not_find_is_cancelled_again() {
        let found =
            || TestEnv::begins().answered(Step::Cancel, failure(FailureKind::NotFound)).answered(Step::Get, not_done());
        let again = found().waits(1.0).answered(Step::Cancel, failure(FailureKind::NotFound));
        let again = again.answered(Step::Get, not_done()).waits(1.5).answered(Step::Cancel, Reply::Accepted);
        again.answered(Step::Get, operation(true, Some(1))).ends(Outcome::Cancelled);
        let story = found().until_before_deadline(Duration::ZERO);
        story
            .answered(Step::Cancel, failure(FailureKind::NotFound))
            .answered(Step::Get, not_done())
            .fails(Reason::NotFound);
    }

    #[test]
    fn the_verifying_get_survives_transient_failures() {
        TestEnv::begins()
            .answered(Step::Cancel, failure(FailureKind::FailedPrecondition))
            .answered(Step::Get, failure(FailureKind::Unavailable))
            .waits(1.0)
            .answered(Step::Get, failure(FailureKind::Conflict))
            .waits(2.0)
            .answered(Step::Get, operation(true, None))
            .ends(Outcome::Completed);
    }

    #[test]
    fn a_refusal_that_could_not_be_verified_by_the_deadline_is_no_answer_about_the_operation() {
        let refused = || {
            let story = TestEnv::begins().until_before_deadline(Duration::ZERO);
            story.answered(Step::Cancel, failure(FailureKind::FailedPrecondition))
        };
        refused().answered(Step::Get, failure(FailureKind::Unavailable)).fails(Reason::Unavailable);
        let unauthenticated = || failure(FailureKind::Unauthenticated);
        refused().times(2, &Step::Get, unauthenticated).fails(Reason::Unauthenticated);
    }

    #[test]
    fn a_conflict_is_retried_and_then_verified() {
        let spent = || {
            TestEnv::begins()
                .answered(Step::Cancel, failure(FailureKind::Conflict))
                .waits(1.0)
                .answered(Step::Cancel, failure(FailureKind::Conflict))
                .waits(2.0)
                .answered(Step::Cancel, failure(FailureKind::Conflict))
        };
        spent().answered(Step::Get, not_done()).fails(Reason::NotCancellable);
        spent().answered(Step::Get, operation(true, Some(1))).ends(Outcome::Cancelled);
        TestEnv::begins()
            .answered(Step::Cancel, failure(FailureKind::Conflict))
            .answered(Step::Cancel, Reply::Accepted)
            .answered(Step::Get, operation(true, Some(1)))
            .ends(Outcome::Cancelled);
    }

    #[test]
    fn a_transient_failure_is_retried_with_growing_waits_until_the_deadline_and_then_verified() {
        for kind in TRANSIENT {
            let late = || {
                TestEnv::begins()
                    .times(7, &Step::Cancel, || failure(kind))
                    .waits(32.0)
                    .until_before_deadline(Duration::from_secs(10))
                    .answered(Step::Cancel, failure(kind))
                    .waits(10.0)
                    .answered(Step::Cancel, failure(kind))
            };
            late().answered(Step::Get, operation(true, None)).ends(Outcome::Completed);
            late().answered(Step::Get, not_done()).fails(Reason::Unavailable);
            late().answered(Step::Get, failure(kind)).fails(Reason::Unavailable);
        }
    }

    #[test]
    fn a_wait_that_the_server_asks_for_is_kept_and_jitter_only_lengthens_it() {
        let limited = |seconds| {
            Reply::Failure(Failure {
                kind: FailureKind::RateLimited,
                error: ErrorDetail::default(),
                retry_after: Some(Duration::from_secs(seconds)),
            })
        };
        TestEnv::begins().answered(Step::Cancel, limited(7)).waits(7.0);
        let story = TestEnv::begins();
        let (_, step) = next_step(story.progress, limited(8), false, START, 1.0, &policy());
        assert_eq!(step, Step::Wait(Duration::from_secs(10)));
    }

    #[test]
    fn a_probe_that_finds_the_endpoint_unavailable_waits_behind_the_others_and_counts_as_a_failure() {
        let after_probe = |reply| next_step(TestEnv::begins().progress, reply, true, START, 0.0, &policy());
        let (mut progress, step) = after_probe(failure(FailureKind::Unavailable));
        assert_eq!(step, Step::WaitBehind);
        assert!(progress.is_retry());
        assert_eq!(resume(&mut progress), Step::Cancel);
        for answered in [failure(FailureKind::RateLimited), failure(FailureKind::Conflict)] {
            assert_eq!(after_probe(answered).1, Step::Wait(Duration::from_secs(1)));
        }
        assert_eq!(after_probe(Reply::Accepted).1, Step::Get);
    }

    #[test]
    fn a_probe_that_was_told_how_long_to_wait_or_was_never_made_waits_like_any_other_call() {
        let Reply::Failure(outage) = failure(FailureKind::Unavailable) else { panic!("a failure") };
        let told = Failure { retry_after: Some(Duration::from_secs(7)), ..outage.clone() };
        for (reply, seconds) in [(Reply::Failure(told), 7), (Reply::NotMade(outage), 1)] {
            let (_, step) = next_step(TestEnv::begins().progress, reply, true, START, 0.0, &policy());
            assert_eq!(step, Step::Wait(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn a_probe_in_vain_at_the_deadline_ends_like_any_other_call() {
        let story = TestEnv::accepted().until_before_deadline(Duration::ZERO);
        let (_, step) = next_step(story.progress, failure(FailureKind::Unavailable), true, story.now, 0.0, &policy());
        let Step::Finish(conclusion) = step else { panic!("expected the end, but the next step is {step:?}") };
        assert_eq!(conclusion.outcome, Outcome::Failed(Reason::DeadlineExceeded));
    }

    #[test]
    fn refused_credentials_are_renewed_once_and_then_waited_for() {
        let refused = || failure(FailureKind::Unauthenticated);
        let waiting =
            || TestEnv::begins().answered(Step::Cancel, refused()).answered(Step::Cancel, refused()).waits(32.0);
        waiting()
            .answered(Step::Cancel, Reply::Accepted)
            .answered(Step::Get, operation(true, Some(1)))
            .ends(Outcome::Cancelled);
        waiting()
            .until_before_deadline(Duration::ZERO)
            .answered(Step::Cancel, refused())
            .fails(Reason::Unauthenticated);
    }

    #[test]
    fn refusals_fail_each_with_its_reason() {
        for (kind, reason) in
            [(FailureKind::NoEndpoint, Reason::BadEndpoint), (FailureKind::Rejected, Reason::Rejected)]
        {
            TestEnv::begins().answered(Step::Cancel, failure(kind)).fails(reason);
        }
    }

    #[test]
    fn a_deadline_that_passed_before_the_request_was_read_still_gets_one_cancel() {
        let mut progress = Progress::new(START, START - HOUR);
        assert_eq!(resume(&mut progress), Step::Cancel);
        let (progress, step) = next_step(progress, Reply::Accepted, false, START, 0.0, &policy());
        assert_eq!(step, Step::Get);
        let (_, step) = next_step(progress, operation(true, Some(1)), false, START, 0.0, &policy());
        assert_eq!(step, Step::Finish(Conclusion { outcome: Outcome::Cancelled, error: None }));
    }
}

mod get {
    use super::*;

    #[test]
    fn done_with_code_1_is_cancelled() {
        assert_eq!(TestEnv::accepted().answered(Step::Get, operation(true, Some(1))).ends(Outcome::Cancelled), None);
    }

    #[test]
    fn done_with_anything_else_is_completed_with_the_operations_own_error() {
        let end = |error| TestEnv::accepted().answered(Step::Get, operation(true, error)).ends(Outcome::Completed);
        assert_eq!(end(None), None);
        assert_eq!(end(Some(0)), None);
        let error = end(Some(13)).expect("its own error");
        assert_eq!((error.code, error.status.as_deref()), (Some(13), Some("INTERNAL")));
    }

    #[test]
    fn not_done_waits_and_gets_again_less_and_less_often() {
        TestEnv::accepted()
            .answered(Step::Get, not_done())
            .waits(1.0)
            .answered(Step::Get, not_done())
            .waits(1.5)
            .times(7, &Step::Get, not_done)
            .waits(20.0)
            .answered(Step::Get, operation(true, Some(1)))
            .ends(Outcome::Cancelled);
    }

    #[test]
    fn an_operation_whose_cancel_was_accepted_long_ago_is_asked_for_ever_less_often() {
        for (age, wait) in [(999, 20), (1500, 30), (3600, 72), (14_999, 299), (15_000, 300), (80_000, 300)] {
            let mut progress = TestEnv::accepted().progress;
            (progress.polls, progress.deadline) = (100, START + 24 * HOUR);
            let now = START + Duration::from_secs(age);
            let (_, step) = next_step(progress, not_done(), false, now, 0.0, &policy());
            let Step::Wait(waits) = step else { panic!("{step:?}") };
            assert_eq!(waits.as_secs(), wait, "after {age} s");
        }
    }

    #[test]
    fn code_1_in_an_operation_that_is_not_done_decides_nothing() {
        TestEnv::accepted().answered(Step::Get, operation(false, Some(1))).waits(1.0);
    }

    #[test]
    fn not_found_three_more_times_over_ten_seconds_is_lost() {
        let missing = || failure(FailureKind::NotFound);
        let doubtful = || TestEnv::accepted().times(3, &Step::Get, missing).waits(5.0);
        let story = doubtful();
        assert_eq!(story.now - START, Duration::from_secs(5));
        story.answered(Step::Get, missing()).fails(Reason::OperationLost);
        doubtful().answered(Step::Get, not_done()).answered(Step::Get, missing()).waits(2.0);
        doubtful().answered(Step::Get, operation(true, Some(1))).ends(Outcome::Cancelled);
    }

    #[test]
    fn transient_failures_back_off_without_counting_as_polls() {
        for kind in [FailureKind::Unavailable, FailureKind::RateLimited, FailureKind::Conflict] {
            TestEnv::accepted()
                .answered(Step::Get, not_done())
                .times(3, &Step::Get, || failure(kind))
                .waits(4.0)
                .answered(Step::Get, not_done())
                .waits(1.5);
        }
    }

    #[test]
    fn refused_credentials_are_renewed_once_and_then_waited_for() {
        let refused = || failure(FailureKind::Unauthenticated);
        let waiting = || TestEnv::accepted().answered(Step::Get, refused()).answered(Step::Get, refused()).waits(32.0);
        waiting().answered(Step::Get, operation(true, Some(1))).ends(Outcome::Cancelled);
        waiting().until_before_deadline(Duration::ZERO).answered(Step::Get, refused()).fails(Reason::Unauthenticated);
    }

    #[test]
    fn refusals_fail_each_with_its_reason() {
        for (kind, reason) in [
            (FailureKind::Unimplemented, Reason::OutcomeUnknown),
            (FailureKind::NoEndpoint, Reason::BadEndpoint),
            (FailureKind::Rejected, Reason::Rejected),
            (FailureKind::FailedPrecondition, Reason::Rejected),
        ] {
            TestEnv::accepted().answered(Step::Get, failure(kind)).fails(reason);
        }
    }

    #[test]
    fn an_answer_that_cannot_be_decoded_three_more_times_is_a_protocol_error() {
        let garbage = || Reply::Undecodable { detail: "not JSON".to_owned() };
        let doubtful = || TestEnv::accepted().times(3, &Step::Get, garbage).waits(5.0);
        doubtful().answered(Step::Get, garbage()).fails(Reason::ProtocolError);
        doubtful().answered(Step::Get, operation(true, None)).ends(Outcome::Completed);
        // In a row: any other answer begins the count anew.
        for other in [FailureKind::Unavailable, FailureKind::NotFound, FailureKind::Unauthenticated] {
            doubtful().answered(Step::Get, failure(other)).times(3, &Step::Get, garbage).waits(5.0);
        }
        let missing = || failure(FailureKind::NotFound);
        let doubtful = || TestEnv::accepted().times(3, &Step::Get, missing);
        doubtful().answered(Step::Get, garbage()).times(3, &Step::Get, missing).waits(5.0);
    }

    #[test]
    fn the_deadline_is_met_with_a_last_get_and_the_operation_as_last_seen() {
        let late = || {
            TestEnv::accepted()
                .times(9, &Step::Get, not_done)
                .until_before_deadline(Duration::from_secs(3))
                .answered(Step::Get, not_done())
                .waits(3.0)
        };
        late().answered(Step::Get, operation(true, Some(1))).ends(Outcome::Cancelled);
        late().answered(Step::Get, failure(FailureKind::Unavailable)).fails(Reason::DeadlineExceeded);
        let story = late().answered(Step::Get, not_done());
        assert!(story.progress.operation.is_some());
        story.fails(Reason::DeadlineExceeded);
    }
}

/// Refusals that may be the worker's own fault: of the cancel, of the get that decides, and of the gets after the cancel was
/// accepted.
mod refusals {
    use super::*;

    fn stories() -> [(TestEnv, Step); 3] {
        let verifying = TestEnv::begins().answered(Step::Cancel, failure(FailureKind::FailedPrecondition));
        [(TestEnv::begins(), Step::Cancel), (verifying, Step::Get), (TestEnv::accepted(), Step::Get)]
    }

    #[test]
    fn a_denied_permission_is_believed_when_it_has_lasted_for_the_grace() {
        for (story, call) in stories() {
            let denied = || failure(FailureKind::PermissionDenied);
            // After 0, 1, 3, 7, 15, 31, 63, … 287 s.
            let late = story.times(14, &call, denied).waits(32.0);
            assert_eq!(late.now - START, Duration::from_secs(287));
            late.answered(call.clone(), denied()).fails(Reason::PermissionDenied);
        }
    }

    #[test]
    fn the_grace_begins_anew_when_the_service_answers_otherwise_and_not_when_it_is_unavailable() {
        let denied = || failure(FailureKind::PermissionDenied);
        let late = || TestEnv::accepted().times(14, &Step::Get, denied);
        let unavailable = late().answered(Step::Get, failure(FailureKind::Unavailable));
        unavailable.answered(Step::Get, denied()).fails(Reason::PermissionDenied);
        late().answered(Step::Get, not_done()).answered(Step::Get, denied()).waits(1.0);
        late().answered(Step::Get, operation(true, Some(1))).ends(Outcome::Cancelled);
    }

    #[test]
    fn it_is_believed_at_the_deadline() {
        for (story, call) in stories() {
            let late = story.until_before_deadline(Duration::ZERO);
            late.answered(call, failure(FailureKind::PermissionDenied)).fails(Reason::PermissionDenied);
        }
    }

    #[test]
    fn the_refusal_of_a_project_among_others_that_are_served_is_believed_after_ten_seconds() {
        for (story, call) in stories() {
            let refused = || failure(FailureKind::ForeignProject);
            let late = story.times(3, &call, refused).waits(5.0);
            assert_eq!(late.now - START, Duration::from_secs(5));
            late.answered(call.clone(), refused()).fails(Reason::PermissionDenied);
        }
        // In a row.
        let story = TestEnv::begins().times(3, &Step::Cancel, || failure(FailureKind::ForeignProject));
        let story = story.answered(Step::Cancel, failure(FailureKind::Unavailable));
        story.answered(Step::Cancel, failure(FailureKind::ForeignProject)).waits(2.0);
    }

    #[test]
    fn where_something_else_stands_the_request_waits_until_its_deadline() {
        for kind in [FailureKind::BadEndpoint, FailureKind::UnknownHost] {
            for (story, call) in stories() {
                let late = story.times(50, &call, || failure(kind)).waits(32.0).until_before_deadline(Duration::ZERO);
                assert!(late.progress.is_retry(), "for the breaker it is unavailable");
                late.answered(call, failure(kind)).fails(Reason::BadEndpoint);
            }
            let probe = next_step(TestEnv::begins().progress, failure(kind), true, START, 0.0, &policy());
            assert_eq!(probe.1, Step::WaitBehind);
        }
    }

    #[test]
    fn without_a_grace_each_is_believed_at_once() {
        let policy = Policy { refusal_grace: Duration::ZERO, ..policy() };
        for (kind, reason) in [
            (FailureKind::PermissionDenied, Reason::PermissionDenied),
            (FailureKind::ForeignProject, Reason::PermissionDenied),
            (FailureKind::BadEndpoint, Reason::BadEndpoint),
            (FailureKind::UnknownHost, Reason::BadEndpoint),
        ] {
            for (TestEnv { progress, now, .. }, _) in stories() {
                let (_, step) = next_step(progress, failure(kind), false, now, 0.0, &policy);
                let Step::Finish(conclusion) = step else { panic!("{kind:?}: {step:?}") };
                assert_eq!(conclusion.outcome, Outcome::Failed(reason));
            }
        }
    }
}
