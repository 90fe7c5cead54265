use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::call_permits::CallPermits;
use super::clock::Clock;
use super::disposition::{DeadLetterCopy, Disposition, ResultPublication};
use super::driver::drive;
use super::waiting::{Delayed, DeliveryBudget, HoldLimits};
use crate::broker::{Delivery, Source, WaitLevels};
use crate::cancellation::{Conclusion, ErrorDetail, Outcome, Policy, Progress, Reason};
use crate::message::{
    CancelRequest, DeadLetterHeaders, DeadReason, EventFormat, FollowUp, Identity, NamePatterns, ResultEvent,
    UnreadableFollowUp, Unusable,
};
use crate::operations_api::Operations;
use crate::telemetry::Counters;

/// Everything that handling a delivery needs and that outlives sessions.
#[derive(Debug)]
pub(super) struct Handler<O> {
    pub(super) operations: O,
    pub(super) call_permits: CallPermits,
    pub(super) policy: Policy,
    pub(super) wait_levels: WaitLevels,
    pub(super) format: EventFormat,
    pub(super) default_timeout: Duration,
    pub(super) request_limit: usize,
    /// What the requests' operations may be called.
    pub(super) names: NamePatterns,
    pub(super) keep_failed: bool,
    pub(super) inline_wait: Duration,
    pub(super) inline_slots: Semaphore,
    /// Cancelled when the worker is to stop.
    pub(super) stop: CancellationToken,
    /// This worker's name, in dead letters.
    pub(super) worker: String,
    pub(super) counters: Counters,
    pub(super) clock: Clock,
}

impl<O: Operations> Handler<O> {
    /// Decides what becomes of a delivery, calling the Operations API as needed. Never talks to the broker. One that is
    /// handled `isolated`, while all others wait, is not held.
    pub(super) async fn handle(&self, delivery: &impl Delivery, isolated: bool) -> Disposition {
        if self.stop.is_cancelled() {
            return Disposition::Requeue;
        }
        let source = delivery.source();
        let shortest = self.wait_levels.shortest().ttl();
        let limits = HoldLimits::new(source, delivery.redeliveries(), isolated, self.inline_wait, shortest);
        match self.read(delivery) {
            Ok((request, progress)) => self.drive(request, progress, source, limits).await,
            Err(refused) => *refused,
        }
    }

    /// What becomes of a delivery that is in no queue any more and takes too long: it waits in one. Made as if it had just
    /// come; what was learnt of its operation since then will be learnt again.
    pub(super) fn set_aside(&self, delivery: &impl Delivery) -> Disposition {
        let delayed = Delayed { level: self.wait_levels.shortest().clone(), left: Duration::ZERO };
        match self.read(delivery) {
            Ok((request, progress)) => self.delay(request, progress, delayed, delivery.source()),
            Err(refused) => *refused,
        }
    }

    /// The request of a delivery and where it stands, or what becomes of what cannot be read.
    fn read(&self, delivery: &impl Delivery) -> Result<(CancelRequest, Progress), Box<Disposition>> {
        let envelope = delivery.envelope();
        match delivery.source() {
            Source::Requests => {
                let request = CancelRequest::read(&envelope, self.request_limit, &self.names)
                    .map_err(|unusable| Box::new(self.refuse_request(&unusable)))?;
                let first_seen = self.clock.now();
                let deadline = request.deadline_from(first_seen, self.default_timeout);
                Ok((request, Progress::new(first_seen, deadline)))
            }
            Source::Followups => match FollowUp::read(&envelope) {
                Ok(FollowUp { request, progress }) => Ok((request, progress)),
                Err(unreadable) => Err(Box::new(self.refuse_follow_up(&unreadable))),
            },
        }
    }

    async fn drive(
        &self,
        request: CancelRequest,
        progress: Progress,
        source: Source,
        limits: HoldLimits,
    ) -> Disposition {
        let Self { operations, call_permits, policy, clock, .. } = self;
        let budget = DeliveryBudget {
            since: Instant::now(),
            limits,
            levels: &self.wait_levels,
            deadline: progress.deadline,
            clock: *clock,
            slots: &self.inline_slots,
            stop: &self.stop,
        };
        match drive(operations, call_permits, &request.name, progress, policy, budget, *clock).await {
            (progress, Ok(conclusion)) => self.finish(&request, &progress, &conclusion, source),
            (progress, Err(delayed)) => self.delay(request, progress, delayed, source),
        }
    }

