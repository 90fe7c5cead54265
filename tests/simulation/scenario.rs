use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use futures_util::FutureExt as _;
use time::macros::datetime;
use time::{Duration as TimeSpan, OffsetDateTime};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use cancel_worker::message::{CancelRequest, OperationName};
use cancel_worker::settings::{self, Settings};
use cancel_worker::worker::{Clock, run_on};

use crate::api::{Script, SimulatedApi, SimulatedOperation};
use crate::broker::SimulatedBroker;
use crate::checker;
use crate::test_env::{Message, Outage, TestEnv};

pub const START: OffsetDateTime = datetime!(2026-01-31 12:00 UTC);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(40 * 60);
/// All must be done by then, in simulated time: the longest deadline, 40 minutes, the longest outage, and some more.
const LIMIT: Duration = Duration::from_secs(120 * 60);
/// A weekend, and what an answer that was ready may take after it: the longest wait level, and a little.
const WEEKEND: Duration = Duration::from_secs(3 * 24 * 3600);
const AFTER_WEEKEND: Duration = Duration::from_secs(5 * 60 + 10);
/// What a worker that is stopped may take: its grace, and a little.
const STOP_LIMIT: Duration = Duration::from_secs(17);
/// By how many seconds a machine's clock may be wrong.
const WRONGEST: i64 = 2 * 3600;
const MAX_STEPS: u64 = 4_000_000;

/// So that most of a few requests have to queue.
static NARROW: LazyLock<Settings> = LazyLock::new(|| settings("4"));
/// So that all of them are in flight at once.
static WIDE: LazyLock<Settings> = LazyLock::new(|| settings("64"));

fn settings(prefetch: &str) -> Settings {
    let overrides = [
        ("amqp.prefetch", prefetch.to_owned()),
        ("amqp.unsettled_limit", "5m".to_owned()),
        ("api.refusal_grace", "1m".to_owned()),
        ("worker.default_timeout", format!("{}s", DEFAULT_TIMEOUT.as_secs())),
    ];
    settings::load(&[], &overrides).expect("valid settings").settings
}

/// A request as upstream published it.
pub struct Asked {
    pub id: String,
    pub name: String,
    pub script: Script,
    /// Its deadline may come before the operation's end, or in the middle of the faults.
    pub hurried: bool,
    /// The broker moves it to the quarantine for its age before a worker sees it.
    pub expired: bool,
    /// Before this no answer may say that its time is over.
    pub deadline: Instant,
}

/// What came of one seed.
pub struct Report {
    pub violations: Vec<String>,
    pub trace_hash: u64,
    pub steps: u64,
    pub requests: usize,
    pub events: usize,
    pub struck: BTreeMap<&'static str, u64>,
}

/// Runs everything that the seed says.
pub fn run(seed: u64, severity: Option<f64>, print: bool) -> Report {
    paused(seed, simulate(seed, severity, print))
}

/// On a clock that stands still while anything can be done.
fn paused(seed: u64, scenario: impl Future<Output = Report>) -> Report {
    fastrand::seed(seed);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(scenario)
}

/// For three days the broker takes no events, or nothing: nothing is lost or dead, and what was ready is out soon after.
pub fn weekend(outage: Outage, seed: u64, print: bool) -> Report {
    paused(seed, async move {
        let mut jitter = fastrand::Rng::with_seed(seed);
        let env = TestEnv::new(seed, print, 1, Duration::ZERO, 0.0);
        let end = CancellationToken::new();
        let pump = tokio::spawn(pump(env.clone()));
        let supervisor = tokio::spawn(supervise(env.clone(), 0, TimeSpan::ZERO, &WIDE, jitter.fork(), end.clone()));
        let outage = tokio::spawn({
            let env = env.clone();
            async move { env.suffer(outage, WEEKEND).await }
        });
        let mut asked: Vec<Asked> = (0..6).map(|number| asked(number, &mut jitter)).collect();
        publish(&env, &mut asked, false, &mut jitter).await;
        outage.await.expect("it ends");
        let mended = Instant::now();
        let is_answered = || env.state().events.len() >= asked.len();
        while !is_answered() && mended.elapsed() < AFTER_WEEKEND {
            sleep(Duration::from_secs(1)).await;
        }
        if !is_answered() {
            let problem = format!("{} of {} answers were out in time", env.state().events.len(), asked.len());
            env.state().violations.push(problem);
        }
        wait_until_drained(&env).await;
        end.cancel();
        supervisor.await.expect("it stops");
        pump.abort();
        checker::check(&env, &asked);
        report(&env, asked.len())
    })
}

