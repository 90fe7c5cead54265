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
