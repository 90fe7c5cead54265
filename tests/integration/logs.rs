//! What a worker logs, and what becomes of it when those who should take the lines do not.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeWriter, pipe};
use std::process::{Command, Stdio};
use std::time::Duration;

use cancel_worker::telemetry::{self, LogFormat};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::process::Child;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::support::{operation, worker_command};
use crate::test_env::{PATIENCE, TestEnv};

/// In an even stream: 20 requests a second, for 10 s.
const REQUESTS: u32 = 200;
const SPACING: Duration = Duration::from_millis(50);

/// A scene whose queues have been declared, and whose mailbox is open; nobody consumes.
async fn env() -> TestEnv {
    let mut env = TestEnv::new().await;
    let mut worker = env.worker().await;
    worker.signal("TERM");
    assert!(worker.wait().await.success());
    env
}

/// A worker whose standard error goes there.
fn worker_with(env: &TestEnv, stderr: impl Into<Stdio>) -> Child {
    let mut command = worker_command(&["run", "--name", "tested"], &env.environment());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).kill_on_drop(true).spawn().unwrap()
}

/// The writing end of a pipe that nobody reads any more.
fn closed_pipe() -> PipeWriter {
    pipe().unwrap().1
}

fn full_disk() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// The worker ends in order, long before its time of grace (10 s) is over.
async fn ends_soon(mut worker: Child) {
    let id = worker.id().expect("it runs");
    let sent = Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).status().unwrap();
    assert!(sent.success());
    let ended = timeout(Duration::from_secs(5), worker.wait()).await;
    assert_eq!(ended.expect("it did not end in time").unwrap().code(), Some(0));
}

/// The most memory that it has ever held in RAM, in bytes.
fn peak_memory(worker: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id().expect("it runs"))).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// From a request to its answer, of all but the slowest hundredth.
async fn p99(env: &TestEnv, name: &str) -> Duration {
    let begin = Instant::now();
    let answers = (0..REQUESTS).map(async |number| {
        sleep_until(begin + SPACING * number).await;
        let (id, asked) = (format!("cancels-{name}{number}"), Instant::now());
        env.request(&id).await;
        assert_eq!(env.event_for(&id).await.outcome(), "cancelled");
        asked.elapsed()
    });
    let mut latencies = join_all(answers).await;
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

/// Reads lines up to one that contains this text, and returns it. All of them are JSON objects.
fn read_to(lines: &mut impl Iterator<Item = std::io::Result<String>>, text: &str) -> Value {
    loop {
        let line = lines.next().unwrap_or_else(|| panic!("no line with {text:?}")).unwrap();
        let json: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if line.contains(text) {
            return json;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_the_logs_that_stalls_costs_lines_and_nothing_else() {
    let mut env = env().await;
    env.set("log.filter", "trace,lapin=trace");
    let (reader, stderr) = pipe().unwrap();
    let worker = worker_with(&env, stderr);
    let reading = tokio::task::spawn_blocking(move || std::io::copy(&mut &reader, &mut std::io::sink()));
    let usual = p99(&env, "read").await;
    let usual_memory = peak_memory(&worker);
    ends_soon(worker).await;
    let read = reading.await.unwrap().unwrap();
    assert!(read > 2 << 20, "{read} bytes are too few to fill every buffer");

    let (reader, stderr) = pipe().unwrap();
    let worker = worker_with(&env, stderr);
    let stalled = p99(&env, "stalled").await;
    let memory = peak_memory(&worker);
    println!("{read} bytes; p99 {usual:?}, stalled {stalled:?}; peak {usual_memory}, stalled {memory}");
    // What else the machine does may come between; a worker that is held up answers nothing.
    assert!(stalled <= usual * 2 + Duration::from_millis(300), "p99 was {usual:?} and is {stalled:?}");
    // Two processes that do the same differ by some hundred KiB.
    assert!(memory <= usual_memory + (3 << 20), "{memory} bytes instead of {usual_memory}");

    // What was kept is whole, and then the number of the others is told.
    let lines = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(reader).lines();
        let told = read_to(&mut lines, "log lines were lost");
        assert!(told["lost"].as_u64() > Some(1000) && told["level"] == "WARN", "{told}");
        lines
    });
    let lines = lines.await.unwrap();
    // It stalls again, and is full when the worker is to stop.
    p99(&env, "again").await;
    ends_soon(worker).await;
    drop(lines);
    env.end().await;
}

#[tokio::test]
async fn logs_that_nobody_takes_keep_no_request_from_its_answer() {
    let mut env = env().await;
    env.set("log.filter", "warn");
    for (name, stderr) in [("full", Stdio::from(full_disk())), ("closed", Stdio::from(closed_pipe()))] {
        let mut worker = worker_with(&env, stderr);
        // Each is a line.
        for number in 0..3 {
            let id = format!("denied-{name}{number}");
            env.request(&id).await;
            assert_eq!(env.event_for(&id).await.verdict(), "failed: permission_denied");
        }
        assert!(worker.try_wait().unwrap().is_none(), "it ended");
        ends_soon(worker).await;
    }
    assert_eq!(env.dead_letters(6).await.len(), 6, "they were kept for replay");
    env.end().await;
}

#[tokio::test]
async fn lines_that_were_lost_are_told_of_when_somebody_reads_again() {
    let mut env = env().await;
    env.set("log.filter", "warn");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    // Opened for both, since a pipe without a reader cannot be opened for writing alone.
    let both = File::options().read(true).write(true).open(&path).unwrap();
    let worker = worker_with(&env, File::options().write(true).open(&path).unwrap());
    env.request("denied-a").await;
    env.event_for("denied-a").await;
    drop(both);
    for id in ["denied-b", "denied-c"] {
        env.request(id).await;
        env.event_for(id).await;
    }
    let reader = File::open(&path).unwrap();
    let read = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(reader).lines();
        let lost = read_to(&mut lines, "log lines were lost");
        (lost, read_to(&mut lines, "denied-d"))
    });
    // It is told although nothing else is to be written.
    sleep(Duration::from_secs(2)).await;
    env.request("denied-d").await;
    let (lost, _) = timeout(PATIENCE, read).await.unwrap().unwrap();
    assert_eq!((&lost["level"], &lost["problem"]), (&json!("WARN"), &json!("Broken pipe (os error 32)")));
    // The last line may still have been on its way to the thread that writes.
    assert!((1..=3).contains(&lost["lost"].as_u64().unwrap()), "{lost}");
    ends_soon(worker).await;
    env.dead_letters(4).await;
    env.end().await;
}

