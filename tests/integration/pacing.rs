//! Rate limit and circuit breaker: the real worker before real HTTP servers.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, interval};

use crate::pacing_env::{Api, BROKEN, Event, TestEnv, ids};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn calls_keep_to_the_rate_limit_use_it_up_and_hold_up_no_other_endpoint() {
    let (limited, sound) = (Api::up().await, Api::up().await);
    let mut env = TestEnv::start(&limited, &sound, "[rate_limit]\nper_second = 50\nburst = 10\n").await;
    let requests = ids("unimplemented", 300);

    env.request(BROKEN, &requests, json!({})).await;
    let latencies = env.latencies(Duration::from_secs(3)).await;
    for id in &requests {
        let event = env.event_of(id, SOON).await;
        assert_eq!((outcome(&event), &event.data["attempts"]), ("unimplemented", &json!({"cancel": 1, "get": 0})));
    }

    let times = limited.times(&requests).await;
    assert_eq!(times.len(), 300);
    // A call is noted when it arrives, a little after it went: so some may seem to come closer together.
    let excess = most_above(&times, 50.0);
    assert!(excess <= 10.0 + 5.0, "{excess} calls above the rate, of which 10 are the burst");
    let took = (times[299] - times[0]) as f64 / 1000.0;
    assert!(took < 290.0 / 50.0 + 4.0, "300 calls took {took} s");
    let slowest = latencies[latencies.len() * 9 / 10];
    assert!(slowest < Duration::from_secs(1), "the other endpoint's requests took {slowest:?}");
}

#[tokio::test]
async fn too_many_requests_slow_calls_down_and_success_speeds_them_up_again() {
    let (limited, sound) = (Api::up().await, Api::up().await);
    let env = TestEnv::start(&limited, &sound, "[rate_limit]\nper_second = 100\nburst = 10\n").await;
    limited.weather(json!({"status": 429})).await;

    env.request(BROKEN, &ids("unimplemented", 3000), json!({})).await;
    let throttled = calls_each_second(&limited, 6).await;
    limited.weather(json!({})).await;
    let welcome = calls_each_second(&limited, 12).await;

    assert!(throttled[5] <= 45, "{throttled:?}");
    assert!(welcome[11] >= 2 * throttled[5].max(8), "{throttled:?}, then {welcome:?}");
    assert!(welcome.iter().all(|calls| *calls <= 120), "{welcome:?}");
}

