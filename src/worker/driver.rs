use tokio::time::{Instant, timeout};

use super::call_permits::{CallPermits, OperationPermits, Permit};
use super::clock::{Clock, jitter};
use super::last_calls::LastCalls;
use super::waiting::{Wait, WaitBudget, WaitReason};
use crate::cancellation::{
    Conclusion, ErrorDetail, Failure, FailureKind, Policy, Progress, Reply, Step, next_step, resume,
};
use crate::message::OperationName;
use crate::operations_api::{Call, CallSent, Operations};
use crate::telemetry::meters::ApiMethod;

/// Makes the calls and waits that the decisions ask for, until the answer is known or the budget is spent.
///
/// Waiting for a permit is no attempt and no failure, and ends at the deadline: then the call is made without waiting.
pub async fn drive<O: Operations, B: WaitBudget>(
    operations: &O,
    call_permits: &CallPermits,
    name: &OperationName,
    mut progress: Progress,
    policy: &Policy,
    mut budget: B,
    clock: &Clock,
) -> (Progress, Result<Conclusion, B::End>) {
    let permits = call_permits.permits(operations, name);
    let last_calls = LastCalls::new(policy.last_call_timeout);
    let mut driver = Driver { operations, permits, name, policy, clock, last_calls };
    let mut step = resume(&mut progress);
    // A wait that is left at the very beginning is the rest of one that began in the broker.
    let mut reason = WaitReason::Remainder;
    let mut called = false;
    loop {
        // Another operation's call may have told the time.
        clock.confirm(&mut progress);
        let wait = match step {
            Step::Finish(conclusion) => return (progress, Ok(conclusion)),
            // What is left of a wait was reckoned before the broker kept it, perhaps for longer than it was to.
            Step::Wait(wait) => Wait { wait, reason }.at_most(progress.time_left(clock.now())),
            Step::WaitBehind => driver.wait_behind(&progress),
            Step::Cancel | Step::Get => {
                if called && let Err(end) = budget.call_again() {
                    return (progress, Err(end));
                }
                match driver.permit(&progress) {
                    Err(wait) => wait,
                    Ok(permit) => {
                        (progress, step) = driver.call(permit, &step, progress).await;
                        (called, reason) = (true, WaitReason::Backoff);
                        continue;
                    }
                }
            }
        };
        if let Err(end) = budget.hold(wait).await {
            return (progress, Err(end));
        }
        reason = WaitReason::Backoff;
        step = resume(&mut progress);
    }
}

/// A call that was made, and had no answer by the deadline.
fn cut_at_deadline() -> Reply {
    let message = "no answer by the request's deadline, where the call was cut".to_owned();
    let error = ErrorDetail { message, ..ErrorDetail::default() };
    Reply::Failure(Failure { kind: FailureKind::Unavailable, error, retry_after: None })
}

/// What drives one operation and stays the same from call to call.
struct Driver<'a, O> {
    operations: &'a O,
    permits: OperationPermits<'a>,
    name: &'a OperationName,
    policy: &'a Policy,
    clock: &'a Clock,
    last_calls: LastCalls,
}

impl<'a, O: Operations> Driver<'a, O> {
    /// The permit for the next call, or how long to wait for it: not beyond the deadline.
    fn permit(&self, progress: &Progress) -> Result<Permit<'a>, Wait> {
        self.permits.acquire(progress.is_retry()).or_else(|wait| {
            match wait.before_deadline(progress.time_left(self.clock.now())) {
                Some(wait) => Err(wait),
                None => self.permits.acquire_at_deadline(progress.is_retry()),
            }
        })
    }

    /// Makes the call that this step asks for, and decides on its answer. One that is cut is no news of its endpoint.
    async fn call(&mut self, permit: Permit<'_>, step: &Step, mut progress: Progress) -> (Progress, Step) {
        let probe = permit.is_probe();
        let call = if matches!(step, Step::Cancel) { Call::Cancel } else { Call::Get };
        let sent = CallSent::default();
        let limit = self.last_calls.limit(progress.time_left(self.clock.now()));
        let (meters, began) = (self.permits.meters(), Instant::now());
        let in_flight = meters.call_begins();
        let calling = permit.call(&sent, self.operations.call(call, self.name, &sent));
        let reply = timeout(limit, calling).await.unwrap_or_else(|_| cut_at_deadline());
        drop(in_flight);
        meters.call(
            if matches!(call, Call::Cancel) { ApiMethod::Cancel } else { ApiMethod::Get },
            &reply,
            began.elapsed(),
        );
        if let Some(time) = sent.told_time() {
            self.clock.heard(time);
        }
        // No deadline is believed before a call has been made that may tell what time it is.
        self.clock.confirm(&mut progress);
        next_step(progress, reply, probe, self.clock.now(), jitter(), self.policy)
    }

    /// The wait after a failed probe, not beyond the deadline.
    fn wait_behind(&self, progress: &Progress) -> Wait {
        self.permits.wait_behind().at_most(progress.time_left(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cancellation::{Outcome, Reason};
    use crate::message::{Envelope, FollowUp};
    use crate::operations_api::Client;
    use crate::pacing::AdmissionPolicy;
    use crate::settings;
    use crate::worker::{Unlimited, policy};

    #[tokio::test]
    async fn a_follow_up_of_a_worker_with_other_patterns_is_answered_without_a_call() {
        let body = include_bytes!("../../tests/golden/follow_up/v1-polling.body.json");
        let FollowUp { request, mut progress, .. } =
            FollowUp::read(&Envelope { body, ..Envelope::default() }).expect("readable, whatever the patterns");
        let clock = Clock::system();
        progress.deadline = clock.now() + time::Duration::HOUR;
        let overrides = [("api.names", "operations/**".to_owned()), ("api.endpoint", "http://127.0.0.1:9".to_owned())];
        let settings = settings::load(&[], &overrides).expect("valid").settings;
        let client = Client::new(&settings.api).expect("a client");
        let policy = policy(&settings).expect("a policy");
        let call_permits = CallPermits::new(AdmissionPolicy::default(), Arc::default());
        let (_, Ok(conclusion)) =
            drive(&client, &call_permits, &request.name, progress, &policy, Unlimited, &clock).await;
        assert_eq!(conclusion.outcome, Outcome::Failed(Reason::BadEndpoint));
        let message = conclusion.error.expect("told").message;
        assert_eq!(message, "the operation's name is not of the form operations/** (api.names)");
    }
}