#[tokio::test]
async fn no_command_panics_because_nobody_takes_what_it_prints() {
    let env = TestEnv::new().await;
    let name = operation("cancels-a");
    let commands: [(&[&str], i32, i32); 6] = [
        (&["check"], 0, 1),
        (&["check", "--online"], 0, 1),
        (&["cancel", &name], 1, 1),
        (&["request", &name], 1, 1),
        (&["simulate", "--listen", "127.0.0.1:0"], 1, 1),
        (&["--help"], 0, 0),
    ];
    let mut worker = env.starting_worker();
    worker.line_with("\"consuming\"", PATIENCE).await;
    for (arguments, closed, full) in commands {
        for (stdout, code) in [(Stdio::from(closed_pipe()), closed), (Stdio::from(full_disk()), full)] {
            let mut command = worker_command(arguments, &env.environment());
            let command = command.stdout(stdout).stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
            let output = timeout(PATIENCE, command.wait_with_output()).await;
            let output = output.unwrap_or_else(|_| panic!("{arguments:?} does not end")).unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
            let own = said.lines().filter(|line| !line.starts_with("{\"name\":")).count();
            assert!(!said.contains("panicked") && own <= 1, "{arguments:?}: {said}");
        }
    }
    for stderr in [Stdio::from(closed_pipe()), Stdio::from(full_disk())] {
        let mut command = worker_command(&["run", "--config", "/nowhere"], &env.environment());
        let status = timeout(PATIENCE, command.stderr(stderr).status()).await.unwrap().unwrap();
        assert_eq!(status.code(), Some(78));
    }
    worker.signal("TERM");
    assert!(worker.wait().await.success());
    env.end().await;
}

