use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::call_permits::CallPermits;
use super::clock::{Clock, jitter};
use super::control::Control;
use super::dispatcher::{DispatchEnd, Limits, QUARANTINE_PREFETCH, session_label, work};
use super::handler::{Handler, PUBLISHING_KIB};
use super::in_hand::Fault;
use super::settler::{Settler, publish_retry};
use crate::broker::rabbitmq::RabbitMq;
use crate::broker::{Broker, BrokerError, Session as _, SessionKind, WaitLevels};
use crate::cancellation::Policy;
use crate::operations_api::Operations;
use crate::pacing::{Backoff, InvalidBackoff};
use crate::settings::Settings;
use crate::telemetry::meters::{Consumed, SessionCause};
use crate::telemetry::{Meters, Readiness, Telemetry, summarize};

/// Why the worker does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The broker refuses what the settings ask for, and did so at the very first session.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Intervals that make no sense.
    #[error("use the settings [retry], [polling] or amqp.reconnect_*")]
    Backoff(#[from] InvalidBackoff),
    /// No wait queue at all.
    #[error("use the setting amqp.topology.wait_levels: at least one is needed")]
    NoWaitLevels,
}

/// The attempt whose interval follows the loss of a session: from one to three seconds as the settings come. Not shorter, since a
/// cluster that has lost a node elects new leaders then, and on a channel from before RabbitMQ 3.10 refuses all publishes, until
/// the channel is replaced. And so wide, since all workers of a broker lose it at the same moment.
const ATTEMPT_AFTER_LOSS: u32 = 3;

/// From one line to the next that say the same failure.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Works until it is told to stop: builds a session, works in it until a fault, builds the next, for ever.
///
/// # Errors
/// Only before the first session: the broker refuses the settings (login, vhost, permissions, arguments of queues).
/// A broker that cannot be reached is no such error: the worker goes on trying, and `telemetry` says so.
pub async fn run<O: Operations>(
    settings: &Settings,
    operations: O,
    worker: &str,
    control: impl Into<Control>,
    telemetry: Arc<Telemetry>,
) -> Result<(), RunError> {
    let broker = RabbitMq::new(&settings.amqp, worker, Arc::clone(&telemetry.meters));
    run_on(Arc::new(broker), settings, operations, worker, control, telemetry, Clock::system()).await
}

/// As [`run`], on any broker and by any clock.
///
/// # Errors
/// As for [`run`].
pub async fn run_on<B: Broker + 'static, O: Operations>(
    broker: Arc<B>,
    settings: &Settings,
    operations: O,
    worker: &str,
    control: impl Into<Control>,
    telemetry: Arc<Telemetry>,
    clock: Clock,
) -> Result<(), RunError> {
    let Control { stop, mut admission } = control.into();
    let meters = &telemetry.meters;
    let handler = Arc::new(handler(settings, operations, worker, stop.clone(), clock, Arc::clone(meters))?);
    meters.limit(Consumed::Requests, settings.amqp.prefetch);
    meters.limit(Consumed::FollowUps, settings.amqp.prefetch);
    meters.limit(Consumed::Quarantine, QUARANTINE_PREFETCH);
    let settler = Arc::new(Settler {
        retry: publish_retry()?,
        unsettled_limit: *settings.amqp.unsettled_limit,
        longest: handler.wait_levels.longest().clone(),
        telemetry: Arc::clone(&telemetry),
    });
    let lane = |kind, telemetry| Lane {
        kind,
        broker: Arc::clone(&broker),
        handler: Arc::clone(&handler),
        settler: Arc::clone(&settler),
        limits: Limits::new(settings, kind),
        telemetry,
    };
    // All of them end with this function.
    let mut background = JoinSet::new();
    let reporter = Arc::clone(&handler);
    background.spawn(async move { summarize(&reporter.meters).await });
    let measuring = Arc::clone(&handler);
    background.spawn(async move { measuring.meters.watch_loop().await });
    let forgetting = Arc::clone(&handler);
    background.spawn(async move { forgetting.call_permits.forget_old_problems().await });
    let reloading = Arc::clone(&handler);
    background.spawn(async move {
        while admission.changed().await.is_ok() {
            let policy = *admission.borrow_and_update();
            reloading.call_permits.set_policy(policy);
        }
    });
    telemetry.readiness.watch_api(handler.call_permits.problems());
    let (reconnect, first_session) = (settings.amqp.reconnect()?, Arc::new(Notify::new()));
    let mut quarantine_ended = JoinSet::new();
    let (quarantine, mut quarantined) = (lane(SessionKind::Quarantine, None), Sessions::new(reconnect.clone()));
    quarantined.had_one = true;
    let (after, stopped) = (Arc::clone(&first_session), stop.clone());
    quarantine_ended.spawn(async move {
        // A bug that ends this ends the process: nobody would look after the quarantine any more.
        let _stops_all = stopped.clone().drop_guard();
        // Its queue is made with the first session that works.
        if stopped.run_until_cancelled(after.notified()).await.is_some() {
            let _ = quarantine.run(quarantined, &Notify::new()).await;
        }
    });
    lane(SessionKind::Work, Some(telemetry)).run(Sessions::new(reconnect), &first_session).await?;
    match quarantine_ended.join_next().await.map(|ended| ended.map_err(JoinError::try_into_panic)) {
        Some(Err(Ok(panic))) => resume_unwind(panic),
        _ => Ok(()),
    }
}

