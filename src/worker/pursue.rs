use std::time::Duration;

use super::clock::{Clock, dice};
use super::gatekeeper::{Caller, Gatekeeper, Pass};
use super::patience::{Cause, Patience, Pause};
use crate::cancellation::{Conclusion, Failure, FailureKind, Policy, Progress, Reply, Step, next_step, resume};
use crate::message::OperationName;
use crate::operations_api::Operations;

/// Makes the calls and waits that the decisions ask for, until the answer is known or the patience ends.
///
/// Waiting for the gate is no attempt and no failure, and ends at the deadline: then the call is made all the same.
pub async fn pursue<O: Operations, P: Patience>(
    operations: &O,
    gatekeeper: &Gatekeeper,
    name: &OperationName,
    mut progress: Progress,
    policy: &Policy,
    mut patience: P,
    clock: Clock,
) -> (Progress, Result<Conclusion, P::End>) {
    let caller = gatekeeper.caller(operations, name);
    let mut step = resume(&mut progress);
    // A wait that is left at the very beginning is the rest of one that was parked.
    let mut cause = Cause::Rest;
    let mut called = false;
    loop {
        let pause = match step {
            Step::Finish(conclusion) => return (progress, Ok(conclusion)),
            Step::Wait(wait) => Pause { wait, cause },
            Step::Cancel | Step::Get => {
                if called && let Err(end) = patience.call_again() {
                    return (progress, Err(end));
                }
                match leave(&caller, &progress, clock) {
                    Err(pause) => pause,
                    Ok(pass) => {
                        let probe = pass.is_probe();
                        let reply = match step {
                            Step::Cancel => pass.call(operations.cancel(name)).await,
                            _ => pass.call(operations.get(name)).await,
                        };
                        let tried_in_vain = probe && is_outage(&reply);
                        (progress, step) = next_step(progress, reply, clock.now(), dice(), policy);
                        (called, cause) = (true, Cause::Step);
                        if !(tried_in_vain && matches!(step, Step::Wait(_))) {
                            continue;
                        }
                        // What the breaker waits for, this operation need not wait for as well: but others try next.
                        let behind = caller.wait_behind();
                        Pause { wait: behind.wait.min(time_left(&progress, clock)), ..behind }
                    }
                }
            }
        };
        if let Err(end) = patience.hold(pause).await {
            return (progress, Err(end));
        }
        cause = Cause::Step;
        step = resume(&mut progress);
    }
}

/// Leave to make the next call, or how long to wait for it: not beyond the deadline.
fn leave<'a>(caller: &Caller<'a>, progress: &Progress, clock: Clock) -> Result<Pass<'a>, Pause> {
    // What failed before, and was not answered since, may be why it fails.
    let retry = progress.failures > 0;
    caller.ask(retry).or_else(|pause| {
        let left = time_left(progress, clock);
        if left.is_zero() { caller.insist() } else { Err(Pause { wait: pause.wait.min(left), ..pause }) }
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
    use crate::retry::GatePolicy;
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
        let gatekeeper = Gatekeeper::new(GatePolicy::default());
        let (_, Ok(conclusion)) =
            pursue(&client, &gatekeeper, &request.name, progress, &policy, Unlimited, Clock::System).await;
        assert_eq!(conclusion.outcome, Outcome::Failed(Reason::BadEndpoint));
        let message = conclusion.error.expect("told").message;
        assert_eq!(message, "the operation's name is not of the form operations/** (api.names)");
    }
}
