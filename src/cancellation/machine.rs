//! ```text
//!  Cancelling ──accepted──▶ Polling ──done──▶ Finished(cancelled | completed)
//!    │  ▲  ╲                  │  ▲  ╲
//!    │  └ wait ┘              │  └ wait ┘
//!    ├─unimplemented─▶ Finished(unimplemented)      └─deadline, refusal─▶ Finished(failed)
//!    ├─refusal─▶ Finished(failed)
//!    └─not cancellable, not found, out of time─▶ Verifying ──done──▶ Finished(cancelled | completed)
//!         ▲                                        │  ▲  ╲
//!         │                                        │  └ wait ┘ (transient failures of the get)
//!         └─ Cancelling ◀──wait── (not found) ─────┤
//!                                                  └─anything else─▶ Finished(failed)
//! ```

use std::time::Duration;

use time::OffsetDateTime;

use super::outcome::{ErrorDetail, Outcome, Reason};
use super::policy::Policy;
use super::progress::{Phase, Progress};
use super::reply::{Failure, FailureKind, Operation, Reply};
use crate::google_rpc::Code;

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
    /// The call probed an endpoint for its circuit breaker, and found it unavailable: wait behind all others that wait for
    /// it, then [`resume`]. This operation need not back off as well, but others probe next.
    WaitBehind,
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

/// Before "lost", "not found", "protocol error" or the refusal of a project is believed, the calls are repeated after each
/// of these: about 10 s in all.
const RECHECK_DELAYS: [Duration; 3] = [Duration::from_secs(2), Duration::from_secs(3), Duration::from_secs(5)];

/// Between two gets of an operation whose cancel was accepted long ago: this share of its age, but not longer than that.
const OLD_POLL_SHARE: u32 = 50;
const MAX_OLD_POLL: Duration = Duration::from_secs(300);

/// What to do with a request that was just read, or that comes back from a wait.
pub fn resume(progress: &mut Progress) -> Step {
    let wait = std::mem::take(&mut progress.wait_left);
    if !wait.is_zero() {
        return Step::Wait(wait);
    }
    match progress.phase {
        Phase::Cancelling => Step::Cancel,
        Phase::Verifying { .. } | Phase::Polling => Step::Get,
    }
}

/// What to do after the call that [`resume`] or the step before asked for was answered with `reply`.
///
/// `probe`: the call was a circuit breaker's probe. `jitter` is from 0 to 1.
pub fn next_step(
    mut progress: Progress,
    reply: Reply,
    probe: bool,
    now: OffsetDateTime,
    jitter: f64,
    policy: &Policy,
) -> (Progress, Step) {
    if let Reply::Failure(failure) | Reply::NotMade(failure) = &reply {
        progress.last_error = Some(failure.error.clone());
    }
    if let Some(found_unavailable) = reply.found_unavailable() {
        progress.found_unavailable = found_unavailable;
    }
    let failed_probe = probe && reply.is_outage();
    let not_made = matches!(reply, Reply::NotMade(_));
    let mut transition = Transition { progress: &mut progress, failed_probe, not_made, now, jitter, policy };
    let step = match transition.progress.phase.clone() {
        Phase::Cancelling => transition.after_cancel(reply),
        Phase::Verifying { reason, error } => transition.after_verification(reply, reason, error),
        Phase::Polling => transition.after_poll(reply),
    };
    (progress, step)
}

/// One decision: the progress it changes and everything it may look at.
struct Transition<'a> {
    progress: &'a mut Progress,
    failed_probe: bool,
    /// No call was made: there were no credentials, or no connection for it.
    not_made: bool,
    now: OffsetDateTime,
    jitter: f64,
    policy: &'a Policy,
}

