use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tracing::{debug, error, info};

use super::disposition::{DeadLetterCopy, Disposition, ResultPublication};
use crate::broker::{BrokerError, Delivery, PublishError, Publisher, Target};
use crate::message::{DeadLetterHeaders, Outgoing};
use crate::pacing::{Backoff, InvalidBackoff};
use crate::telemetry::{Counters, Readiness};

/// Does what was decided: the only place that publishes what came of a delivery and acknowledges it, in this order.
#[derive(Debug)]
pub(super) struct Settler {
    /// Between two attempts to publish what the broker returned or refused.
    retry: Backoff,
    /// Falls while a publish is being repeated.
    readiness: Arc<Readiness>,
}

/// A delivery of which everything is published, and that remains to be acknowledged.
#[derive(Debug)]
#[must_use = "the delivery is not acknowledged yet"]
pub(super) enum Settled<Proof> {
    /// It is safe, and the answer goes to the requester as well.
    Published { proof: Proof, reply: Option<Box<ResultPublication>> },
    /// To be given back: nothing was published.
    Requeue,
}

impl Settler {
    pub(super) const fn new(retry: Backoff, readiness: Arc<Readiness>) -> Self {
        Self { retry, readiness }
    }

    /// Publishes what came of a delivery. `rejected` tells that the broker has not taken it: then this can be dropped, and
    /// something else be published instead. Otherwise what was published may be safe already.
    ///
    /// # Errors
    /// The session is over. The delivery was not acknowledged and will come again.
    pub(super) async fn publish_all<P: Publisher<Delivery = D, Proof = D::Proof>, D: Delivery>(
        &self,
        publisher: &P,
        delivery: &D,
        disposition: Disposition,
        counters: &Counters,
        rejected: &AtomicBool,
    ) -> Result<Settled<D::Proof>, BrokerError> {
        let publishing = Publishing { settler: self, publisher, rejected };
        let mut reply = None;
        let proof = match disposition {
            Disposition::Requeue => return Ok(Settled::Requeue),
            Disposition::Delay { follow_up, level } => {
                let proof = publishing.publish(&Target::Wait(level), &follow_up, Answered::No).await?;
                counters.delayed();
                proof
            }
            Disposition::Finish(answer) => {
                let proof = publishing.answer(delivery, &answer).await?;
                counters.finished(answer.outcome);
                reply = Some(answer);
                proof
            }
            Disposition::DeadLetter { headers, answer } => {
                if let Some(answer) = answer {
                    let _event_first = publishing.answer(delivery, &answer).await?;
                    reply = Some(answer);
                }
                let answered = if reply.is_some() { Answered::Yes } else { Answered::No };
                let proof = publishing.dead_letter(delivery, &headers, answered).await?;
                counters.unusable();
                proof
            }
        };
        Ok(Settled::Published { proof, reply })
    }

    /// Acknowledges a delivery, or gives it back.
    ///
    /// # Errors
    /// As for [`publish_all`](Self::publish_all).
    pub(super) async fn acknowledge<P: Publisher, D: Delivery>(
        &self,
        publisher: &P,
        delivery: D,
        settled: Settled<D::Proof>,
    ) -> Result<(), BrokerError> {
        match settled {
            Settled::Requeue => delivery.requeue().await,
            Settled::Published { proof, reply } => {
                delivery.ack(proof).await?;
                if let Some(answer) = reply {
                    copy_to_requester(publisher, *answer).await;
                }
                Ok(())
            }
        }
    }
}

/// Whether the event of a delivery is safe already: then it is not to be answered again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answered {
    No,
    Yes,
}

/// What is published for one delivery.
struct Publishing<'a, P> {
    settler: &'a Settler,
    publisher: &'a P,
    rejected: &'a AtomicBool,
}

impl<P: Publisher> Publishing<'_, P> {
    /// The event, and the copy in the dead queue if one is kept.
    async fn answer(&self, delivery: &P::Delivery, answer: &ResultPublication) -> Result<P::Proof, BrokerError> {
        let event = self.publish(&Target::Event(answer.outcome), &answer.event, Answered::No).await?;
        match &answer.keep {
            None => Ok(event),
            Some(DeadLetterCopy::Rewritten(request)) => self.publish(&Target::Dead, request, Answered::Yes).await,
            Some(DeadLetterCopy::Delivery(headers)) => self.dead_letter(delivery, headers, Answered::Yes).await,
        }
    }

    async fn dead_letter(
        &self,
        delivery: &P::Delivery,
        headers: &DeadLetterHeaders,
        answered: Answered,
    ) -> Result<P::Proof, BrokerError> {
        let headers = headers.headers();
        self.publish_until_confirmed(answered, || self.publisher.dead_letter(delivery, headers.clone())).await
    }

    async fn publish(&self, target: &Target, message: &Outgoing, answered: Answered) -> Result<P::Proof, BrokerError> {
        self.publish_until_confirmed(answered, || self.publisher.publish(target, message.clone())).await
    }

    /// Publishes until it is confirmed. What cannot be routed, or is refused, stays in the broker as the unacknowledged
    /// delivery that it came from, and goes on as soon as the queue is repaired.
    async fn publish_until_confirmed<F, Proof>(
        &self,
        answered: Answered,
        publish: impl Fn() -> F,
    ) -> Result<Proof, BrokerError>
    where
        F: Future<Output = Result<Proof, PublishError>>,
    {
        let mut stuck = None;
        let mut attempts = 0;
        loop {
            let problem = match publish().await {
                Ok(proof) => return Ok(proof),
                Err(PublishError::SessionOver(error)) => return Err(error),
                Err(problem) => problem,
            };
            let Settler { retry, readiness } = self.settler;
            match stuck {
                None => stuck = Some(PublishRejected::enter(readiness, &problem)),
                Some(_) => readiness.still_stuck(&problem),
            }
            self.rejected.store(answered == Answered::No, Relaxed);
            tokio::time::sleep(retry.delay(attempts)).await;
            self.rejected.store(false, Relaxed);
            attempts = attempts.saturating_add(1);
        }
    }
}

/// The direct reply, best effort: the event is safe by now, and the request answered.
async fn copy_to_requester(publisher: &impl Publisher, answer: ResultPublication) {
    let ResultPublication { event, reply_to: Some(address), .. } = answer else { return };
    if let Err(error) = publisher.reply(&address, event).await {
        debug!(%error, "a direct reply was not taken; whoever waited for it may have gone");
    }
}

/// Counts a delivery as stuck for as long as it lives; the first to come and the last to go say so.
struct PublishRejected<'a>(&'a Readiness);

impl<'a> PublishRejected<'a> {
    fn enter(readiness: &'a Readiness, problem: &PublishError) -> Self {
        if readiness.stuck(problem) {
            error!(%problem, "the broker does not take what the worker publishes; requests wait until this is mended");
        }
        Self(readiness)
    }
}

impl Drop for PublishRejected<'_> {
    fn drop(&mut self) {
        if self.0.unstuck() {
            info!("the broker takes everything again, or the session ended");
        }
    }
}

/// The intervals between two attempts to publish what was returned or refused: short, so that all flows soon after
/// the repair.
pub(super) fn publish_retry() -> Result<Backoff, InvalidBackoff> {
    Backoff::new(Duration::from_millis(250), 2.0, Duration::from_secs(4), 0.0)
}
