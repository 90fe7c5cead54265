use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::field::display;
use tracing::{Span, debug, error, info, warn};

use super::call_permits::CallPermits;
use super::clock::Clock;
use super::disposition::{AnswerTimes, DeadLetterCopy, Disposition, ResultPublication};
use super::driver::drive;
use super::waiting::{DeliveryBudget, HoldLimits, WaitReason};
use crate::broker::{Delivery, DeliveryKind, WaitLevel, WaitLevels};
use crate::cancellation::{Conclusion, DeadlineTerms, ErrorDetail, Outcome, Phase, Policy, Progress, Reason};
use crate::message::{
    CancelRequest, Concluded, DeadLetterHeaders, DeadReason, Envelope, EventFormat, FollowUp, Identity, JsonText,
    NamePatterns, ResultEvent, UnreadableFollowUp, Unusable,
};
use crate::operations_api::Operations;
use crate::telemetry::Meters;
use crate::telemetry::meters::DelayReason;

/// Everything that handling a delivery needs and that outlives sessions.
#[derive(Debug)]
pub(super) struct Handler<O> {
    pub(super) operations: O,
    pub(super) call_permits: CallPermits,
    pub(super) policy: Policy,
    pub(super) wait_levels: WaitLevels,
    pub(super) format: EventFormat,
    pub(super) default_timeout: Duration,
    /// No deadline is later than this after its request was first seen.
    pub(super) max_timeout: Duration,
    pub(super) request_limit: usize,
    /// What the requests' operations may be called.
    pub(super) names: NamePatterns,
    pub(super) keep_failed: bool,
    pub(super) inline_wait: Duration,
    pub(super) inline_slots: Semaphore,
    /// In KiB: what large messages may take that are written, and that the broker has not taken yet.
    pub(super) publishing: Arc<Semaphore>,
    /// Cancelled when the worker is to stop.
    pub(super) stop: CancellationToken,
    /// This worker's name, in dead letters.
    pub(super) worker: String,
    pub(super) meters: Arc<Meters>,
    /// Whether each answer is a line.
    pub(super) log_answers: bool,
    pub(super) clock: Clock,
}

/// What a large message takes of [`Handler::publishing`] until it is dropped; nothing, of a small one.
pub(super) type Memory = Option<OwnedSemaphorePermit>;

/// What large messages take in all that are written and not taken yet, in KiB: beside what is in hand.
pub(super) const PUBLISHING_KIB: u32 = 32 * 1024;

/// In bytes.
const LARGE_MESSAGE: usize = 64 * 1024;

/// How an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// With everything.
    Full,
    /// Without what may be too large for the broker.
    Least,
}

/// From the deadline of a follow-up that only a newer worker can read to the answer of one that cannot: the newer worker
/// goes first.
const NEWER_WORKER_TIME: Duration = Duration::from_secs(60);

impl<O: Operations> Handler<O> {
    /// Decides what becomes of a delivery, calling the Operations API as needed. Never talks to the broker.
    /// Large messages wait until `memory` has room for them.
    pub(super) async fn handle(&self, delivery: &impl Delivery, memory: &mut Memory) -> Disposition {
        if self.stop.is_cancelled() {
            return self.set_aside(delivery);
        }
        match self.read(delivery) {
            Ok(case) => {
                self.measure_queue(&case, delivery.kind());
                self.proceed(case, delivery, false, memory).await
            }
            Err(decided) => *decided,
        }
    }

    /// How long a request waited for its first reading.
    fn measure_queue(&self, case: &FollowUp, kind: DeliveryKind) {
        if let (DeliveryKind::Request, Some(published)) = (kind, case.request.details.requested_at) {
            self.meters.queued(Duration::try_from(case.progress.first_seen - published).unwrap_or_default());
        }
    }

    /// What becomes of a delivery that is to be given up: it waits. Made as if it had just come; what was learnt of its
    /// operation since then will be learnt again.
    pub(super) fn set_aside(&self, delivery: &impl Delivery) -> Disposition {
        match self.read(delivery) {
            Ok(case) => self.delay_at_once(case, delivery.kind(), DelayReason::SetAside),
            Err(decided) => *decided,
        }
    }