#[tokio::test]
async fn a_check_whose_reader_has_seen_enough_says_nothing_of_it() {
    let pipeline = "{ \"$0\" check; echo \"ended with $?\" >&2; } | head -n 1";
    let output = tokio::process::Command::new("sh")
        .args(["-c", pipeline, env!("CARGO_BIN_EXE_cancel-worker")])
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "ended with 0\n");
}

/// Runs as a process of its own, for the test after it.
#[test]
#[ignore = "the next test runs it"]
fn panics_in_a_thread() {
    telemetry::report_panics();
    telemetry::init(LogFormat::Json, "off");
    let threads = std::thread::Builder::new().name("worker-7".to_owned());
    let ended = threads.spawn(|| panic!("the request held {}", "s3cret")).unwrap().join();
    telemetry::flush();
    assert!(ended.is_err());
}

#[test]
fn a_panic_is_one_line_that_says_where_and_not_what() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "logs::panics_in_a_thread", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let line: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!((&line["level"], &line["thread"]), (&json!("ERROR"), &json!("worker-7")));
    assert!(line["location"].as_str().unwrap().starts_with("tests/integration/logs.rs:"), "{line}");
    assert!(!said.contains("s3cret") && said.lines().count() == 1, "{said}");
}

#[tokio::test]
async fn no_line_quotes_a_message_or_the_login_unless_the_filter_names_the_library_that_does() {
    const CONTEXT: &str = "quoted-c0ntext";
    // As text, and as lapin writes bytes.
    let quotes = |line: &str| {
        let bytes = format!("{:?}", CONTEXT.as_bytes());
        line.contains(CONTEXT) || line.contains(bytes.trim_matches(['[', ']']))
    };
    let mut env = TestEnv::new().await;
    for (filter, expected) in [("trace", false), ("trace,lapin=trace", true)] {
        env.set("log.filter", filter);
        let mut worker = env.worker().await;
        let id = format!("cancels-{expected}");
        env.request_with(&id, json!({"context": {"key": CONTEXT}})).await;
        env.event_for(&id).await;
        worker.signal("TERM");
        assert!(worker.wait().await.success());
        let lines = worker.lines();
        let logins = lines.iter().filter(|line| line.contains("StartOk") || line.contains("start-ok")).count();
        assert_eq!(lines.iter().any(|line| quotes(line)), expected, "{filter}");
        assert_eq!(logins > 0, expected, "{filter}");
        // Somebody has told what happened to the request.
        assert!(lines.iter().any(|line| line.contains(&id)), "{filter}");
    }
    env.end().await;
}

/// Whatever is said of a delivery says whose it is; the line of its answer has that at its top, and `log.answers` switches off
/// those that did not fail.
#[tokio::test]
async fn every_line_about_a_delivery_says_whose_it_is() {
    let mut env = TestEnv::new().await;
    env.set("log.filter", "debug");
    env.set("worker.inline_wait", "0s");
    let worker = env.worker().await;
    env.request("cancels-1s-a").await;
    env.event_for("cancels-1s-a").await;
    let key = crate::test_env::request_key("cancels-1s-a");
    let delayed: Value = serde_json::from_str(&worker.line_with("\"delayed\"", PATIENCE).await).unwrap();
    assert_eq!(delayed["span"]["request_key"], json!(key), "{delayed}");
    assert_eq!(delayed["span"]["operation"], json!(operation("cancels-1s-a")), "{delayed}");
    let answered: Value = serde_json::from_str(&worker.line_with("\"answered\"", PATIENCE).await).unwrap();
    assert_eq!((&answered["request_key"], &answered["span"]["request_key"]), (&json!(key), &json!(key)), "{answered}");
    drop(worker);

    env.set("log.filter", "info");
    env.set("log.answers", "false");
    let worker = env.worker().await;
    env.request("cancels-b").await;
    env.request("notfound-c").await;
    env.event_for("cancels-b").await;
    env.event_for("notfound-c").await;
    worker.line_with("\"failed\"", PATIENCE).await;
    assert!(!worker.lines().iter().any(|line| line.contains("\"answered\"")));
    drop(worker);
    env.end().await;
}
