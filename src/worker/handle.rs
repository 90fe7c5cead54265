use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::broker_link::Delivery;
use super::clock::{Clock, dice};
use super::counters::Counters;
use super::disposition::{Answer, Disposition, Keep};
use super::gatekeeper::Gatekeeper;
use super::patience::{Cause, Limited, Pause};
use super::pursue::pursue;
use crate::broker::{Ladder, Source};
use crate::cancellation::{Conclusion, ErrorDetail, Outcome, Policy, Progress, Reason};
use crate::message::{
    CancelRequest, DeadLetter, DeadReason, EventFormat, FollowUp, Identity, NamePatterns, ResultEvent,
    UnreadableFollowUp, Unusable,
};
use crate::operations_api::Operations;

/// A delivery that has come so often is not held: what it has to wait for, it waits for in the broker.
const RESTLESS: u32 = 3;

/// Everything that handling a delivery needs and that outlives sessions.
#[derive(Debug)]
pub(super) struct Handler<O> {
    pub(super) operations: O,
    pub(super) gatekeeper: Gatekeeper,
    pub(super) policy: Policy,
    pub(super) ladder: Ladder,
    pub(super) format: EventFormat,
    pub(super) default_timeout: Duration,
    pub(super) request_limit: usize,
    /// What the requests' operations may be called.
    pub(super) names: NamePatterns,
    pub(super) keep_failed: bool,
    pub(super) inline_wait: Duration,
    pub(super) inline_slots: Arc<Semaphore>,
    /// Cancelled when the worker is to stop.
    pub(super) stop: CancellationToken,
    /// This worker's name, in dead letters.
    pub(super) worker: String,
    pub(super) counters: Counters,
    pub(super) clock: Clock,
}

impl<O: Operations> Handler<O> {
    /// Decides what becomes of a delivery, calling the Operations API as needed. Never talks to the broker. One that is
    /// handled alone, while all others wait, is not held.
    pub(super) async fn handle(&self, delivery: &impl Delivery, alone: bool) -> Disposition {
        if self.stop.is_cancelled() {
            return Disposition::Requeue;
        }
        let envelope = delivery.envelope();
        // While faults last, every second that a delivery is held is a chance of the next, until the delivery limit takes
        // it without an answer; a follow-up begins to count anew. Not at once: each park may leave one follow-up too many.
        let hold = if alone || delivery.redeliveries() >= RESTLESS { Duration::ZERO } else { self.inline_wait };
        match delivery.source() {
            Source::Requests => match CancelRequest::read(&envelope, self.request_limit, &self.names) {
                Ok(request) => {
                    let first_seen = self.clock.now();
                    let deadline = request.deadline_from(first_seen, self.default_timeout);
                    let progress = Progress::new(first_seen, deadline);
                    self.pursue(request, progress, Source::Requests, hold).await
                }
                Err(unusable) => self.refuse_request(&unusable),
            },
            Source::Followups => match FollowUp::read(&envelope) {
                Ok(FollowUp { request, progress }) => self.pursue(request, progress, Source::Followups, hold).await,
                Err(unreadable) => self.refuse_follow_up(&unreadable),
            },
        }
    }

    /// What becomes of a delivery that is in no queue any more and takes too long: it waits in one. Made as if it had just
    /// come; what was learnt of its operation since then will be learnt again.
    pub(super) fn set_aside(&self, delivery: &impl Delivery) -> Disposition {
        let envelope = delivery.envelope();
        let pause = Pause { wait: self.ladder.shortest().ttl(), cause: Cause::Rest };
        match delivery.source() {
            Source::Requests => match CancelRequest::read(&envelope, self.request_limit, &self.names) {
                Ok(request) => {
                    let first_seen = self.clock.now();
                    let deadline = request.deadline_from(first_seen, self.default_timeout);
                    self.park(request, Progress::new(first_seen, deadline), pause, Source::Requests)
                }
                Err(unusable) => self.refuse_request(&unusable),
            },
            Source::Followups => match FollowUp::read(&envelope) {
                Ok(FollowUp { request, progress }) => self.park(request, progress, pause, Source::Followups),
                Err(unreadable) => self.refuse_follow_up(&unreadable),
            },
        }
    }

