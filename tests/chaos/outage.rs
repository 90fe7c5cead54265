//! The Operations API is out, and all requests for it wait. Another of its endpoints is well, and must not notice.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use crate::requests::{OTHER_LOCATION, is_prompt};
use crate::row::Row;
use crate::support::{Amqp, SimulatedApi};
use crate::test_env::{PATIENCE, TestEnv};

/// Every call is answered with 503.
pub async fn unavailable(env: &mut TestEnv) -> Row {
    outage(env, Kind::Unavailable).await
}

/// Connections are taken, and no call is answered.
pub async fn silent(env: &mut TestEnv) -> Row {
    outage(env, Kind::Silent).await
}

/// Connections are refused.
pub async fn refused(env: &mut TestEnv) -> Row {
    outage(env, Kind::Refused).await
}

#[derive(Clone, Copy)]
enum Kind {
    Unavailable,
    Silent,
    Refused,
}

impl Kind {
    async fn begin(self, api: &mut SimulatedApi) {
        match self {
            Self::Unavailable => api.set_weather(&json!({ "status": 503 })).await,
            Self::Silent => api.set_weather(&json!({ "hang": true })).await,
            Self::Refused => api.stop().await,
        }
    }

    async fn end(self, api: &mut SimulatedApi) {
        match self {
            Self::Unavailable | Self::Silent => api.set_weather(&json!({})).await,
            Self::Refused => api.start_again().await,
        }
    }

    /// From the beginning of one probe to that of the next, if there is never more than one. `None` if nobody can count them.
    const fn probe_interval(self) -> Option<Duration> {
        match self {
            Self::Unavailable => Some(Duration::from_secs(1)),
            // Each is given up after `breaker.silence`.
            Self::Silent => Some(Duration::from_secs(3)),
            Self::Refused => None,
        }
    }
}

/// Of one core, while everything waits.
const IDLE: f64 = if cfg!(debug_assertions) { 0.5 } else { 0.05 };

async fn outage(env: &mut TestEnv, kind: Kind) -> Row {
    let count = env.pick(1_000, 20_000);
    // Half of the outage, from when all requests wait.
    let half = env.pick(Duration::from_secs(5), Duration::from_secs(145));
    let well = SimulatedApi::start().await;
    env.set_setting(&format!("api.endpoints.{OTHER_LOCATION}"), well.url());
    let worker = env.worker().await;

    kind.begin(&mut env.api).await;
    env.upstream(count, 2_000).finish().await;
    all_parked(env).await;

    // One half with requests for the other endpoint, one with nothing to do.
    let others = env.upstream_to(OTHER_LOCATION, 0, 1);
    let from = env.collector().count();
    sleep(half).await;
    others.finish().await;
    let mut waits = env.collector().look(|answers| {
        let prompt = answers[from..].iter().filter(|answer| is_prompt(&answer.identity));
        prompt.map(|answer| answer.waited).collect::<Vec<_>>()
    });
    waits.sort_unstable();

    let (since, cpu, calls) = (Instant::now(), worker.cpu(), calls(env, kind).await);
    sleep(half).await;
    let (quiet, cpu) = (since.elapsed(), worker.cpu() - cpu);
    let probes = self::calls(env, kind).await - calls;

    let mended = env.mended();
    kind.end(&mut env.api).await;
    let recovery = env.recovery(mended).await;
    let mut row = env.verdict(vec![worker], 1, recovery).await;

    assert!(waits.len() > 20, "only {} answers came from the other endpoint", waits.len());
    let (middle, most, slowest) = (waits[waits.len() / 2], waits[waits.len() * 9 / 10], waits[waits.len() - 1]);
    let load = cpu.as_secs_f64() / quiet.as_secs_f64();
    row.notes.push(format!(
        "the worker took {:.1} % of a core and made {probes} calls in {:.0} s; the other endpoint's {} answers took {middle:.1?} in the \
         median, {most:.1?} nine of ten, {slowest:.1?} at most",
        load * 100.0,
        quiet.as_secs_f64(),
        waits.len(),
    ));
    let unharmed = most < Duration::from_millis(500) && slowest < Duration::from_secs(3);
    row.expect(unharmed, "the other endpoint's requests waited");
    row.expect(load < IDLE, "the worker was busy with waiting");
    if let Some(interval) = kind.probe_interval() {
        let allowed = quiet.as_secs_f64() / interval.as_secs_f64() + 1.5;
        row.expect(
            probes > 0 && f64::from(probes) <= allowed,
            "the endpoint was tried by more than one call at a time, or by none",
        );
    }
    row
}

/// Waits until every request has been read, and waits in the broker.
async fn all_parked(env: &TestEnv) {
    let amqp = Amqp::connect(env.broker.uri()).await;
    let requests = env.name("requests");
    let end = Instant::now() + PATIENCE;
    let empty = async {
        while amqp.queue_depth(&requests).await != Some(0) {
            sleep(Duration::from_millis(100)).await;
        }
        // What was under way then has been given up.
        sleep(Duration::from_secs(4)).await;
    };
    assert!(timeout_at(end, empty).await.is_ok(), "the queue of requests did not become empty within {PATIENCE:?}");
}

/// So far, of any kind.
async fn calls(env: &TestEnv, kind: Kind) -> u32 {
    if kind.probe_interval().is_none() {
        return 0;
    }
    let stats = env.api.stats().await;
    let calls = stats["cancel_calls"].as_u64().unwrap() + stats["get_calls"].as_u64().unwrap();
    u32::try_from(calls).unwrap()
}
