use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::broker_link::{Broker, RabbitMq, Session as _};
use super::clock::Clock;
use super::counters::Counters;
use super::gatekeeper::Gatekeeper;
use super::handle::Handler;
use super::session::{Limits, SessionEnd, work};
use super::settle::{Settler, publish_retry};
use crate::broker::{BrokerError, Ladder};
use crate::cancellation::Policy;
use crate::message::{EventFormat, EventMode};
use crate::operations_api::Operations;
use crate::retry::{Intervals, InvalidIntervals};
use crate::settings::{self, Settings};
use crate::telemetry::Readiness;

/// Why the worker does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The broker refuses what the settings ask for, and did so at the very first session.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Intervals that make no sense.
    #[error("use the settings [retry], [polling] or amqp.reconnect_*")]
    Intervals(#[from] InvalidIntervals),
    /// No wait queue at all.
    #[error("use the setting amqp.topology.wait_levels: at least one is needed")]
    NoWaitLevels,
}

/// A session that consumed for this long was a good one.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// Works until `stop` is cancelled: builds a session, works in it until a fault, builds the next, for ever.
///
/// # Errors
/// Only before the first session: the broker refuses the settings (login, vhost, permissions, arguments of queues).
/// A broker that cannot be reached is no such error: the worker goes on trying, and `readiness` says so.
pub async fn run<O: Operations>(
    settings: &Settings,
    operations: O,
    worker: &str,
    stop: CancellationToken,
    readiness: Arc<Readiness>,
) -> Result<(), RunError> {
    let broker = RabbitMq::new(&settings.amqp, worker);
    run_on(&broker, settings, operations, worker, stop, readiness, Clock::System).await
}

/// As [`run`], on any broker and by any clock.
///
/// # Errors
/// As for [`run`].
pub async fn run_on<B: Broker, O: Operations>(
    broker: &B,
    settings: &Settings,
    operations: O,
    worker: &str,
    stop: CancellationToken,
    readiness: Arc<Readiness>,
    clock: Clock,
) -> Result<(), RunError> {
    let handler = Arc::new(handler(settings, operations, worker, stop.clone(), clock)?);
    let limits = Limits::new(settings);
    let reconnect = settings.amqp.reconnect()?;
    let settler = Arc::new(Settler::new(publish_retry()?, Arc::clone(&readiness)));
    let mut sessions = Sessions { reconnect, failures: 0, lost_soon: 0, had_one: false, reported: None };
    // Ends with this function.
    let mut background = JoinSet::new();
    let reporter = Arc::clone(&handler);
    background.spawn(async move { reporter.counters.report().await });
    loop {
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            opened = broker.open() => opened,
        };
        let session = match opened {
            Ok(session) => session,
            Err(error) => {
                readiness.no_session(&error);
                let pause = sessions.failed(error)?;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(pause) => continue,
                }
            }
        };
        sessions.built();
        readiness.preparing(session.blocked(), session.topology_problem());
        match work(&handler, &settler, session, &limits, sessions.lost_soon, &readiness).await {
            SessionEnd::Stopped => return Ok(()),
            SessionEnd::Fault { fault, consumed } => {
                warn!(%fault, "the session is over; what is in a queue and unacknowledged will be delivered again; building a new session");
                let pause = sessions.lost(consumed);
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

/// What is known of the sessions so far: how long to wait before the next, and what has been said already.
struct Sessions {
    reconnect: Intervals,
    /// Attempts in a row to build one that failed.
    failures: u32,
    /// In a row that were built and did not last.
    lost_soon: u32,
    had_one: bool,
    reported: Option<(String, Instant)>,
}

impl Sessions {
    /// No session could be built: how long to wait, or that there is no use in trying.
    fn failed(&mut self, error: BrokerError) -> Result<Duration, BrokerError> {
        if error.is_permanent() && !self.had_one {
            return Err(error);
        }
        self.report(error.to_string());
        let pause = self.reconnect.nth(self.failures);
        self.failures = self.failures.saturating_add(1);
        Ok(pause)
    }

    /// There is one.
    fn built(&mut self) {
        self.failures = 0;
        self.had_one = true;
        self.reported = None;
    }

    /// A session that consumed for this long was lost: how long to wait. Always the same: a message that ends every session
    /// has to do so some twenty times before it is dead, and all others wait for that. Not less: where a cluster has lost a
    /// node, RabbitMQ 3.10 refuses whatever is published on a channel from before the election of new leaders for as long
    /// as that node is away.
    fn lost(&mut self, consumed: Duration) -> Duration {
        self.lost_soon = if consumed >= GOOD_SESSION { 0 } else { self.lost_soon.saturating_add(1) };
        self.reconnect.nth(2)
    }

    /// The same failure is logged once a minute, not at every attempt.
    fn report(&mut self, error: String) {
        const AGAIN: Duration = Duration::from_secs(60);
        let known = self.reported.as_ref().is_some_and(|(text, at)| *text == error && at.elapsed() < AGAIN);
        if !known {
            error!(error, "no session with the broker; trying again until there is one");
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
) -> Result<Handler<O>, RunError> {
    let levels: Vec<Duration> = settings.amqp.topology.wait_levels.0.iter().map(|level| **level).collect();
    Ok(Handler {
        operations,
        gatekeeper: Gatekeeper::new(settings.gate()),
        policy: policy(settings)?,
        ladder: Ladder::new(&levels).ok_or(RunError::NoWaitLevels)?,
        format: EventFormat {
            type_prefix: settings.events.type_prefix.clone(),
            source: settings.events.source.clone(),
            mode: match settings.events.mode {
                settings::EventMode::Structured => EventMode::Structured,
                settings::EventMode::Binary => EventMode::Binary,
            },
        },
        default_timeout: *settings.worker.default_timeout,
        request_limit: usize::try_from(settings.worker.request_limit.as_u64()).unwrap_or(usize::MAX),
        names: settings.api.names.clone(),
        keep_failed: settings.worker.keep_failed,
        inline_wait: *settings.worker.inline_wait,
        inline_slots: Arc::new(Semaphore::new(settings.worker.inline_slots)),
        stop,
        worker: worker.to_owned(),
        counters: Counters::default(),
        clock,
    })
}

/// The policy that the settings describe.
///
/// # Errors
/// Says which number makes no sense.
pub fn policy(settings: &Settings) -> Result<Policy, InvalidIntervals> {
    Ok(Policy {
        retry: settings.retry.intervals()?,
        polling: settings.polling.intervals()?,
        conflict_retries: settings.retry.conflict_retries,
    })
}
