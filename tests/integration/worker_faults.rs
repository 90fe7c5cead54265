//! What happens to requests when a worker stops or something around it fails.

use std::collections::{HashMap, HashSet};
use std::process::Command;
use std::time::Duration;

use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;
use tokio::time::{Instant, sleep};

use crate::event::Event;
use crate::support::{AmqpProxy, Broker, Process};
use crate::test_env::{PATIENCE, TestEnv, event_id, request_key};

/// So many ids for the simulator, told apart by the letter.
fn ids(script: &str, letter: char, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{script}-{letter}{number}")).collect()
}

fn borrowed(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).collect()
}

/// Waits until each of the requests has an answer, and returns how many events there are in all.
async fn all_are_cancelled(env: &TestEnv, requests: &[&str]) -> usize {
    let end = Instant::now() + 3 * PATIENCE;
    let wanted: HashMap<String, &str> = requests.iter().map(|id| (request_key(id), *id)).collect();
    loop {
        let events = env.events(0, Duration::ZERO).await;
        let answered: HashSet<String> = events.iter().map(Event::request_key).collect();
        let missing: Vec<_> = wanted.iter().filter(|(key, _)| !answered.contains(*key)).collect();
        if missing.is_empty() {
            for event in &events {
                let identity = event.data()["request_id"].as_str().unwrap();
                assert_eq!(
                    (event.outcome(), event.id()),
                    ("cancelled", event_id(&request_key(identity), "cancelled").as_str()),
                    "{}",
                    event.data()
                );
            }
            return events.len();
        }
        let count = missing.len();
        assert!(Instant::now() < end, "{count} of {} are without an answer, such as {:?}", wanted.len(), missing[0]);
        env.events(events.len() + 1, Duration::from_secs(1)).await;
    }
}