/// The sessions of one kind, one after the other.
struct Lane<B, O> {
    kind: SessionKind,
    broker: Arc<B>,
    handler: Arc<Handler<O>>,
    settler: Arc<Settler>,
    limits: Limits,
    /// Only of those that work: what is in the quarantine keeps nobody waiting.
    telemetry: Option<Arc<Telemetry>>,
}

impl<B: Broker, O: Operations> Lane<B, O> {
    /// Builds a session, works in it until a fault, builds the next, until the stop. `first` is told of the first.
    async fn run(self, mut sessions: Sessions, first: &Notify) -> Result<(), RunError> {
        let stop = self.handler.stop.clone();
        while !stop.is_cancelled() {
            let Some(opened) = stop.run_until_cancelled(self.broker.open(self.kind)).await else { break };
            let wait = match opened {
                Ok(session) => {
                    sessions.built();
                    first.notify_one();
                    let end = self.work(session).await;
                    self.handler.meters.session_ended(session_label(self.kind), cause(&end));
                    match end {
                        DispatchEnd::Stopped => break,
                        DispatchEnd::Fault(fault) => {
                            match self.kind {
                                SessionKind::Work => {
                                    warn!(%fault, "the session is over; what is unacknowledged will be delivered again; building a new session");
                                }
                                SessionKind::Quarantine => {
                                    warn!(%fault, "the session with the quarantine is over; building a new one")
                                }
                            }
                            sessions.next_wait(jitter())
                        }
                    }
                }
                Err(error) => {
                    self.handler.meters.session_attempt_failed(session_label(self.kind));
                    if let Some(readiness) = self.readiness() {
                        readiness.no_session(&error);
                    }
                    sessions.failed(error, self.kind, jitter())?
                }
            };
            if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
        }
        Ok(())
    }

    async fn work(&self, session: B::Session) -> DispatchEnd {
        let readiness = self.readiness();
        if let Some(readiness) = readiness {
            readiness.preparing(session.blocked(), session.topology_problem());
        }
        work(&self.handler, &self.settler, session, self.kind, self.limits, readiness).await
    }

    fn readiness(&self) -> Option<&Readiness> {
        self.telemetry.as_ref().map(|telemetry| &telemetry.readiness)
    }
}

/// What ended a session, as metrics call it.
const fn cause(end: &DispatchEnd) -> SessionCause {
    match end {
        DispatchEnd::Stopped => SessionCause::Stopped,
        DispatchEnd::Fault(Fault::Panicked) => SessionCause::Panic,
        DispatchEnd::Fault(Fault::Broker(error)) => match error {
            BrokerError::Lost { .. } => SessionCause::Connection,
            BrokerError::ConsumerCancelled { .. } => SessionCause::ConsumerCancelled,
            BrokerError::ConfirmTimeout(_) => SessionCause::ConfirmTimeout,
            BrokerError::Stale => SessionCause::Channel,
            _ => SessionCause::Other,
        },
    }
}

/// What is known of the sessions so far: how long to wait before the next, and what has been said already.
struct Sessions {
    reconnect: Backoff,
    /// Waits in a row since there was none, or since one was lost: they choose the interval.
    attempts: u32,
    had_one: bool,
    reported: Option<(String, Instant)>,
}

impl Sessions {
    const fn new(reconnect: Backoff) -> Self {
        Self { reconnect, attempts: 0, had_one: false, reported: None }
    }

    /// No session could be built: how long to wait, or that there is no use in trying. `jitter` is from 0 to 1.
    fn failed(&mut self, error: BrokerError, kind: SessionKind, jitter: f64) -> Result<Duration, BrokerError> {
        if error.is_permanent() && !self.had_one {
            return Err(error);
        }
        self.report(error.to_string(), kind);
        Ok(self.next_wait(jitter))
    }

    /// There is one.
    fn built(&mut self) {
        self.attempts = ATTEMPT_AFTER_LOSS;
        self.had_one = true;
        self.reported = None;
    }

    /// Until the next attempt. Its mean does not grow where sessions are lost again and again: what ends them has to do so
    /// until it is in the quarantine, and all others wait for that.
    fn next_wait(&mut self, jitter: f64) -> Duration {
        let wait = self.reconnect.spread(self.reconnect.delay(self.attempts), jitter);
        self.attempts = self.attempts.saturating_add(1);
        wait
    }

    /// The same failure is logged once in a [`REPORT_INTERVAL`], not at every attempt.
    fn report(&mut self, error: String, kind: SessionKind) {
        let known = self.reported.as_ref().is_some_and(|(text, at)| *text == error && at.elapsed() < REPORT_INTERVAL);
        if !known {
            error!(session = kind.as_str(), error, "no session with the broker; trying again until there is one");
            self.reported = Some((error, Instant::now()));
        }
    }
}