    fn delay(&self, request: CancelRequest, mut progress: Progress, delayed: Delayed, source: Source) -> Disposition {
        let now = self.clock.now();
        let Delayed { level, left } = delayed;
        progress.wait_left = left;
        debug!(name = %request.name, identity = request.identity.as_str(), level = level.label(), "parking");
        let follow_up = FollowUp { request, progress };
        match follow_up.encode(now) {
            Ok(message) => Disposition::Delay { follow_up: message, level },
            Err(problem) => {
                error!(%problem, "a follow-up cannot be written and its request fails; is this machine's clock right?");
                let FollowUp { request, progress } = follow_up;
                let error = Some(ErrorDetail { message: problem.to_string(), ..ErrorDetail::default() });
                let conclusion = Conclusion { outcome: Outcome::Failed(Reason::UnreadableFollowUp), error };
                self.finish(&request, &progress, &conclusion, source)
            }
        }
    }

    fn finish(
        &self,
        request: &CancelRequest,
        progress: &Progress,
        conclusion: &Conclusion,
        source: Source,
    ) -> Disposition {
        let finished_at = self.clock.now();
        let event = ResultEvent::concluded(request, progress, conclusion, finished_at).encode(&self.format);
        let Conclusion { outcome, error } = conclusion;
        let (name, identity) = (&request.name, request.identity.as_str());
        let keep = if let Outcome::Failed(reason) = outcome {
            let message = error.as_ref().map_or("", |error| error.message.as_str());
            warn!(%name, identity, reason = reason.as_str(), error = message, "failed");
            self.keep_failed.then(|| self.keep(request, *reason, message, source, finished_at))
        } else {
            debug!(%name, identity, outcome = outcome.as_str(), "finished");
            None
        };
        let reply_to = request.details.reply_to.clone();
        Disposition::Finish(Box::new(ResultPublication { outcome: *outcome, event, reply_to, keep }))
    }

    fn keep(
        &self,
        request: &CancelRequest,
        reason: Reason,
        message: &str,
        source: Source,
        now: OffsetDateTime,
    ) -> DeadLetterCopy {
        let detail = format!("{}: {message}", reason.as_str());
        let headers = self.dead_letter_headers(DeadReason::Failed, detail, Some(request.identity.clone()));
        match source {
            Source::Requests => DeadLetterCopy::Delivery(headers),
            Source::Followups => {
                let mut rewritten = request.to_message(now);
                rewritten.headers.extend(headers.headers());
                DeadLetterCopy::Rewritten(rewritten)
            }
        }
    }

    fn refuse_request(&self, unusable: &Unusable) -> Disposition {
        let identity = unusable.identity.as_ref().map(Identity::as_str);
        warn!(identity, problem = %unusable.problem, "a request cannot be used and goes to the dead queue");
        let event = ResultEvent::unusable(unusable, self.clock.now());
        self.refuse(DeadReason::UnusableRequest, Reason::UnusableRequest, unusable, event)
    }

    /// The worker that wrote it had accepted the request, so it is answered: nothing more will become known of it here.
    fn refuse_follow_up(&self, unreadable: &UnreadableFollowUp) -> Disposition {
        let identity = unreadable.request.identity.as_ref().map(Identity::as_str);
        warn!(identity, problem = %unreadable, "a follow-up cannot be read and goes to the dead queue");
        let event = ResultEvent::unreadable_follow_up(unreadable, self.clock.now());
        self.refuse(DeadReason::UnreadableFollowUp, Reason::UnreadableFollowUp, &unreadable.request, event)
    }

    fn refuse(
        &self,
        dead: DeadReason,
        reason: Reason,
        request: &Unusable,
        event: Option<ResultEvent<'_>>,
    ) -> Disposition {
        let answer = event.map(|event| {
            Box::new(ResultPublication {
                outcome: Outcome::Failed(reason),
                event: event.encode(&self.format),
                reply_to: request.details.reply_to.clone(),
                keep: None,
            })
        });
        Disposition::DeadLetter {
            headers: self.dead_letter_headers(dead, request.problem.clone(), request.identity.clone()),
            answer,
        }
    }

    fn dead_letter_headers(&self, reason: DeadReason, detail: String, identity: Option<Identity>) -> DeadLetterHeaders {
        DeadLetterHeaders { reason, detail, identity, time: self.clock.now(), worker: self.worker.clone() }
    }
}