async fn pump(env: TestEnv) {
    env.pump().await;
}

async fn simulate(seed: u64, severity: Option<f64>, print: bool) -> Report {
    let mut jitter = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let workers = jitter.usize(1..=2);
    let calm = jitter.u8(..10) == 0;
    let fault_time = Duration::from_secs(if calm { 0 } else { jitter.u64(10..120) });
    let settings: &'static Settings = if jitter.bool() { &NARROW } else { &WIDE };
    let mut severity = severity.unwrap_or([0.3, 1.0, 3.0, 8.0][jitter.usize(..4)]);
    // A burst with several poisonous messages in it: those in flight beside them must not pay for it.
    let poisonous = jitter.u8(..8) == 0;
    if poisonous {
        severity = severity.min(0.3);
    }
    let env = TestEnv::new(seed, print, workers, fault_time, severity);
    let wrong = jitter.u8(..3) == 0;
    let count = if poisonous { jitter.usize(12..=40) } else { jitter.usize(1..=12) };
    let mut asked: Vec<Asked> = (0..count).map(|number| asked(number, &mut jitter)).collect();
    if poisonous {
        asked[0].script = Script::Panics;
    }

    let background = [
        tokio::spawn(pump(env.clone())),
        tokio::spawn({
            let env = env.clone();
            async move { env.weather().await }
        }),
    ];
    let end = CancellationToken::new();
    let supervisors: Vec<_> = (0..workers)
        .map(|worker| {
            let error = if wrong { TimeSpan::seconds(jitter.i64(-WRONGEST..=WRONGEST)) } else { TimeSpan::ZERO };
            tokio::spawn(supervise(env.clone(), worker, error, settings, jitter.fork(), end.clone()))
        })
        .collect();
    publish(&env, &mut asked, poisonous, &mut jitter).await;
    wait_until_drained(&env).await;
    end.cancel();
    for supervisor in supervisors {
        if let Err(error) = supervisor.await {
            env.state().violations.push(format!("a supervisor ended: {error}"));
        }
    }
    background.iter().for_each(tokio::task::JoinHandle::abort);
    checker::check(&env, &asked);
    report(&env, count)
}

fn report(env: &TestEnv, requests: usize) -> Report {
    let state = env.state();
    Report {
        violations: state.violations.clone(),
        trace_hash: state.trace_hash(),
        steps: state.steps,
        requests,
        events: state.events.len(),
        struck: state.struck.clone(),
    }
}

fn asked(number: usize, jitter: &mut fastrand::Rng) -> Asked {
    let mut seconds = |longest: u64| Duration::from_millis(jitter.u64(0..longest * 1000));
    let (short, long, later) = (seconds(5), seconds(90), seconds(60));
    let script = match jitter.u8(..12) {
        0..4 => Script::Cancels { after: if jitter.bool() { short } else { long } },
        4 => Script::Completes { at: later },
        5 => Script::EndsWithItsOwnError { at: later },
        6 | 7 => Script::Races { at: later, after: long },
        8 => Script::Unimplemented,
        9 => Script::NotFound,
        10 => Script::Denied,
        _ if jitter.bool() => Script::NotCancellable,
        _ => Script::NeverDone,
    };
    Asked {
        id: format!("request-{number}"),
        name: format!("projects/p/locations/global/operations/o-{number}"),
        script,
        hurried: jitter.u8(..6) == 0,
        expired: jitter.u8(..20) == 0,
        deadline: Instant::now(),
    }
}

