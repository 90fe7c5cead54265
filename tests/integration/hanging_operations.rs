//! Operations that are never answered, or always with 503, and others at the same endpoint that are well.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::pacing_env::{Api, BROKEN, TestEnv, ids};
use crate::support::Broker;

const SOON: Duration = Duration::from_secs(60);

/// A node that takes a delivery back, and ends the channel, when it is not answered within 10 s.
async fn impatient_broker() -> &'static Broker {
    static NODE: OnceLock<Broker> = OnceLock::new();
    let start = || {
        NODE.get_or_init(|| {
            let node = Broker::private();
            let set = |name: &str, value: u32| format!("application:set_env(rabbit, {name}, {value})");
            let settings = format!("{}, {}.", set("consumer_timeout", 10_000), set("channel_tick_interval", 500));
            node.ctl(["--silent", "eval", &settings]);
            node
        })
    };
    spawn_blocking(start).await.unwrap()
}

#[tokio::test]
async fn a_dozen_operations_that_hang_from_the_start_hold_up_no_other() {
    let api = Api::up().await;
    api.weather(json!({"hang": true, "operations": "never"})).await;
    let mut env = TestEnv::start_on(impatient_broker().await, &api, &api, "").await;
    let bad = ids("never", 12);
    env.request(BROKEN, &bad, json!({"timeout": "4m"})).await;
    while api.times(&bad).await.len() < bad.len() {
        sleep(Duration::from_millis(50)).await;
    }
    // Given up, put behind, tried again.
    sleep(Duration::from_secs(5)).await;
    others_are_answered_within(Duration::from_secs(30), &mut env).await;
    sleep(Duration::from_secs(15)).await;
    no_session_was_lost(&env);
}

#[tokio::test]
async fn three_hundred_operations_whose_polls_begin_to_hang_hold_up_no_other() {
    let api = Api::up().await;
    let mut env = TestEnv::start_on(impatient_broker().await, &api, &api, "").await;
    env.request(BROKEN, &ids("never", 300), json!({"timeout": "10m"})).await;
    calls_come_to(2 * 300, &api).await;
    api.weather(json!({"hang": true, "operations": "never"})).await;
    sleep(Duration::from_secs(8)).await;
    others_are_answered_within(Duration::from_secs(30), &mut env).await;
    no_session_was_lost(&env);
}

#[tokio::test]
async fn nor_do_thousands_that_hang_since_they_were_cancelled() {
    // What is called first is told by the endpoint's answers, a few at a time: 20,000 take minutes.
    let count = if cfg!(debug_assertions) { 1_500 } else { 20_000 };
    let (_api, mut env) = cancelled_and_since("hangsget", count).await;
    others_are_answered_within(Duration::from_secs(30), &mut env).await;
    no_session_was_lost(&env);
}

#[tokio::test]
async fn nor_do_hundreds_that_are_answered_with_503_since_they_were_cancelled() {
    let (_api, mut env) = cancelled_and_since("flakyget", 300).await;
    others_are_answered_within(Duration::from_secs(15), &mut env).await;
    no_session_was_lost(&env);
}

/// A first call may take all of its time while others are answered: with what a delivery is held beside it
/// (`worker.inline_wait`, 5 s) that has to be less than the broker's patience.
const CALL_TIMEOUT: &str = "[api]\ncall_timeout = \"4s\"\n";

/// So many operations with this script, each of which was cancelled, and asked for since.
async fn cancelled_and_since(script: &str, count: usize) -> (Api, TestEnv) {
    let api = Api::up().await;
    let env = TestEnv::start_on(impatient_broker().await, &api, &api, CALL_TIMEOUT).await;
    env.request(BROKEN, &ids(script, count), json!({"timeout": "1h"})).await;
    calls_come_to(2 * count, &api).await;
    (api, env)
}

async fn calls_come_to(count: usize, api: &Api) {
    let (count, began) = (u64::try_from(count).unwrap(), Instant::now());
    while api.calls().await < count {
        assert!(began.elapsed() < Duration::from_secs(1_200), "{} of {count} calls", api.calls().await);
        sleep(Duration::from_millis(50)).await;
    }
}

/// 200 operations that are well, half of which are polled for a while: 99 of 100 are answered in time.
async fn others_are_answered_within(limit: Duration, env: &mut TestEnv) {
    let good = [ids("cancels", 100), ids("cancels-2s", 100)].concat();
    let began = Instant::now();
    env.request(BROKEN, &good, json!({})).await;
    let mut took = Vec::new();
    for id in &good {
        let event = env.event_of(id, SOON).await;
        assert_eq!(event.data["outcome"], "cancelled", "{}", event.data);
        took.push(event.at - began);
    }
    took.sort_unstable();
    let (median, p99) = (took[took.len() / 2], took[took.len() * 99 / 100 - 1]);
    assert!(p99 <= limit, "the median took {median:.1?}, 99 of 100 {p99:.1?}");
}

fn no_session_was_lost(env: &TestEnv) {
    let lost: Vec<String> = env.worker.lines().into_iter().filter(|line| line.contains("session is over")).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[tokio::test]
async fn one_request_in_ten_that_first_gets_two_503s_costs_little_of_the_rate() {
    const COUNT: usize = 2_000;
    let api = Api::up().await;
    let mut env = TestEnv::start(&api, &api, "[retry]\ninitial = \"1ms\"\n").await;
    let scripts = ["cancels", "completes", "unimplemented", "already", "errs", "empty", "precondition", "already-done"];
    let requests = |first: &str| {
        let mut all = ids(first, COUNT / 10);
        for script in scripts.iter().cycle().take(9) {
            all.extend(ids(script, COUNT / 10));
        }
        fastrand::shuffle(&mut all);
        all
    };
    // Whatever else the machine does slows down one or the other: of eight rounds one has to show what is possible. A
    // breaker that opens costs more than half of the rate in each, and is looked for below.
    let mut shares = Vec::new();
    // The first round also pays for connections.
    time_of(&mut env, &requests("cancels")).await;
    while shares.len() < 8 && shares.iter().all(|share| *share < 0.8) {
        let without = time_of(&mut env, &requests("cancels")).await;
        let with = time_of(&mut env, &requests("flaky-2")).await;
        shares.push(without.as_secs_f64() / with.as_secs_f64());
    }
    assert!(shares.iter().any(|share| *share >= 0.8), "shares of the rate without 503s: {shares:.2?}");
    let opened = env.worker.lines().iter().filter(|line| line.contains("the circuit breaker opened")).count();
    assert_eq!(opened, 0);
}

/// From the first publish until all are answered.
async fn time_of(env: &mut TestEnv, requests: &[String]) -> Duration {
    let began = Instant::now();
    env.request(BROKEN, requests, json!({})).await;
    let mut last = began;
    for id in requests {
        last = env.event_of(id, SOON).await.at.max(last);
    }
    last - began
}