impl Transition<'_> {
    fn after_cancel(&mut self, reply: Reply) -> Step {
        self.progress.calls.cancel = self.progress.calls.cancel.saturating_add(reply.calls());
        let Failure { kind, error, retry_after } = match reply {
            Reply::Failure(failure) | Reply::NotMade(failure) => failure,
            // 2xx, whatever the body.
            Reply::Accepted | Reply::Operation(_) | Reply::Undecodable { .. } => return self.accepted(),
        };
        self.answered(kind);
        match kind {
            FailureKind::Unimplemented => finish(Outcome::Unimplemented, None),
            FailureKind::FailedPrecondition => self.verify(Reason::NotCancellable, error),
            FailureKind::NotFound => self.verify(Reason::NotFound, error),
            FailureKind::Conflict => {
                self.progress.conflicts = self.progress.conflicts.saturating_add(1);
                if self.out_of_time() || self.progress.conflicts > self.policy.conflict_retries {
                    return self.verify(Reason::NotCancellable, error);
                }
                self.back_off(retry_after)
            }
            FailureKind::Unavailable | FailureKind::RateLimited => {
                if self.out_of_time() {
                    return self.verify(Reason::Unavailable, error);
                }
                self.back_off(retry_after)
            }
            FailureKind::Unauthenticated => self.renew_or(Step::Cancel, error, retry_after),
            FailureKind::PermissionDenied => self.refused(error, retry_after),
            FailureKind::ForeignProject => self.refused_project(error),
            FailureKind::BadEndpoint | FailureKind::UnknownHost => self.not_served(error, retry_after),
            FailureKind::NoEndpoint => fail(Reason::BadEndpoint, error),
            FailureKind::Rejected => fail(Reason::Rejected, error),
        }
    }

    /// What is counted in a row ends with another answer. One of a service that is unavailable ends no row of refusals.
    fn answered(&mut self, kind: FailureKind) {
        let progress = &mut *self.progress;
        if kind != FailureKind::Unauthenticated {
            progress.renewed = false;
        }
        if kind != FailureKind::NotFound {
            progress.not_found = 0;
        }
        if kind != FailureKind::ForeignProject {
            progress.foreign = 0;
        }
        match kind {
            FailureKind::PermissionDenied
            | FailureKind::ForeignProject
            | FailureKind::Unauthenticated
            | FailureKind::RateLimited
            | FailureKind::Unavailable
            | FailureKind::BadEndpoint
            | FailureKind::UnknownHost => {}
            FailureKind::Unimplemented
            | FailureKind::FailedPrecondition
            | FailureKind::Conflict
            | FailureKind::NotFound
            | FailureKind::NoEndpoint
            | FailureKind::Rejected => progress.refused_since = None,
        }
    }

    fn accepted(&mut self) -> Step {
        let progress = &mut *self.progress;
        progress.accepted_at = Some(self.now);
        progress.phase = Phase::Polling;
        self.worked();
        Step::Get
    }

    /// An answer that is no failure.
    fn worked(&mut self) {
        let progress = &mut *self.progress;
        progress.failures = 0;
        progress.not_found = 0;
        progress.undecodable = 0;
        progress.foreign = 0;
        progress.refused_since = None;
        progress.renewed = false;
        progress.last_error = None;
    }

    /// One get decides between the operation's own end and this failure.
    fn verify(&mut self, reason: Reason, error: ErrorDetail) -> Step {
        self.progress.phase = Phase::Verifying { reason, error };
        self.progress.failures = 0;
        Step::Get
    }

    fn after_verification(&mut self, reply: Reply, reason: Reason, error: ErrorDetail) -> Step {
        self.progress.calls.get = self.progress.calls.get.saturating_add(reply.calls());
        match reply {
            Reply::Operation(operation) => match self.concluded(operation) {
                Some(end) => end,
                None if reason == Reason::NotFound => self.found_running(error),
                None => fail(reason, error),
            },
            Reply::Failure(failure) | Reply::NotMade(failure) => self.after_failed_verification(failure, reason, error),
            Reply::Accepted | Reply::Undecodable { .. } => fail(reason, error),
        }
    }

    /// Where the get failed, nobody knows whether the refusal came because the operation was done.
    fn after_failed_verification(&mut self, failure: Failure, reason: Reason, error: ErrorDetail) -> Step {
        let Failure { kind, error: get_error, retry_after } = failure;
        let rounds = self.progress.not_found;
        self.answered(kind);
        match kind {
            FailureKind::NotFound if reason == Reason::NotFound => self.found_by_neither(rounds, error),
            FailureKind::Unavailable | FailureKind::RateLimited | FailureKind::Conflict => {
                if self.out_of_time() {
                    return fail(Reason::Unavailable, both_failures(&error, get_error));
                }
                self.back_off(retry_after)
            }
            FailureKind::Unauthenticated => self.renew_or(Step::Get, both_failures(&error, get_error), retry_after),
            FailureKind::PermissionDenied => self.refused(both_failures(&error, get_error), retry_after),
            FailureKind::ForeignProject => self.refused_project(both_failures(&error, get_error)),
            FailureKind::BadEndpoint | FailureKind::UnknownHost => {
                self.not_served(both_failures(&error, get_error), retry_after)
            }
            FailureKind::NotFound
            | FailureKind::Unimplemented
            | FailureKind::FailedPrecondition
            | FailureKind::NoEndpoint
            | FailureKind::Rejected => fail(reason, error),
        }
    }

    /// The cancel did not find what the get does: it may have been begun in between, or be known in some places only.
    fn found_running(&mut self, error: ErrorDetail) -> Step {
        self.worked();
        if self.out_of_time() {
            return fail(Reason::NotFound, error);
        }
        self.progress.phase = Phase::Cancelling;
        self.wait_for_poll()
    }

    /// Both calls again, since a request may be published in the same breath as its operation is begun.
    fn found_by_neither(&mut self, rounds: u32, error: ErrorDetail) -> Step {
        self.progress.not_found = rounds.saturating_add(1);
        match recheck_delay(rounds) {
            Some(delay) if !self.out_of_time() => {
                self.progress.phase = Phase::Cancelling;
                self.wait(delay)
            }
            _ => fail(Reason::NotFound, error),
        }
    }

    /// A refusal may be the worker's own fault, such as a role that was revoked, and be mended: it is believed only when it
    /// has lasted.
    fn refused(&mut self, error: ErrorDetail, retry_after: Option<Duration>) -> Step {
        let since = *self.progress.refused_since.get_or_insert(self.now);
        if self.out_of_time() || self.now - since >= self.policy.refusal_grace {
            return fail(Reason::PermissionDenied, error);
        }
        self.back_off(retry_after)
    }

    /// Others are served: it is this project that is not.
    fn refused_project(&mut self, error: ErrorDetail) -> Step {
        self.progress.refused_since.get_or_insert(self.now);
        let rechecks = self.progress.foreign;
        self.progress.foreign = rechecks.saturating_add(1);
        match recheck_delay(rechecks) {
            Some(delay) if !self.out_of_time() && !self.policy.refusal_grace.is_zero() => self.wait(delay),
            _ => fail(Reason::PermissionDenied, error),
        }
    }

    /// A setting or a proxy is wrong, not the request: as if the API were unavailable.
    fn not_served(&mut self, error: ErrorDetail, retry_after: Option<Duration>) -> Step {
        if self.out_of_time() || self.policy.refusal_grace.is_zero() {
            return fail(Reason::BadEndpoint, error);
        }
        self.back_off(retry_after)
    }

    fn after_poll(&mut self, reply: Reply) -> Step {
        self.progress.calls.get = self.progress.calls.get.saturating_add(reply.calls());
        match reply {
            Reply::Operation(operation) => self.concluded(operation).unwrap_or_else(|| self.not_done()),
            Reply::Undecodable { detail } => self.undecodable(&detail),
            Reply::Accepted => self.undecodable("the answer has no body"),
            Reply::Failure(failure) | Reply::NotMade(failure) => self.after_failed_poll(failure),
        }
    }

    fn after_failed_poll(&mut self, failure: Failure) -> Step {
        let Failure { kind, error, retry_after } = failure;
        self.answered(kind);
        self.progress.undecodable = 0;
        match kind {
            FailureKind::NotFound => self.not_found(error),
            FailureKind::Unavailable | FailureKind::RateLimited | FailureKind::Conflict => {
                if self.out_of_time() {
                    return self.deadline_exceeded();
                }
                self.back_off(retry_after)
            }
            FailureKind::Unauthenticated => self.renew_or(Step::Get, error, retry_after),
            FailureKind::Unimplemented => fail(Reason::OutcomeUnknown, error),
            FailureKind::PermissionDenied => self.refused(error, retry_after),
            FailureKind::ForeignProject => self.refused_project(error),
            FailureKind::BadEndpoint | FailureKind::UnknownHost => self.not_served(error, retry_after),
            FailureKind::NoEndpoint => fail(Reason::BadEndpoint, error),
            FailureKind::FailedPrecondition | FailureKind::Rejected => fail(Reason::Rejected, error),
        }
    }

    /// The end of the operation, if it is done. Keeps it as last seen either way.
    fn concluded(&mut self, operation: Operation) -> Option<Step> {
        self.progress.operation = Some(operation.resource);
        if !operation.done {
            return None;
        }
        Some(match operation.error {
            Some(error) if error.code == Code::Cancelled.number() => finish(Outcome::Cancelled, None),
            // `error: {}` has code 0, which is OK: no error.
            Some(error) if error.code != 0 => {
                let status = Code::from_number(error.code).map(|code| code.name().to_owned());
                let error = ErrorDetail { code: Some(error.code), status, message: error.message };
                finish(Outcome::Completed, Some(error))
            }
            _ => finish(Outcome::Completed, None),
        })
    }

    fn not_done(&mut self) -> Step {
        self.worked();
        if self.out_of_time() {
            return self.deadline_exceeded();
        }
        self.wait_for_poll()
    }

    fn wait_for_poll(&mut self) -> Step {
        let interval = self.policy.polling.delay(self.progress.polls).max(self.old_poll());
        self.progress.polls = self.progress.polls.saturating_add(1);
        self.wait(self.policy.polling.shortened(interval, self.jitter))
    }

    /// What has taken long will most likely take longer: a fiftieth of the time since the cancel was accepted.
    fn old_poll(&self) -> Duration {
        let age = self.progress.accepted_at.map_or(Duration::ZERO, |at| (self.now - at).try_into().unwrap_or_default());
        (age / OLD_POLL_SHARE).min(MAX_OLD_POLL)
    }

    fn not_found(&mut self, error: ErrorDetail) -> Step {
        let rechecks = self.progress.not_found;
        self.progress.not_found = rechecks.saturating_add(1);
        self.recheck(rechecks).unwrap_or_else(|| fail(Reason::OperationLost, error))
    }

    fn undecodable(&mut self, detail: &str) -> Step {
        let rechecks = self.progress.undecodable;
        self.progress.undecodable = rechecks.saturating_add(1);
        self.progress.not_found = 0;
        let error = ErrorDetail {
            message: format!("the API's answer is not an operation: {detail}"),
            ..ErrorDetail::default()
        };
        self.progress.last_error = Some(error.clone());
        self.recheck(rechecks).unwrap_or_else(|| fail(Reason::ProtocolError, error))
    }

    /// Look again before believing something that should not be, or nothing if that was done often enough.
    fn recheck(&mut self, rechecks: u32) -> Option<Step> {
        let wait = recheck_delay(rechecks)?;
        Some(if self.out_of_time() { self.deadline_exceeded() } else { self.wait(wait) })
    }

    /// Credentials refused: once more with new ones (the client renews them after every 401), then with long waits. Those
    /// that could not be had are asked for again like anything else that fails: a token fetch in vain costs seconds.
    fn renew_or(&mut self, again: Step, error: ErrorDetail, retry_after: Option<Duration>) -> Step {
        if !self.not_made && !self.progress.renewed {
            self.progress.renewed = true;
            return again;
        }
        if self.out_of_time() {
            return fail(Reason::Unauthenticated, error);
        }
        if self.not_made {
            return self.back_off(retry_after);
        }
        self.wait(self.policy.retry.longest())
    }

    fn back_off(&mut self, retry_after: Option<Duration>) -> Step {
        let interval = self.policy.retry.delay(self.progress.failures).max(retry_after.unwrap_or_default());
        self.progress.failures = self.progress.failures.saturating_add(1);
        if self.failed_probe {
            return Step::WaitBehind;
        }
        self.wait(self.policy.retry.lengthened(interval, self.jitter))
    }

    /// Never past the deadline: the last call is made then.
    fn wait(&self, wait: Duration) -> Step {
        Step::Wait(wait.min(self.progress.time_left(self.now)).max(Duration::from_millis(1)))
    }

    fn out_of_time(&self) -> bool {
        self.now >= self.progress.deadline
    }

    fn deadline_exceeded(&self) -> Step {
        let last = match &self.progress.last_error {
            Some(error) => format!("; the last get failed: {}", error.message),
            None => String::new(),
        };
        let message = format!("the cancel was accepted, but the operation was not seen done by the deadline{last}");
        let error = ErrorDetail { message, ..self.progress.last_error.clone().unwrap_or_default() };
        fail(Reason::DeadlineExceeded, error)
    }
}

/// How long to wait before looking again, after so many times; nothing: it is believed.
fn recheck_delay(rechecks: u32) -> Option<Duration> {
    RECHECK_DELAYS.get(usize::try_from(rechecks).ok()?).copied()
}

/// What failed the get, after what had failed the cancel.
fn both_failures(cancel: &ErrorDetail, get: ErrorDetail) -> ErrorDetail {
    let message = format!(
        "the cancel failed: {}; and whether the operation is done could not be read by the deadline: {}",
        cancel.message, get.message
    );
    ErrorDetail { message, ..get }
}

fn finish(outcome: Outcome, error: Option<ErrorDetail>) -> Step {
    Step::Finish(Conclusion { outcome, error })
}

fn fail(reason: Reason, error: ErrorDetail) -> Step {
    finish(Outcome::Failed(reason), Some(error))
}
