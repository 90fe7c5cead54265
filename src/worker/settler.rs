use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::disposition::{AnswerTimes, DeadLetterCopy, Disposition, ResultPublication};
use crate::broker::{BrokerError, Delivery, DeliveryKind, PublishError, Publisher, Target, WaitLevel};
use crate::message::Outgoing;
use crate::pacing::{Backoff, InvalidBackoff};
use crate::telemetry::meters::{DelayReason, PublishResult, PublishTarget};
use crate::telemetry::{Readiness, Telemetry};

/// Does what was decided: the only place that publishes what came of a delivery and acknowledges it, in this order.
#[derive(Debug)]
pub(super) struct Settler {
    /// Between two attempts to publish what the broker returned or refused.
    pub(super) retry: Backoff,
    /// For how long that goes on; then it waits in the broker.
    pub(super) unsettled_limit: Duration,
    /// Where it waits.
    pub(super) longest: WaitLevel,
    /// What is counted, and that the worker is not ready while a publish is being repeated.
    pub(super) telemetry: Arc<Telemetry>,
}

/// A delivery of which everything is published, and that remains to be acknowledged.
#[derive(Debug)]
#[must_use = "the delivery is not acknowledged yet"]
pub(super) struct Settled<Proof> {
    /// It is safe.
    proof: Proof,
    /// The answer, which goes to the requester as well.
    reply: Option<Box<ResultPublication>>,
}

impl Settler {
    /// Publishes what came of a delivery. What the broker does not take before the limit, or before `set_aside` is cancelled,
    /// waits in the broker with its answer instead.
    ///
    /// # Errors
    /// The session is over. The delivery was not acknowledged and will come again.
    pub(super) async fn publish_all<P: Publisher<Delivery = D, Proof = D::Proof>, D: Delivery>(
        &self,
        publisher: &P,
        delivery: &D,
        disposition: Disposition,
        set_aside: &CancellationToken,
    ) -> Result<Settled<D::Proof>, BrokerError> {
        let limit = Instant::now() + self.unsettled_limit;
        let publishing = Publishing { settler: self, publisher, delivery, limit, set_aside };
        let mut reply = None;
        let proof = match disposition {
            Disposition::Delay { follow_up, level, reason } => {
                let target = Target::Wait(level);
                let publish = || publisher.publish(&target, follow_up.clone());
                publishing.publish_until_confirmed(reason, publish).await?
            }
            Disposition::Forward(level) => {
                let target = Target::Wait(level);
                let publish = || publisher.forward(&target, delivery, Vec::new());
                publishing.publish_until_confirmed(DelayReason::NewerWorker, publish).await?
            }
            Disposition::Finish(mut answer) => match publishing.event(&answer).await? {
                None => publishing.unsettled(*answer).await?,
                Some(event) => {
                    let copy = answer.keep.take();
                    reply = Some(answer);
                    match copy {
                        None => event,
                        Some(copy) => {
                            let reason = copy.reason();
                            let letter = publishing.keep(copy).await?;
                            self.telemetry.meters.dead_letter(reason);
                            letter
                        }
                    }
                }
            },
            Disposition::DeadLetter { headers, answer } => {
                if let Some(answer) = answer {
                    if publishing.event(&answer).await?.is_none() {
                        let proof = publishing.unsettled(*answer).await?;
                        return Ok(Settled { proof, reply });
                    }
                    reply = Some(answer);
                }
                let letter = publishing.dead_letter(headers.headers()).await?;
                self.telemetry.meters.dead_letter(headers.reason);
                letter
            }
            Disposition::Bury => publishing.dead_letter(Vec::new()).await?,
        };
        Ok(Settled { proof, reply })
    }

    /// Acknowledges a delivery. What remains is the copy of its answer for the requester.
    ///
    /// # Errors
    /// As for [`publish_all`](Self::publish_all).
    pub(super) async fn acknowledge<D: Delivery>(
        &self,
        delivery: D,
        settled: Settled<D::Proof>,
    ) -> Result<Option<Box<ResultPublication>>, BrokerError> {
        let Settled { proof, reply } = settled;
        delivery.ack(proof).await?;
        Ok(reply)
    }