fn handler<O>(
    settings: &Settings,
    operations: O,
    worker: &str,
    stop: CancellationToken,
    clock: Clock,
    meters: Arc<Meters>,
) -> Result<Handler<O>, RunError> {
    Ok(Handler {
        operations,
        call_permits: CallPermits::new(settings.admission(), Arc::clone(&meters)),
        policy: policy(settings)?,
        wait_levels: WaitLevels::of(&settings.amqp.topology).ok_or(RunError::NoWaitLevels)?,
        format: settings.events.format(),
        default_timeout: *settings.worker.default_timeout,
        max_timeout: *settings.worker.max_timeout,
        request_limit: settings.worker.request_limit(),
        names: settings.api.names.clone(),
        keep_failed: settings.worker.keep_failed,
        inline_wait: *settings.worker.inline_wait,
        inline_slots: Semaphore::new(settings.worker.inline_slots),
        publishing: Arc::new(Semaphore::new(PUBLISHING_KIB as usize)),
        stop,
        worker: worker.to_owned(),
        meters,
        log_answers: settings.log.answers,
        clock,
    })
}

/// The policy that the settings describe.
///
/// # Errors
/// Says which number makes no sense.
pub fn policy(settings: &Settings) -> Result<Policy, InvalidBackoff> {
    Ok(Policy {
        retry: settings.retry.intervals()?,
        polling: settings.polling.intervals()?,
        conflict_retries: settings.retry.conflict_retries,
        refusal_grace: *settings.api.refusal_grace,
        last_call_timeout: *settings.api.last_call_timeout,
    })
}

#[cfg(test)]
mod tests {
    use std::iter;

    use fastrand::Rng;

    use super::*;
    use crate::settings;

    const FLEET: u64 = 50;

    fn defaults() -> Backoff {
        settings::load(&[], &[]).expect("the defaults").settings.amqp.reconnect().expect("valid")
    }

    /// The times, from the common loss on, at which one worker of a fleet tries to build a session.
    fn attempts(intervals: &Backoff, worker: u64, mut fails: impl FnMut(Duration) -> bool) -> Vec<Duration> {
        let (mut sessions, mut jitter) = (Sessions::new(intervals.clone()), Rng::with_seed(worker));
        sessions.built();
        let mut at = sessions.next_wait(jitter.f64());
        let mut attempts = vec![at];
        while fails(at) {
            at += sessions.failed(BrokerError::Closed, SessionKind::Work, jitter.f64()).expect("not the first session");
            attempts.push(at);
        }
        attempts
    }

    /// At most so many of them lie within 100 ms.
    fn crowd(mut times: Vec<Duration>) -> usize {
        times.sort_unstable();
        let within = |(first, from): (usize, &Duration)| {
            times[first..].iter().take_while(|time| **time - *from < Duration::from_millis(100)).count()
        };
        times.iter().enumerate().map(within).max().unwrap_or(0)
    }

    #[test]
    fn a_fleet_that_lost_its_broker_comes_back_spread_out_however_long_the_outage_was() {
        let intervals = defaults();
        for tenths in iter::once(0).chain(8..60).chain([100, 300, 600]) {
            let outage = Duration::from_millis(100 * tenths);
            let back = |worker| *attempts(&intervals, worker, |at| at < outage).last().expect("one at least");
            let times: Vec<Duration> = (0..FLEET).map(back).collect();
            let last = times.iter().max().expect("a fleet").saturating_sub(outage);
            assert!(last < Duration::from_secs(3), "after {outage:?} one came back only after another {last:?}");
            let most = crowd(times);
            assert!(most <= 10, "after {outage:?} {most} came back within 100 ms");
        }
    }

    #[test]
    fn a_fleet_whose_attempts_fail_in_a_row_tries_each_of_them_spread_out() {
        let intervals = defaults();
        for count in 0..20 {
            let nth = |worker| {
                let mut left = count;
                let fails = |_| {
                    left -= 1;
                    left >= 0
                };
                *attempts(&intervals, worker, fails).last().expect("one at least")
            };
            let most = crowd((0..FLEET).map(nth).collect());
            assert!(most <= 10, "after {count} failed attempts {most} tried within 100 ms");
        }
    }

    #[test]
    fn after_a_loss_there_is_a_second_at_least_for_the_election_of_new_leaders() {
        let intervals = defaults();
        for worker in 0..1000 {
            let wait = attempts(&intervals, worker, |_| false)[0];
            assert!((Duration::from_secs(1)..=Duration::from_secs(3)).contains(&wait), "{wait:?}");
        }
    }

    #[test]
    fn a_broker_that_is_not_there_yet_is_tried_soon_and_then_ever_more_rarely() {
        let mut sessions = Sessions::new(defaults());
        let mut wait = || sessions.failed(BrokerError::Closed, SessionKind::Work, 0.5).expect("may pass").as_millis();
        assert_eq!(iter::repeat_with(&mut wait).take(6).collect::<Vec<_>>(), [250, 500, 1000, 2000, 2000, 2000]);
    }
}