    /// The request of a delivery and where it stands, or what becomes of what has none that can be read. From here on, all that
    /// is logged of the delivery says whose it is.
    pub(super) fn read(&self, delivery: &impl Delivery) -> Result<FollowUp, Box<Disposition>> {
        let case = self.read_unnamed(delivery)?;
        let span = Span::current();
        if !span.is_disabled() {
            span.record("request_key", display(case.request.key())).record("operation", case.request.name.as_str());
        }
        Ok(case)
    }

    fn read_unnamed(&self, delivery: &impl Delivery) -> Result<FollowUp, Box<Disposition>> {
        let envelope = delivery.envelope();
        match delivery.kind() {
            DeliveryKind::Request => {
                let request = CancelRequest::read(&envelope, self.request_limit, &self.names)
                    .map_err(|unusable| Box::new(self.refuse_request(&unusable, delivery)))?;
                let mut progress = Progress::begin(self.clock.now(), self.clock.correction(), self.terms(&request));
                self.clock.confirm(&mut progress);
                Ok(FollowUp { request, progress, quarantined: 0, concluded: None })
            }
            DeliveryKind::FollowUp => {
                let mut case =
                    FollowUp::read(&envelope).map_err(|unreadable| Box::new(self.refuse_follow_up(&unreadable)))?;
                // What is concluded has its times.
                if case.concluded.is_none() {
                    let terms = self.terms(&case.request);
                    case.progress.come_back(self.clock.now(), self.clock.correction(), terms);
                    self.clock.confirm(&mut case.progress);
                }
                Ok(case)
            }
            DeliveryKind::DeadLetter => Err(Box::new(Disposition::Bury)),
        }
    }

    /// Goes on where a case stands. One that is handled `alone`, while all others wait, is not held.
    pub(super) async fn proceed(
        &self,
        mut case: FollowUp,
        delivery: &impl Delivery,
        alone: bool,
        memory: &mut Memory,
    ) -> Disposition {
        let kind = delivery.kind();
        if let Some(concluded) = case.concluded.take() {
            *memory = self.room_for(&case).await;
            return self.answer(case, concluded, kind, Form::Full);
        }
        let Self { operations, call_permits, policy, clock, .. } = self;
        let FollowUp { request, progress, quarantined, .. } = case;
        let shortest = self.wait_levels.shortest().ttl();
        let budget = DeliveryBudget {
            since: Instant::now(),
            limits: HoldLimits::new(kind, delivery.redeliveries(), alone, self.inline_wait, shortest),
            levels: &self.wait_levels,
            deadline: progress.deadline,
            clock,
            slots: &self.inline_slots,
            stop: &self.stop,
        };
        let (progress, end) = drive(operations, call_permits, &request.name, progress, policy, budget, clock).await;
        let case = FollowUp { request, progress, quarantined, concluded: None };
        *memory = self.room_for(&case).await;
        match end {
            Ok(conclusion) => self.finish(case, conclusion, kind),
            Err(delayed) => {
                let reason = delay_reason(delayed.reason, &case.progress);
                self.delay(case, delayed.level, delayed.left, reason, kind)
            }
        }
    }