    /// The direct reply, best effort: the event is safe by now, and the request answered.
    pub(super) async fn copy_to_requester(&self, publisher: &impl Publisher, answer: ResultPublication) {
        let ResultPublication { event, reply_to: Some(address), .. } = answer else { return };
        match publisher.reply(&address, event).await {
            Ok(()) => self.telemetry.meters.reply_sent(),
            Err(problem) => self.telemetry.meters.reply_lost(&problem),
        }
    }
}

/// What is published for one delivery.
struct Publishing<'a, P, D> {
    settler: &'a Settler,
    publisher: &'a P,
    delivery: &'a D,
    /// Until when what the broker does not take is published again.
    limit: Instant,
    /// Cancelled when it is to wait at once.
    set_aside: &'a CancellationToken,
}

impl<P: Publisher<Delivery = D, Proof = D::Proof>, D: Delivery> Publishing<'_, P, D> {
    /// None: the broker does not take it.
    async fn event(&self, answer: &ResultPublication) -> Result<Option<P::Proof>, BrokerError> {
        let target = Target::Event(answer.outcome);
        let publish = || self.publisher.publish(&target, answer.event.clone());
        let event = self.publish_for_a_while(PublishTarget::Event, publish).await?;
        let Telemetry { readiness, meters, .. } = &*self.settler.telemetry;
        if event.is_some() {
            readiness.event_taken();
            meters.answered(answer.outcome, answer.times.map(AnswerTimes::now));
        } else {
            readiness.event_untaken();
        }
        Ok(event)
    }

    /// The event is not taken: it waits, as a follow-up with its conclusion, or as the delivery that it is made from.
    async fn unsettled(&self, answer: ResultPublication) -> Result<P::Proof, BrokerError> {
        debug!(outcome = answer.outcome.as_str(), "an answer is not taken and waits in the broker");
        // Its own time: when the answer was known.
        let follow_up = answer.waits_as.and_then(|waiting| waiting.encode(answer.event.timestamp).ok());
        match follow_up {
            Some(follow_up) => self.wait(follow_up).await,
            None => self.wait_as(self.delivery.kind(), Vec::new()).await,
        }
    }

    async fn keep(&self, copy: DeadLetterCopy) -> Result<P::Proof, BrokerError> {
        let request = match copy {
            DeadLetterCopy::Delivery(headers) => return self.dead_letter(headers.headers()).await,
            DeadLetterCopy::Rewritten(_, request) => request,
        };
        let publish = || self.publisher.publish(&Target::Dead, request.clone());
        match self.publish_for_a_while(PublishTarget::Dead, publish).await? {
            Some(proof) => Ok(proof),
            None => {
                let mut waiting = request.clone();
                waiting.headers.push(kind_header(DeliveryKind::DeadLetter));
                self.wait(waiting).await
            }
        }
    }

    /// The delivery as a dead letter. The event is safe by now: what waits for the dead queue is answered no more.
    async fn dead_letter(&self, headers: Vec<(String, String)>) -> Result<P::Proof, BrokerError> {
        let publish = || self.publisher.forward(&Target::Dead, self.delivery, headers.clone());
        match self.publish_for_a_while(PublishTarget::Dead, publish).await? {
            Some(proof) => Ok(proof),
            None => self.wait_as(DeliveryKind::DeadLetter, headers.clone()).await,
        }
    }

    /// The delivery as it came waits, with its kind beside it.
    async fn wait_as(&self, kind: DeliveryKind, mut headers: Vec<(String, String)>) -> Result<P::Proof, BrokerError> {
        if kind != DeliveryKind::FollowUp {
            headers.push(kind_header(kind));
        }
        let target = self.longest_wait();
        let publish = || self.publisher.forward(&target, self.delivery, headers.clone());
        self.publish_until_confirmed(DelayReason::Unsettled, publish).await
    }

    async fn wait(&self, message: Outgoing) -> Result<P::Proof, BrokerError> {
        let target = self.longest_wait();
        let publish = || self.publisher.publish(&target, message.clone());
        self.publish_until_confirmed(DelayReason::Unsettled, publish).await
    }

    /// Where what cannot be published elsewhere waits.
    fn longest_wait(&self) -> Target {
        Target::Wait(self.settler.longest.clone())
    }

    /// Publishes until it is confirmed: what is to wait can wait nowhere else. Where that is not taken either, the delivery
    /// stays unacknowledged.
    async fn publish_until_confirmed<F>(
        &self,
        reason: DelayReason,
        publish: impl Fn() -> F,
    ) -> Result<P::Proof, BrokerError>
    where
        F: Future<Output = Result<P::Proof, PublishError>>,
    {
        let mut attempts = Attempts::new(self.settler, PublishTarget::Wait);
        loop {
            if let Some(proof) = attempts.publish(&publish).await? {
                self.settler.telemetry.meters.delayed(reason);
                return Ok(proof);
            }
            sleep(attempts.wait()).await;
        }
    }

    /// Publishes until it is confirmed, or until the limit or the order to set it aside: then the broker has not taken it.
    async fn publish_for_a_while<F>(
        &self,
        target: PublishTarget,
        publish: impl Fn() -> F,
    ) -> Result<Option<P::Proof>, BrokerError>
    where
        F: Future<Output = Result<P::Proof, PublishError>>,
    {
        let mut attempts = Attempts::new(self.settler, target);
        loop {
            if let Some(proof) = attempts.publish(&publish).await? {
                return Ok(Some(proof));
            }
            let waited = self.set_aside.run_until_cancelled(sleep(attempts.wait())).await;
            if waited.is_none() || Instant::now() >= self.limit {
                return Ok(None);
            }
        }
    }
}

