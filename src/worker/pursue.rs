use super::clock::{dice, now};
use super::patience::Patience;
use crate::cancellation::{Conclusion, Policy, Progress, Step, next_step, resume};
use crate::message::OperationName;
use crate::operations_api::Operations;

/// Makes the calls and waits that the decisions ask for, until the answer is known or the patience ends.
pub async fn pursue<O: Operations, P: Patience>(
    operations: &O,
    name: &OperationName,
    mut progress: Progress,
    policy: &Policy,
    mut patience: P,
) -> (Progress, Result<Conclusion, P::End>) {
    let mut step = resume(&mut progress);
    loop {
        let reply = match step {
            Step::Cancel => operations.cancel(name).await,
            Step::Get => operations.get(name).await,
            Step::Wait(wait) => match patience.hold(wait).await {
                Ok(()) => {
                    step = resume(&mut progress);
                    continue;
                }
                Err(end) => return (progress, Err(end)),
            },
            Step::Finish(conclusion) => return (progress, Ok(conclusion)),
        };
        (progress, step) = next_step(progress, reply, now(), dice(), policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancellation::{Outcome, Reason};
    use crate::message::{Envelope, FollowUp};
    use crate::operations_api::Client;
    use crate::settings;
    use crate::worker::{Unlimited, policy};

    #[tokio::test]
    async fn a_follow_up_of_a_worker_with_other_patterns_is_answered_without_a_call() {
        let body = include_bytes!("../../tests/golden/follow_up/v1-polling.body.json");
        let FollowUp { request, mut progress } =
            FollowUp::read(&Envelope { body, ..Envelope::default() }).expect("readable, whatever the patterns");
        progress.deadline = now() + time::Duration::HOUR;
        let overrides = [("api.names", "operations/**".to_owned()), ("api.endpoint", "http://127.0.0.1:9".to_owned())];
        let settings = settings::load(&[], &overrides).expect("valid").settings;
        let client = Client::new(&settings.api).expect("a client");
        let policy = policy(&settings).expect("a policy");
        let (_, Ok(conclusion)) = pursue(&client, &request.name, progress, &policy, Unlimited).await;
        assert_eq!(conclusion.outcome, Outcome::Failed(Reason::BadEndpoint));
        let message = conclusion.error.expect("told").message;
        assert_eq!(message, "the operation's name is not of the form operations/** (api.names)");
    }
}