/// As upstream does: over a while, now and then the same twice, and now and then something poisonous between them.
async fn publish(env: &TestEnv, asked: &mut [Asked], poisonous: bool, jitter: &mut fastrand::Rng) {
    let (pause, poison) = if poisonous { (20, 3) } else { (4000, 100) };
    for request in asked {
        sleep(Duration::from_millis(jitter.u64(0..pause))).await;
        let name = OperationName::parse(&request.name).expect("a name");
        let mut message = CancelRequest::new(name, Some(request.id.clone()));
        let timeout = if request.hurried { Duration::from_secs(jitter.u64(1..60)) } else { DEFAULT_TIMEOUT };
        request.deadline = Instant::now() + timeout;
        if request.hurried && jitter.bool() {
            message.deadline = Some(env.wall_clock() + timeout);
        } else if request.hurried {
            message.timeout = Some(timeout);
        }
        let message: Message = message.to_message(START).into();
        let mut state = env.state();
        let operation =
            SimulatedOperation { script: request.script, began: Instant::now(), cancelled: None, cancels: 0 };
        state.operations.insert(request.name.clone(), operation);
        if jitter.u8(..20) == 0 {
            state.requests.push_back(message.clone());
        }
        if request.expired {
            state.quarantine.push_back(Message { expired: true, ..message });
        } else {
            state.requests.push_back(message);
        }
        if jitter.u8(..poison) == 0 {
            state.requests.push_back(Message { message_id: "poison".to_owned(), poison: true, ..Message::default() });
        }
        drop(state);
        env.tell();
    }
}

async fn wait_until_drained(env: &TestEnv) {
    let limit = Instant::now() + LIMIT;
    loop {
        sleep(Duration::from_secs(1)).await;
        let mut state = env.state();
        if Instant::now() > state.faults_until && state.is_drained() {
            return;
        }
        if Instant::now() > limit || state.steps > MAX_STEPS {
            let problem = format!(
                "not drained: {} requests, {} follow-ups, {} waiting, after {} steps",
                state.requests.len(),
                state.followups.len(),
                state.waiting.len(),
                state.steps
            );
            state.violations.push(problem);
            return;
        }
    }
}

/// Runs a worker as systemd would: started again after every crash and every stop.
async fn supervise(
    env: TestEnv,
    worker: usize,
    clock_error: TimeSpan,
    settings: &'static Settings,
    mut jitter: fastrand::Rng,
    end: CancellationToken,
) {
    while !end.is_cancelled() {
        let crash = CancellationToken::new();
        env.state().crashes[worker] = crash.clone();
        let stop = CancellationToken::new();
        let broker = SimulatedBroker { env: env.clone(), worker };
        let clock = Clock::starting_at(env.wall_clock() + clock_error);
        let api = SimulatedApi { env: env.clone(), worker };
        let name = format!("worker-{worker}");
        let running =
            AssertUnwindSafe(run_on(Arc::new(broker), settings, api, &name, stop.clone(), Arc::default(), clock))
                .catch_unwind();
        // Now and then it is stopped in order, as by a rolling restart. Later not: a restart would mend what is stuck.
        let restart_at = Instant::now() + Duration::from_millis(jitter.u64(1000..120_000));
        let restarts = restart_at < env.state().faults_until;
        let restart = async {
            sleep_until(restart_at).await;
            if !restarts {
                std::future::pending::<()>().await;
            }
        };
        let stopping = async {
            tokio::select! {
                biased;
                () = end.cancelled() => {}
                () = restart => {}
            }
            env.state().note(format_args!("worker {worker}: told to stop"));
            stop.cancel();
            let limit = Instant::now() + STOP_LIMIT;
            sleep_until(limit).await;
        };
        tokio::select! {
            biased;
            () = crash.cancelled() => env.state().note(format_args!("worker {worker}: crashed")),
            ended = running => match ended {
                Ok(Ok(())) if stop.is_cancelled() => env.state().note(format_args!("worker {worker}: stopped")),
                Ok(ended) => env.state().violations.push(format!("worker {worker} ended untold: {ended:?}")),
                Err(_) => env.state().violations.push(format!("worker {worker} panicked")),
            },
            () = stopping => env.state().violations.push(format!("worker {worker} does not stop")),
        }
        env.state().end_sessions_of(worker);
        env.tell();
        sleep(Duration::from_millis(jitter.u64(0..500))).await;
    }
}