fn kind_header(kind: DeliveryKind) -> (String, String) {
    (DeliveryKind::HEADER.to_owned(), kind.as_str().to_owned())
}

/// The attempts to publish one message.
struct Attempts<'a> {
    settler: &'a Settler,
    target: PublishTarget,
    rejected: Option<PublishRejected<'a>>,
    count: u32,
}

impl<'a> Attempts<'a> {
    const fn new(settler: &'a Settler, target: PublishTarget) -> Self {
        Self { settler, target, rejected: None, count: 0 }
    }

    /// None: the broker returned or refused it.
    async fn publish<F, Proof>(&mut self, publish: impl Fn() -> F) -> Result<Option<Proof>, BrokerError>
    where
        F: Future<Output = Result<Proof, PublishError>>,
    {
        let Telemetry { readiness, meters, .. } = &*self.settler.telemetry;
        let began = Instant::now();
        let published = publish().await;
        meters.published(self.target, publish_result(&published));
        let problem = match published {
            Ok(proof) => {
                meters.confirmed(began.elapsed());
                return Ok(Some(proof));
            }
            Err(PublishError::SessionOver(error)) => return Err(error),
            Err(problem) => problem,
        };
        match self.rejected {
            None => self.rejected = Some(PublishRejected::enter(readiness, &problem)),
            Some(_) => readiness.still_stuck(&problem),
        }
        Ok(None)
    }

    /// Until the next.
    fn wait(&mut self) -> Duration {
        self.count = self.count.saturating_add(1);
        self.settler.retry.delay(self.count - 1)
    }
}

const fn publish_result<Proof>(published: &Result<Proof, PublishError>) -> PublishResult {
    match published {
        Ok(_) => PublishResult::Confirmed,
        Err(PublishError::Unroutable { .. }) => PublishResult::Returned,
        Err(PublishError::TooLarge { .. }) => PublishResult::TooLarge,
        Err(PublishError::SessionOver(_)) => PublishResult::Lost,
        // The last three are of replies alone.
        Err(
            PublishError::Refused { .. }
            | PublishError::NoReplyAddress
            | PublishError::ReplyLost(_)
            | PublishError::TooManyReplies { .. },
        ) => PublishResult::Refused,
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
            info!("the broker takes everything again, or what it does not take waits, or the session ended");
        }
    }
}

/// The intervals between two attempts to publish what was returned or refused: short, so that all flows soon after
/// the repair.
pub(super) fn publish_retry() -> Result<Backoff, InvalidBackoff> {
    Backoff::new(Duration::from_millis(250), 2.0, Duration::from_secs(4), 0.0)
}
