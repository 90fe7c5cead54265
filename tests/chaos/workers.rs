//! Workers that end.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::requests;
use crate::row::{Row, longest};
use crate::test_env::TestEnv;

/// From one kill to the next. A debug build takes several hundred milliseconds to begin, and has to have a chance of an answer.
const INTERVAL: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 500 });

/// The worker dies without warning, again and again, and a supervisor starts it again at once.
pub async fn kill(env: &mut TestEnv) -> Row {
    let count = env.pick(2_000, 20_000);
    // The default: what waits in hand dies with every worker, and must not come to the delivery limit by that.
    env.set_setting("worker.inline_wait", "5s");
    let mut worker = env.worker().await;
    let upstream = env.upstream(count, 2_000);
    let mut kills = 0;
    let end = Instant::now() + env.pick(Duration::from_secs(15), Duration::from_secs(600));
    // Until most are answered: the last ones wait for operations, and would need no worker for seconds.
    while env.collector().count() < count * 9 / 10 && Instant::now() < end {
        sleep(INTERVAL).await;
        worker.kill9().await;
        kills += 1;
        worker = env.starting_worker();
    }
    let mended = env.mended();
    let recovery = env.recovery(mended).await;
    upstream.finish().await;
    env.verdict(vec![worker], kills, recovery).await
}

/// Two workers, of which the older is stopped in order and replaced, again and again. Each call takes its time, so that there
/// are always some under way when one stops; none is made a second time for that.
pub async fn restart(env: &mut TestEnv) -> Row {
    let times = env.pick(3, 20);
    env.api.set_weather(&json!({ "latency": "50ms" })).await;
    let mut workers = vec![env.worker().await, env.worker().await];
    let upstream = env.upstream(env.pick(1_000, 20_000), env.pick(100, 400));
    let mut recovery = Some(Duration::ZERO);
    for _ in 0..times {
        env.more_events(100).await;
        let mut old = workers.remove(0);
        old.signal("TERM");
        let status = old.wait().await;
        let mended = env.mended();
        assert!(status.success(), "a worker ended with {status}");
        recovery = longest(recovery, env.recovery(mended).await);
        workers.push(env.worker().await);
    }
    upstream.finish().await;
    let mut row = env.verdict(workers, times, recovery).await;
    // What is answered twice was delivered twice: RabbitMQ 3.10 may forget an acknowledgement just before a channel's end.
    let (called, needed) = (env.api.stats().await["cancel_calls"].clone(), requests::cancels(env.requests()));
    let repeated = usize::try_from(called.as_u64().unwrap()).unwrap().saturating_sub(needed);
    row.expect(repeated <= row.doubled, format!("{repeated} cancels were repeated needlessly"));
    row.notes.push(format!("{needed} cancels were needed, {called} were made"));
    row
}