    async fn pursue(&self, request: CancelRequest, progress: Progress, source: Source, hold: Duration) -> Disposition {
        // What has been parked once waits in the broker from then on, but for what no wait queue is short enough for.
        let longest_step = match source {
            Source::Requests => self.inline_wait,
            Source::Followups => self.ladder.shortest().ttl(),
        };
        let since = Instant::now();
        let patience =
            Limited { since, hold, longest_step, slots: Arc::clone(&self.inline_slots), stop: self.stop.clone() };
        let Self { operations, gatekeeper, policy, clock, .. } = self;
        match pursue(operations, gatekeeper, &request.name, progress, policy, patience, *clock).await {
            (progress, Ok(conclusion)) => self.finish(&request, &progress, &conclusion, source),
            (progress, Err(pause)) => self.park(request, progress, pause, source),
        }
    }

    fn park(&self, request: CancelRequest, mut progress: Progress, pause: Pause, source: Source) -> Disposition {
        let now = self.clock.now();
        let wait = pause.wait;
        let time_left = Duration::try_from(progress.deadline - now).unwrap_or_default();
        let level = match pause.cause {
            Cause::Step => self.ladder.level_for(wait, time_left),
            // Its rest follows: a turn that is missed is nobody's.
            Cause::Turn | Cause::Rest => self.ladder.level_within(wait),
            Cause::Outage => self.ladder.level_around(wait, time_left, dice()),
        };
        progress.wait_left = match pause.cause {
            Cause::Step | Cause::Turn | Cause::Rest => wait.saturating_sub(level.ttl()),
            // Whoever comes back early may find the endpoint available.
            Cause::Outage => Duration::ZERO,
        };
        debug!(name = %request.name, identity = request.identity.as_str(), level = level.label(), "parking");
        let follow_up = FollowUp { request, progress };
        match follow_up.encode(now) {
            Ok(message) => Disposition::Park { follow_up: message, level: level.clone() },
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
        let reply_to = request.reply_to.clone();
        Disposition::Finish(Box::new(Answer { outcome: *outcome, event, reply_to, keep }))
    }

    fn keep(
        &self,
        request: &CancelRequest,
        reason: Reason,
        message: &str,
        source: Source,
        now: OffsetDateTime,
    ) -> Keep {
        let detail = format!("{}: {message}", reason.as_str());
        let note = self.note(DeadReason::Failed, detail, Some(request.identity.clone()));
        match source {
            Source::Requests => Keep::Delivery(note),
            Source::Followups => {
                let mut rewritten = request.to_message(now);
                rewritten.headers.extend(note.headers());
                Keep::Rewritten(rewritten)
            }
        }
    }

    fn refuse_request(&self, unusable: &Unusable) -> Disposition {
        let identity = unusable.identity.as_ref().map(Identity::as_str);
        warn!(identity, problem = %unusable.problem, "a request cannot be used and goes to the dead queue");
        let event = ResultEvent::unusable(unusable, self.clock.now());
        self.refuse(DeadReason::UnusableRequest, Reason::UnusableRequest, unusable, event)
    }

    /// Whoever parked it accepted the request, so it is answered: nothing more will become known of it here.
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
            Box::new(Answer {
                outcome: Outcome::Failed(reason),
                event: event.encode(&self.format),
                reply_to: request.reply_to.clone(),
                keep: None,
            })
        });
        Disposition::DeadLetter { note: self.note(dead, request.problem.clone(), request.identity.clone()), answer }
    }

    fn note(&self, reason: DeadReason, detail: String, identity: Option<Identity>) -> DeadLetter {
        DeadLetter { reason, detail, identity, time: self.clock.now(), worker: self.worker.clone() }
    }
}
