//! Prometheus itself, and its tool: what they make of the worker's metrics and of the alerts. Debian's package `prometheus` has
//! both; `tests/run.sh` installs it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::support::{Process, free_port, get, variable};
use crate::test_env::{PATIENCE, TestEnv};

/// Runs `promtool`, and returns what it printed.
async fn promtool(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool, of Debian's package prometheus");
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    let output = child.wait_with_output().await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

#[tokio::test]
async fn the_rules_are_valid_and_fire_where_they_have_to() {
    let said = promtool(&["check", "rules", "deploy/prometheus/rules.yml"], "").await;
    assert!(said.contains("SUCCESS"), "{said}");
    let said = promtool(&["test", "rules", "deploy/prometheus/rules_test.yml"], "").await;
    assert!(said.contains("SUCCESS"), "{said}");
}

#[tokio::test]
async fn the_tool_finds_nothing_amiss_with_a_scrape() {
    let worker = without_broker();
    let (_, scrape) = get(&format!("http://{}/metrics", worker.admin_address().await)).await;
    assert_eq!(promtool(&["check", "metrics"], &scrape).await, "");
}

/// A worker that tells of itself, and no more.
fn without_broker() -> Process {
    let nowhere = format!("amqp://guest:guest@127.0.0.1:{}/%2f", free_port());
    Process::worker(&["run"], &[(&variable("amqp.uri"), &nowhere), (&variable("admin.listen"), "127.0.0.1:0")])
}

#[tokio::test]
async fn a_prometheus_scrapes_two_workers_and_knows_the_documented_metrics_and_no_alert_fires() {
    let mut env = TestEnv::new().await;
    env.set("admin.listen", "127.0.0.1:0");
    let workers = [env.worker().await, env.worker().await];
    let targets = [workers[0].admin_address().await, workers[1].admin_address().await];
    let folder = tempfile::tempdir().unwrap();
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/rules.yml");
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{:?}]\nscrape_configs:\n- job_name: cancel-worker\n  static_configs: [{{targets: [{:?}, {:?}]}}]\n",
        rules.display().to_string(),
        targets[0],
        targets[1]
    );
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    command.arg(format!("--web.listen-address={listen}"));
    let prometheus = Process::spawn(command);
    prometheus.line_with("Server is ready", PATIENCE).await;
    let api = |path: &str| format!("http://{listen}/api/v1/{path}");
    let ask = async |path: &str| -> Value {
        let answer = reqwest::get(api(path)).await.unwrap();
        let (status, body) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str::<Value>(&body).unwrap()["data"].take()
    };

    let names: Vec<String> = (0..50).map(|number| format!("cancels-{number}")).collect();
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    env.flood(&ids, 50).await;
    env.answers(50).await;
    let end = Instant::now() + PATIENCE;
    let answers = "query?query=sum(cancel_worker_results_total)";
    while ask(answers).await["result"][0]["value"][1] != "50" {
        assert!(Instant::now() < end, "{}", ask(answers).await);
        sleep(Duration::from_millis(300)).await;
    }
    let targets = ask("targets").await;
    let health: Vec<&str> =
        targets["activeTargets"].as_array().unwrap().iter().map(|target| target["health"].as_str().unwrap()).collect();
    assert_eq!(health, ["up", "up"], "{targets}");

    let known: BTreeMap<String, String> = ask("metadata")
        .await
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, of)| (name.clone(), of[0]["type"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(known, documented(), "on the left what Prometheus knows, on the right what deploy/README.md says");
    sleep(Duration::from_secs(3)).await;
    let alerts = ask("alerts").await;
    let firing = alerts["alerts"].as_array().unwrap().iter().filter(|alert| alert["state"] == "firing");
    let firing: BTreeSet<&str> = firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap()).collect();
    assert_eq!(firing, BTreeSet::new(), "all is well");
    drop((prometheus, workers));
    env.end().await;
}

/// Names and types of the table. Prometheus asks for OpenMetrics, where a counter's family has no `_total`.
fn documented() -> BTreeMap<String, String> {
    let readme = include_str!("../../deploy/README.md");
    let rows = readme.lines().skip_while(|line| !line.starts_with("| metric |")).skip(2);
    let cells =
        rows.take_while(|line| line.starts_with('|')).map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let named = |row: Vec<&str>| {
        let (name, kind) = (row[1].trim_matches('`'), row[2].to_owned());
        (if kind == "counter" { name.trim_end_matches("_total") } else { name }.to_owned(), kind)
    };
    cells.map(named).collect()
}
