//! A worker that may have too few open files: that is its own trouble, and none of the API's.

use std::time::Duration;

use serde_json::json;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Process, get, worker_command};
use crate::test_env::{PATIENCE, TestEnv};

const REQUESTS: usize = 300;

/// A command of the scene that may have this many open files.
fn limited(env: &TestEnv, files: u32, arguments: &[&str]) -> Command {
    let worker = worker_command(arguments, &env.environment());
    let worker = worker.as_std();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {files}; exec \"$0\" \"$@\""));
    command.arg(worker.get_program()).args(worker.get_args());
    for (name, value) in worker.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn count(worker: &Process, text: &str) -> usize {
    worker.lines().iter().filter(|line| line.contains(text)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_descriptors_answers_probes_and_in_time_all_requests_and_blames_no_endpoint() {
    let mut env = TestEnv::new().await;
    env.set("admin.listen", "127.0.0.1:0");
    // So many calls are under way at once that there are not enough descriptors for them.
    env.api.set_weather(&json!({"latency": "1s"})).await;
    let mut worker = Process::spawn(limited(&env, 64, &["run", "--name", "tested"]));
    worker.line_with("\"consuming\"", PATIENCE).await;
    env.collect_events().await;
    let line = worker.line_with("answering probes", PATIENCE).await;
    let livez = format!("http://{}/livez", line.split(r#""address":""#).nth(1).unwrap().split('"').next().unwrap());

    let ids: Vec<String> = (0..REQUESTS).map(|number| format!("cancels-a{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    assert_eq!(env.flood(&ids, 100).await.len(), REQUESTS);
    worker.line_with("no connection left for calls", PATIENCE).await;
    let end = Instant::now() + 3 * PATIENCE;
    let mut probes = 0;
    while env.events(REQUESTS, Duration::from_millis(50)).await.len() < REQUESTS {
        let probe = timeout(Duration::from_secs(3), get(&livez)).await;
        assert_eq!(probe.expect("the probe is not answered"), (200, "live\n".to_owned()), "after {probes} probes");
        probes += 1;
        assert!(Instant::now() < end, "only {} answers", env.events(0, Duration::ZERO).await.len());
    }
    assert!(probes > 20, "{probes} probes");
    for event in env.events(REQUESTS, Duration::ZERO).await {
        assert_eq!(event.verdict(), "cancelled", "{}", event.data());
        // Calls that were not made are not told as made.
        let (cancels, gets) = event.attempts();
        assert!(cancels == 1 && gets <= 2, "{}", event.data());
    }
    assert_eq!(count(&worker, "the circuit breaker"), 0);
    assert_eq!(count(&worker, "no connection left for calls"), 1);
    let spent = worker.cpu();
    sleep(Duration::from_secs(2)).await;
    assert!(worker.cpu() - spent < Duration::from_secs(1), "it has nothing to do");
    // Also now, while idle connections keep all descriptors, it ends in order.
    worker.signal("TERM");
    assert!(worker.wait().await.success());
    assert_eq!(count(&worker, "panicked"), 0);
    env.end().await;
}

#[tokio::test]
async fn a_limit_that_is_too_low_is_said_at_the_start_and_by_check() {
    let env = TestEnv::new().await;
    let worker = Process::spawn(limited(&env, 300, &["run"]));
    let line = worker.line_with("the limit of open files is 300, and 612 may be needed", PATIENCE).await;
    assert!(line.contains("\"WARN\"") && line.contains("LimitNOFILE"), "{line}");
    worker.line_with("\"consuming\"", PATIENCE).await;

    let output = limited(&env, 300, &["check"]).output().await.unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(report.contains("WARN open files: the limit of open files is 300, and 612 may be needed"), "{report}");
    let report = limited(&env, 700, &["check"]).output().await.unwrap().stdout;
    let report = String::from_utf8(report).unwrap();
    assert!(report.contains("ok   open files: 612 may be needed, the limit is 700"), "{report}");
    drop(worker);
    env.end().await;
}