fn count_lines(worker: &Process, text: &str) -> usize {
    worker.lines().iter().filter(|line| line.contains(text)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_stopped_under_load_ends_in_time_and_the_next_one_does_the_rest() {
    let mut env = TestEnv::new().await;
    let mut first = env.worker().await;
    let ids = ids("cancels-300ms", 'r', 2000);
    let requests = borrowed(&ids);
    let (confirmed, _) = tokio::join!(env.flood(&requests, 1000), env.events(100, PATIENCE));
    assert_eq!(confirmed.len(), requests.len());

    let asked = Instant::now();
    first.signal("TERM");
    let status = first.wait().await;
    let took = asked.elapsed();
    let answered = env.events(0, PATIENCE).await.len();
    assert_eq!(status.code(), Some(0));
    // `worker.shutdown_grace`, and a moment for the rest.
    assert!(took < Duration::from_secs(15), "it took {took:?}");
    assert!((100..requests.len()).contains(&answered), "{answered} were answered by the first worker");

    let _second = env.worker().await;
    let events = all_are_cancelled(&env, &requests).await;
    println!("stopped after {answered} answers, in {took:.1?}");
    // What was acknowledged just before the channel's end the broker may forget: delivery is at least once.
    let repeated = events - requests.len();
    assert!(repeated <= 256, "{repeated} answers were given twice, more than were in flight");
    env.end().await;
}

#[tokio::test]
async fn a_second_signal_ends_the_worker_at_once_and_the_request_is_still_there() {
    let mut env = TestEnv::new().await;
    env.set("worker.shutdown_grace", "5m");
    env.set("api.call_timeout", "5m");
    let mut worker = env.worker().await;
    env.request("hangs-a").await;
    while env.api.calls("hangs-a").await["cancel_calls"] != 1 {
        sleep(Duration::from_millis(20)).await;
    }
    // What signals a process and its group sends both at once, and means one stop.
    worker.signal("TERM");
    worker.signal("TERM");
    worker.line_with("stopping", PATIENCE).await;
    sleep(Duration::from_millis(1200)).await;
    assert!(!worker.lines().iter().any(|line| line.contains("a second signal")));

    let asked = Instant::now();
    worker.signal("TERM");
    let status = worker.wait().await;
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    assert_eq!(status.code(), Some(143));
    env.depth_becomes("requests", 1).await;
    env.end().await;
}

/// The first process of a container loses a signal that nothing handles yet.
#[tokio::test]
async fn a_signal_that_comes_before_the_settings_are_read_stops_the_worker_too() {
    let folder = tempfile::tempdir().unwrap();
    let uri = folder.path().join("uri");
    assert!(Command::new("mkfifo").arg(&uri).status().unwrap().success());
    // It waits for this setting until somebody writes into the pipe.
    let mut worker = Process::worker(&["run"], &[("CANCEL_WORKER__AMQP__URI_FILE", uri.to_str().unwrap())]);
    let handles_it = |id: u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
        u64::from_str_radix(caught, 16).unwrap() >> (15 - 1) & 1 == 1
    };
    let end = Instant::now() + PATIENCE;
    while !handles_it(worker.id()) {
        assert!(Instant::now() < end, "SIGTERM is not handled before the settings are read");
        sleep(Duration::from_millis(5)).await;
    }
    worker.signal("TERM");
    tokio::task::spawn_blocking(move || std::fs::write(uri, "amqp://127.0.0.1:9")).await.unwrap().unwrap();
    let status = tokio::time::timeout(PATIENCE, worker.wait()).await.expect("it ends");
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_worker_without_a_session_stops_at_once_whatever_it_waits_for() {
    for refused in [true, false] {
        let mut env = TestEnv::new().await;
        let mut proxy = AmqpProxy::start(Broker::shared().uri()).await;
        for (setting, value) in [("amqp.uri", proxy.uri().as_str()), ("amqp.heartbeat", "1s")] {
            env.set(setting, value);
        }
        let mut worker = env.worker().await;
        if refused {
            proxy.cut().await;
        } else {
            proxy.silence().await;
        }
        worker.line_with("the session is over", PATIENCE).await;
        // Between two attempts, or in one that nobody answers.
        sleep(Duration::from_secs(1)).await;

        let asked = Instant::now();
        worker.signal("TERM");
        let status = worker.wait().await;
        assert!(asked.elapsed() < Duration::from_secs(2), "refused: {refused}; it took {:?}", asked.elapsed());
        assert_eq!(status.code(), Some(0));
        env.end().await;
    }
}

#[tokio::test]
async fn near_the_end_of_the_grace_calls_are_given_up_and_their_requests_wait() {
    let mut env = TestEnv::new().await;
    env.set("worker.shutdown_grace", "2s");
    let mut worker = env.worker().await;
    env.request("hangs-a").await;
    while env.api.calls("hangs-a").await["cancel_calls"] != 1 {
        sleep(Duration::from_millis(20)).await;
    }
    let asked = Instant::now();
    worker.signal("TERM");
    assert_eq!(worker.wait().await.code(), Some(0));
    // Three quarters of it, and no more than all of it, closing included.
    assert!((1500..2000).contains(&asked.elapsed().as_millis()), "it took {:?}", asked.elapsed());
    assert_eq!(env.depth("requests").await, 0);
    // It was on its way to be done, and so it is when a worker is there again.
    env.depth_becomes("followups", 1).await;
    env.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_the_broker_every_confirmed_request_is_answered() {
    let mut broker = tokio::task::block_in_place(Broker::private);
    let mut env = TestEnv::on(&broker).await;
    let worker = env.worker().await;

    let first = ids("cancels-300ms", 'a', 1500);
    let first = borrowed(&first);
    let (mut confirmed, _) = tokio::join!(env.flood(&first, 1000), env.events(100, PATIENCE));
    tokio::task::block_in_place(|| broker.ctl(["close_all_connections", "--vhost", "/", "a test"]));
    env.reconnect().await;
    all_are_cancelled(&env, &confirmed).await;
    // All may have been answered before the next session has begun.
    let end = Instant::now() + PATIENCE;
    while count_lines(&worker, "\"consuming\"") < 2 && Instant::now() < end {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count_lines(&worker, "\"consuming\""), 2);
    assert_eq!(count_lines(&worker, "the session is over"), 1);

    // More than can be published one by one before the broker is gone.
    let (second, third) = (ids("cancels-300ms", 'b', 20_000), ids("cancels", 'c', 100));
    let (second, third) = (borrowed(&second), borrowed(&third));
    let so_far = env.events(0, PATIENCE).await.len();
    let killing = async {
        env.events(so_far + 100, PATIENCE).await;
        tokio::task::spawn_blocking(move || {
            broker.kill9();
            broker
        })
        .await
        .unwrap()
    };
    let (before, mut broker) = tokio::join!(env.flood(&second, 1), killing);
    assert!(before.len() < second.len(), "the broker went down amidst the publishing");
    tokio::task::block_in_place(|| broker.restart());
    env.reconnect().await;
    println!("{} requests were confirmed before the kill", before.len());
    confirmed.extend(before);
    confirmed.extend(env.flood(&third, 1000).await);
    let events = all_are_cancelled(&env, &confirmed).await;
    println!("{events} events for {} requests", confirmed.len());
    assert!(confirmed.len() >= first.len() + 100 + third.len());
}

#[tokio::test]
async fn events_that_nobody_takes_keep_their_requests_until_somebody_does() {
    let mut env = TestEnv::on(Broker::observable()).await;
    env.set("amqp.topology.results", "false");
    let worker = env.worker().await;
    let requests = ["cancels-a", "completes-a", "unimplemented-a", "denied-a", "cancels-300ms-a"];
    for id in requests {
        env.request(id).await;
    }
    worker.line_with("no queue is bound to exchange", PATIENCE).await;
    env.census_becomes(&[("requests", (0, 5))]).await;
    // Several attempts long.
    sleep(Duration::from_secs(3)).await;
    env.census_becomes(&[("requests", (0, 5))]).await;
    assert_eq!(count_lines(&worker, "\"ERROR\""), 1, "{}", worker.lines().join("\n"));

    let (queue, exchange) = (env.queue("results"), env.queue("events"));
    env.amqp.declare_queue(&queue).await;
    let channel = env.amqp.channel().await;
    let options = QueueBindOptions::default();
    let table = FieldTable::default();
    channel.queue_bind(queue.into(), exchange.into(), "operation.#".into(), options, table).await.unwrap();
    let bound = Instant::now();
    env.collect_events().await;
    assert_eq!(env.events(requests.len(), PATIENCE).await.len(), requests.len());
    // The longest interval between two attempts is 4 s.
    assert!(bound.elapsed() < Duration::from_secs(8), "it took {:?}", bound.elapsed());
    assert_eq!(env.event_for("denied-a").await.verdict(), "failed: permission_denied");
    worker.line_with("the broker takes everything again", PATIENCE).await;
    env.census_becomes(&[("dead", (1, 0))]).await;
    env.end().await;
}
