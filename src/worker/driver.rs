use std::time::Duration;

use super::call_permits::{CallPermits, OperationPermits, Permit};
use super::clock::{Clock, jitter};
use super::waiting::{Wait, WaitBudget, WaitReason};
use crate::cancellation::{Conclusion, Failure, FailureKind, Policy, Progress, Reply, Step, next_step, resume};
use crate::message::OperationName;
use crate::operations_api::Operations;

/// Makes the calls and waits that the decisions ask for, until the answer is known or the patience ends.
///
/// Waiting for the gate is no attempt and no failure, and ends at the deadline: then the call is made all the same.
pub async fn drive<O: Operations, P: WaitBudget>(
    operations: &O,
    call_permits: &CallPermits,
    name: &OperationName,
    mut progress: Progress,
    policy: &Policy,
    mut budget: P,
    clock: Clock,
) -> (Progress, Result<Conclusion, P::End>) {
    let permits = call_permits.permits(operations, name);
    let mut step = resume(&mut progress);
    // A wait that is left at the very beginning is the rest of one that was parked.
    let mut reason = WaitReason::Remainder;
    let mut called = false;
    loop {
        let pause = match step {
            Step::Finish(conclusion) => return (progress, Ok(conclusion)),
            Step::Wait(wait) => Wait { wait, reason },
            Step::Cancel | Step::Get => {
                if called && let Err(end) = budget.call_again() {
                    return (progress, Err(end));
                }
                match leave(&permits, &progress, clock) {
                    Err(pause) => pause,
                    Ok(permit) => {
                        let probe = permit.is_probe();
                        let reply = match step {
                            Step::Cancel => permit.call(operations.cancel(name)).await,
                            _ => permit.call(operations.get(name)).await,
                        };
                        let tried_in_vain = probe && is_outage(&reply);
                        (progress, step) = next_step(progress, reply, clock.now(), jitter(), policy);
                        (called, reason) = (true, WaitReason::Backoff);
                        if !(tried_in_vain && matches!(step, Step::Wait(_))) {
                            continue;
                        }
                        // What the breaker waits for, this operation need not wait for as well: but others try next.
                        let behind = permits.wait_behind();
                        Wait { wait: behind.wait.min(time_left(&progress, clock)), ..behind }
                    }
                }
            }
        };
        if let Err(end) = budget.hold(pause).await {
            return (progress, Err(end));
        }
        reason = WaitReason::Backoff;
        step = resume(&mut progress);
    }
}

/// Leave to make the next call, or how long to wait for it: not beyond the deadline.
fn leave<'a>(permits: &OperationPermits<'a>, progress: &Progress, clock: Clock) -> Result<Permit<'a>, Wait> {
    // What failed before, and was not answered since, may be why it fails.
    let retry = progress.failures > 0;
    permits.acquire(retry).or_else(|pause| {
        let left = time_left(progress, clock);
        if left.is_zero() { permits.acquire_at_deadline() } else { Err(Wait { wait: pause.wait.min(left), ..pause }) }
    })
}

fn time_left(progress: &Progress, clock: Clock) -> Duration {
    Duration::try_from(progress.deadline - clock.now()).unwrap_or_default()
}

/// Whether the endpoint is unavailable and does not itself say for how long.
const fn is_outage(reply: &Reply) -> bool {
    matches!(reply, Reply::Failure(Failure { kind: FailureKind::Unavailable, retry_after: None, .. }))
}

#[cfg(test)]
mod tests {
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
        let FollowUp { request, mut progress } =
            FollowUp::read(&Envelope { body, ..Envelope::default() }).expect("readable, whatever the patterns");
        progress.deadline = Clock::System.now() + time::Duration::HOUR;
        let overrides = [("api.names", "operations/**".to_owned()), ("api.endpoint", "http://127.0.0.1:9".to_owned())];
        let settings = settings::load(&[], &overrides).expect("valid").settings;
        let client = Client::new(&settings.api).expect("a client");
        let policy = policy(&settings).expect("a policy");
        let call_permits = CallPermits::new(AdmissionPolicy::default());
        let (_, Ok(conclusion)) =
            drive(&client, &call_permits, &request.name, progress, &policy, Unlimited, Clock::System).await;
        assert_eq!(conclusion.outcome, Outcome::Failed(Reason::BadEndpoint));
        let message = conclusion.error.expect("told").message;
        assert_eq!(message, "the operation's name is not of the form operations/** (api.names)");
    }
}
