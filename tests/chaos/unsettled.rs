//! The broker does not take events for much longer than it lets anybody hold a delivery. Nothing is dead-lettered, and what was
//! ready is out soon after the mend.

use std::time::Duration;

use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout};

use crate::held::{limit, no_limit};
use crate::queues::verifying_worker;
use crate::row::Row;
use crate::support::Amqp;
use crate::test_env::TestEnv;

/// From the mend until all that was ready is out. Debug builds, on machines that may be busy, are given more time.
const SOON: Duration = Duration::from_secs(if cfg!(debug_assertions) { 25 } else { 10 });

/// Nobody is bound.
pub async fn unbound(env: &mut TestEnv) -> Row {
    outage(env, Kind::Unbound).await
}

/// The queue of events is full.
pub async fn full(env: &mut TestEnv) -> Row {
    outage(env, Kind::Full).await
}

/// The disk is full, and nobody may publish anything.
pub async fn alarm(env: &mut TestEnv) -> Row {
    outage(env, Kind::Alarm).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unbound,
    Full,
    Alarm,
}

impl Kind {
    async fn begin(self, env: &TestEnv, amqp: &Amqp) {
        let (queue, exchange) = (env.name("results"), env.name("events"));
        match self {
            Self::Unbound => {
                let channel = amqp.channel().await;
                let key = "operation.#".into();
                channel.queue_unbind(queue.into(), exchange.into(), key, FieldTable::default()).await.unwrap();
            }
            Self::Full => {
                let pattern = format!("^{}$", queue.replace('.', "[.]"));
                let policy = r#"{"max-length":0,"overflow":"reject-publish"}"#;
                block_in_place(|| {
                    env.broker.ctl(["--silent", "set_policy", "full", &pattern, policy, "--apply-to", "queues"])
                });
            }
            Self::Alarm => {
                block_in_place(|| env.broker.ctl(["--silent", "set_disk_free_limit", "100000GB"]));
            }
        }
    }

    async fn end(self, env: &TestEnv, amqp: &Amqp) {
        let (queue, exchange) = (env.name("results"), env.name("events"));
        match self {
            Self::Unbound => {
                let (channel, options) = (amqp.channel().await, QueueBindOptions::default());
                let key = "operation.#".into();
                channel.queue_bind(queue.into(), exchange.into(), key, options, FieldTable::default()).await.unwrap();
            }
            Self::Full => {
                block_in_place(|| env.broker.ctl(["--silent", "clear_policy", "full"]));
            }
            Self::Alarm => {
                block_in_place(|| env.broker.ctl(["--silent", "set_disk_free_limit", "10MB"]));
            }
        }
    }
}

async fn outage(env: &mut TestEnv, kind: Kind) -> Row {
    let lasts = env.pick(Duration::from_secs(14), Duration::from_secs(600));
    let count = env.pick(300, 5_000);
    let (timeout_ms, unsettled) = env.pick((6_000, "2s"), (20_000, "10s"));
    limit(env, timeout_ms, 1_000);
    env.set_setting("amqp.unsettled_limit", unsettled);
    env.set_setting("amqp.topology.wait_levels", "1s,2s,5s");
    let worker = if kind == Kind::Unbound { verifying_worker(env).await } else { env.worker().await };
    let amqp = Amqp::connect(env.broker.uri()).await;

    let upstream = env.upstream(count, 1_000);
    env.more_events(50).await;
    if kind == Kind::Alarm {
        // Nobody publishes while it lasts.
        upstream.finish().await;
        kind.begin(env, &amqp).await;
    } else {
        kind.begin(env, &amqp).await;
        upstream.finish().await;
    }
    sleep(Duration::from_secs(2)).await;
    let (asked, before) = (env.requests(), env.collector().count());
    sleep(lasts).await;
    let during = env.collector().count() - before;
    let held = worker.lines().iter().filter(|line| line.contains("the session is over")).count();

    let mended = env.mended();
    let began = Instant::now();
    kind.end(env, &amqp).await;
    let out = timeout(SOON, env.answered(asked)).await.map(|()| began.elapsed());
    let fresh = env.upstream(100, 1_000);
    let recovery = env.recovery(mended).await;
    fresh.finish().await;
    let mut row = env.verdict(vec![worker], 1, recovery).await;
    no_limit(env);
    row.notes.push(match out {
        Ok(took) => format!("{during} events came meanwhile; all {asked} answers were out {took:.1?} after the mend"),
        Err(_) => format!("{during} events came meanwhile"),
    });
    row.expect(out.is_ok(), format!("not all that was ready was out within {SOON:?}"));
    row.expect(held == 0, format!("{held} sessions were lost while events were not taken"));
    row
}