#[tokio::test]
async fn an_endpoint_that_answers_503_is_tried_by_one_call_at_a_time_and_flows_soon_after() {
    let (broken, sound) = (Api::up().await, Api::up().await);
    broken.weather(json!({"status": 503})).await;
    let mut env = TestEnv::start(&broken, &sound, "").await;

    let requests = outage(&mut env, &broken, 7).await;

    let mended = Instant::now();
    broken.weather(json!({})).await;
    all_cancelled(&mut env, &requests, mended).await;
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_tried_by_one_call_at_a_time_and_flows_soon_after() {
    let (broken, sound) = (Api::up().await, Api::up().await);
    broken.weather(json!({"hang": true})).await;
    let mut env = TestEnv::start(&broken, &sound, "").await;

    // Each probe takes the 3 s of `breaker.silence`: more than three of them in 6 s would be two at a time.
    let requests = outage(&mut env, &broken, 3).await;

    let mended = Instant::now();
    broken.weather(json!({})).await;
    all_cancelled(&mut env, &requests, mended).await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_flows_soon_after_it_is_back() {
    let (mut broken, sound) = (Api::down(), Api::up().await);
    let mut env = TestEnv::start(&broken, &sound, "").await;
    let requests = ids("cancels", 300);

    env.request(BROKEN, &requests, json!({})).await;
    env.worker.line_with("the circuit breaker opened", SOON).await;
    let latencies = env.latencies(Duration::from_secs(4)).await;
    unharmed(&latencies);

    let mended = Instant::now();
    broken.start().await;
    all_cancelled(&mut env, &requests, mended).await;
}

#[tokio::test]
async fn a_request_is_tried_once_at_its_deadline_even_if_the_breaker_is_open() {
    let (broken, sound) = (Api::down(), Api::up().await);
    let mut env = TestEnv::start(&broken, &sound, "").await;
    env.request(BROKEN, &ids("cancels", 300), json!({})).await;
    env.worker.line_with("the circuit breaker opened", SOON).await;

    let late = ids("cancels", 20);
    let began = Instant::now();
    env.request(BROKEN, &late, json!({"timeout": "3s"})).await;

    for id in &late {
        let event = env.event_of(id, SOON).await;
        assert_eq!(event.data["error"]["reason"], "unavailable", "{}", event.data);
        assert!(event.data["attempts"]["cancel"].as_u64().unwrap() >= 1, "{}", event.data);
        let took = event.at - began;
        assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(6), "it took {took:?}");
    }
}

/// 300 requests meet an endpoint that is out, and the other endpoint does not notice. Returns their ids.
async fn outage(env: &mut TestEnv, broken: &Api, most_probes: u64) -> Vec<String> {
    let requests = ids("cancels", 300);
    env.request(BROKEN, &requests, json!({})).await;
    env.worker.line_with("the circuit breaker opened", SOON).await;
    // What was under way when it opened ends first.
    let mut calls = broken.calls().await;
    let mut ticks = interval(Duration::from_secs(1));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = broken.calls().await;
        if now <= calls + 1 {
            break;
        }
        calls = now;
    }
    let (before, cpu) = (broken.calls().await, env.worker.cpu());
    let latencies = env.latencies(Duration::from_secs(6)).await;
    let (probes, cpu) = (broken.calls().await - before, env.worker.cpu() - cpu);

    assert!((1..=most_probes).contains(&probes), "{probes} calls within 6 s");
    unharmed(&latencies);
    assert!(cpu < Duration::from_secs(4), "{cpu:?} of processor time within 6 s, unoptimized");
    requests
}

fn unharmed(latencies: &[Duration]) {
    let (most, slowest) = (latencies[latencies.len() * 9 / 10], latencies[latencies.len() - 1]);
    assert!(most < Duration::from_millis(500) && slowest < Duration::from_secs(2), "{most:?}, at most {slowest:?}");
}

/// The first answer comes within 5 s, all of them come, and none of them is a failure.
async fn all_cancelled(env: &mut TestEnv, requests: &[String], mended: Instant) {
    let first = env.next(SOON).await;
    let wait = first.at - mended;
    assert!(wait < Duration::from_secs(5), "the first answer came after {wait:?}");
    assert_eq!(outcome(&first), "cancelled", "{}", first.data);
    for id in requests.iter().filter(|id| **id != first.id) {
        let event = env.event_of(id, SOON).await;
        assert_eq!(outcome(&event), "cancelled", "{}", event.data);
    }
    assert_eq!(env.dead().await, Some(0));
}

fn outcome(event: &Event) -> &str {
    event.data["outcome"].as_str().unwrap_or_else(|| panic!("no outcome in {}", Value::clone(&event.data)))
}

async fn calls_each_second(api: &Api, seconds: usize) -> Vec<u64> {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.tick().await;
    let mut before = api.calls().await;
    let mut calls = Vec::new();
    for _ in 0..seconds {
        ticks.tick().await;
        let now = api.calls().await;
        calls.push(now - before);
        before = now;
    }
    calls
}

/// Of all stretches of time, the most calls above what the rate allows in it.
fn most_above(times: &[i64], per_second: f64) -> f64 {
    let (mut least, mut most) = (f64::INFINITY, 0.0f64);
    for (count, at) in (0u32..).zip(times) {
        let above = f64::from(count) - per_second * (at - times[0]) as f64 / 1000.0;
        least = least.min(above);
        most = most.max(above + 1.0 - least);
    }
    most
}