    /// Waits until there is room to write what becomes of a large case. A small one needs none.
    async fn room_for(&self, case: &FollowUp) -> Memory {
        let context = case.request.details.context.as_ref().map_or(0, JsonText::size);
        let bytes = context + case.progress.operation.as_ref().map_or(0, |operation| operation.get().len());
        if bytes < LARGE_MESSAGE {
            return None;
        }
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).min(PUBLISHING_KIB);
        // Never closed.
        Arc::clone(&self.publishing).acquire_many_owned(kib).await.ok()
    }

    fn terms(&self, request: &CancelRequest) -> DeadlineTerms {
        request.deadline_terms(self.default_timeout, self.max_timeout)
    }

    /// A case goes on elsewhere, after the shortest wait there is and what it has to wait anyway.
    pub(super) fn delay_at_once(&self, case: FollowUp, kind: DeliveryKind, reason: DelayReason) -> Disposition {
        let (level, left) = (self.wait_levels.shortest().clone(), case.progress.wait_left);
        self.delay(case, level, left, reason, kind)
    }

    fn delay(
        &self,
        mut case: FollowUp,
        level: WaitLevel,
        left: Duration,
        reason: DelayReason,
        kind: DeliveryKind,
    ) -> Disposition {
        case.progress.wait_left = left;
        // Another call may have told the time since this one's last.
        self.clock.confirm(&mut case.progress);
        case.progress.wait_for(level.ttl(), self.clock.now());
        let FollowUp { request, .. } = &case;
        debug!(name = %request.name, identity = request.identity.as_str(), level = level.label(), "delayed");
        match case.encode(self.clock.now()) {
            Ok(message) => Disposition::Delay { follow_up: message, level, reason },
            Err(problem) => {
                error!(%problem, "a follow-up cannot be written and its request fails; is this machine's clock right?");
                let error = Some(ErrorDetail { message: problem.to_string(), ..ErrorDetail::default() });
                let outcome = Outcome::Failed(Reason::UnreadableFollowUp);
                self.finish(case, Conclusion { outcome, error }, kind)
            }
        }
    }

    /// The answer is known.
    fn finish(&self, case: FollowUp, conclusion: Conclusion, kind: DeliveryKind) -> Disposition {
        self.log_answer(&case, &conclusion);
        self.answer(case, Concluded { conclusion, finished_at: self.clock.now() }, kind, Form::Full)
    }

    /// One line for each answer, which says whose it is at its top, too. Those that failed are told whatever the settings say.
    fn log_answer(&self, case: &FollowUp, conclusion: &Conclusion) {
        let Conclusion { outcome, error } = conclusion;
        if !self.log_answers && !matches!(outcome, Outcome::Failed(_)) {
            return;
        }
        let FollowUp { request, progress, .. } = case;
        let (name, identity) = (request.name.as_str(), request.identity.as_str());
        let seconds = (self.clock.now() - progress.first_seen).as_seconds_f64();
        let (cancels, gets) = (progress.calls.cancel, progress.calls.get);
        if let Outcome::Failed(reason) = outcome {
            let error = error.as_ref().map_or("", |error| error.message.as_str());
            let user_id = request.details.user_id.as_deref();
            let reason = reason.as_str();
            warn!(request_key = %request.key(), name, identity, user_id, reason, error, seconds, cancels, gets, "failed");
        } else {
            let outcome = outcome.as_str();
            info!(request_key = %request.key(), name, identity, outcome, seconds, cancels, gets, "answered");
        }
    }

    /// Publishes an answer that is known, whether it has just become so or had to wait for the broker.
    pub(super) fn answer(
        &self,
        mut case: FollowUp,
        concluded: Concluded,
        kind: DeliveryKind,
        form: Form,
    ) -> Disposition {
        let Concluded { conclusion, finished_at } = &concluded;
        let Conclusion { outcome, error } = conclusion;
        let event = ResultEvent::concluded(&case.request, &case.progress, conclusion, *finished_at);
        let event = match form {
            Form::Full => event.encode(&self.format),
            Form::Least => event.encode_least(&self.format),
        };
        let keep = match outcome {
            Outcome::Failed(reason) if self.keep_failed || *reason == Reason::GaveUp => {
                let message = error.as_ref().map_or("", |error| error.message.as_str());
                Some(self.keep(&case.request, *reason, message, kind, *finished_at))
            }
            _ => None,
        };
        let (outcome, reply_to, times) = (*outcome, case.request.details.reply_to.clone(), self.times(&case.progress));
        case.concluded = Some(concluded);
        let times = Some(times);
        Disposition::Finish(Box::new(ResultPublication { outcome, event, times, reply_to, keep, waits_as: Some(case) }))
    }

    fn times(&self, progress: &Progress) -> AnswerTimes {
        let now = self.clock.now();
        let since = |then| Duration::try_from(now - then).unwrap_or_default();
        let left = Duration::try_from(progress.deadline - now).unwrap_or_default();
        let (age, overdue) = (since(progress.first_seen), since(progress.deadline));
        AnswerTimes { known: Instant::now(), age, overdue, left }
    }

    pub(super) fn keep(
        &self,
        request: &CancelRequest,
        reason: Reason,
        message: &str,
        kind: DeliveryKind,
        now: OffsetDateTime,
    ) -> DeadLetterCopy {
        let detail = format!("{}: {message}", reason.as_str());
        let dead = if reason == Reason::GaveUp { DeadReason::GaveUp } else { DeadReason::Failed };
        let replay = request.details.replay;
        let headers = self.dead_letter_headers(dead, detail, Some(request.identity.clone()), replay);
        match kind {
            DeliveryKind::Request => DeadLetterCopy::Delivery(headers),
            DeliveryKind::FollowUp | DeliveryKind::DeadLetter => {
                let mut rewritten = request.to_message(now);
                rewritten.headers.extend(headers.headers());
                let user_id = request.details.user_id.clone();
                rewritten.headers.extend(user_id.map(|user| (DeadLetterHeaders::USER_ID.to_owned(), user)));
                DeadLetterCopy::Rewritten(dead, rewritten)
            }
        }
    }

    fn refuse_request(&self, unusable: &Unusable, delivery: &impl Delivery) -> Disposition {
        let problem = &unusable.problem;
        if let Some(identity) = &unusable.identity {
            warn!(identity = identity.as_str(), problem, "a request cannot be used and goes to the dead queue");
        } else {
            let ((exchange, routing_key), envelope) = (delivery.route(), delivery.envelope());
            let (bytes, Envelope { content_type, user_id, .. }) = (envelope.body.len(), envelope);
            warn!(
                exchange,
                routing_key,
                content_type,
                user_id,
                bytes,
                problem,
                "a request names nobody who could be answered, and goes to the dead queue without an event"
            );
        }
        let event = ResultEvent::unusable(unusable, self.clock.now());
        self.refuse(DeadReason::UnusableRequest, Reason::UnusableRequest, unusable, event)
    }

    /// The worker that wrote it had accepted the request, so it is answered: nothing more will become known of it here. What
    /// a newer worker can read waits for one, for as long as that can help.
    fn refuse_follow_up(&self, unreadable: &UnreadableFollowUp) -> Disposition {
        if let Some(deadline) = unreadable.newer {
            let left = Duration::try_from(
                deadline.saturating_add(NEWER_WORKER_TIME.try_into().unwrap_or_default()) - self.clock.now(),
            )
            .unwrap_or_default();
            if !left.is_zero() {
                debug!(problem = %unreadable, "a follow-up of a newer worker waits for it");
                return Disposition::Forward(self.wait_levels.level_within(left).clone());
            }
        }
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
                times: None,
                reply_to: request.details.reply_to.clone(),
                keep: None,
                waits_as: None,
            })
        });
        Disposition::DeadLetter {
            headers: self.dead_letter_headers(
                dead,
                request.problem.clone(),
                request.identity.clone(),
                request.details.replay,
            ),
            answer,
        }
    }

    fn dead_letter_headers(
        &self,
        reason: DeadReason,
        detail: String,
        identity: Option<Identity>,
        replay: u32,
    ) -> DeadLetterHeaders {
        DeadLetterHeaders { reason, detail, identity, replay, time: self.clock.now(), worker: self.worker.clone() }
    }
}

/// Why a request waits, in the words of its operation: what waits for an operation that runs is a poll.
fn delay_reason(wait: WaitReason, progress: &Progress) -> DelayReason {
    match wait {
        WaitReason::Backoff if progress.phase == Phase::Polling && progress.failures == 0 => DelayReason::Poll,
        WaitReason::Backoff => DelayReason::Backoff,
        WaitReason::RateLimited => DelayReason::RateLimited,
        WaitReason::Remainder => DelayReason::Remainder,
        WaitReason::CircuitOpen => DelayReason::CircuitOpen,
    }
}
