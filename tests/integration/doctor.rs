//! `check --online` as a doctor: each fault is made, found with the command that mends it, mended by that command, and gone.

use std::time::Duration;

use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;
use serde_json::{Value, json};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::support::{Broker, free_port};
use crate::test_env::{Ended, PATIENCE, TestEnv, run_command};

async fn check(env: &TestEnv, arguments: &[&str]) -> Ended {
    let arguments: Vec<&str> = ["check", "--online"].iter().chain(arguments).copied().collect();
    run_command(&arguments, &env.environment(), "").await
}

/// The findings of `check --online --json` that are not as they should be: `warn queue: …`.
async fn found(env: &TestEnv, arguments: &[&str]) -> Vec<String> {
    let arguments: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
    let ended = check(env, &arguments).await;
    let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    let findings = report["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] != "ok");
    let told: Vec<String> = findings
        .map(|finding| {
            let text = |part: &str| finding[part].as_str().unwrap().to_owned();
            format!("{} {}: {}", text("severity"), text("part"), text("what"))
        })
        .collect();
    let failed = told.iter().any(|finding| finding.starts_with("fail"));
    assert_eq!((report["ok"] == json!(true), ended.code == 0), (!failed, !failed), "{ended:?}");
    told
}

/// Waits, for the broker's numbers are some seconds old, until one of the findings has this, and returns it.
async fn finds(env: &TestEnv, management: &str, text: &str) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let all = found(env, &["--management", management]).await;
        if let Some(finding) = all.iter().find(|finding| finding.contains(text)) {
            return finding.clone();
        }
        assert!(Instant::now() < end, "no finding with {text:?}: {all:#?}");
        sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until none of the findings has this.
async fn is_gone(env: &TestEnv, management: &str, text: &str) {
    let end = Instant::now() + PATIENCE;
    while let Some(finding) =
        found(env, &["--management", management]).await.into_iter().find(|finding| finding.contains(text))
    {
        assert!(Instant::now() < end, "still there: {finding}");
        sleep(Duration::from_millis(500)).await;
    }
}

fn command(finding: &str) -> &str {
    finding.split('`').nth(1).unwrap_or_else(|| panic!("no command in {finding}"))
}

/// Switches the management plugin of a node on, and returns its address.
fn manage(node: &Broker) -> String {
    let port = free_port();
    node.ctl([
        "eval",
        &format!(
            "application:set_env(rabbit, collect_statistics_interval, 500), application:load(rabbitmq_management), application:set_env(rabbitmq_management, tcp_config, [{{port, {port}}}, {{ip, \"127.0.0.1\"}}]), {{ok, File}} = application:get_env(rabbit, enabled_plugins_file), ok = file:write_file(File, \"[rabbitmq_management].\"), rabbit_plugins:ensure(File)."
        ),
    ]);
    format!("http://127.0.0.1:{port}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_management_api_tells_what_amqp_cannot_and_each_command_mends_what_it_names() {
    let node = block_in_place(Broker::private);
    let management = block_in_place(|| manage(&node));
    let mut env = TestEnv::on(&node).await;
    let worker = env.worker().await;
    let prefix = env.prefix.clone();

    // A lone node, and nothing else.
    let end = Instant::now() + PATIENCE;
    let all = loop {
        let all = found(&env, &["--management", &management]).await;
        if all.len() == 1 || Instant::now() > end {
            break all;
        }
        sleep(Duration::from_secs(1)).await;
    };
    assert!(all.len() == 1 && all[0].contains("queues have one member"), "{all:#?}");

    // Policies: each harms in its way, and is cleared by the command.
    for (definition, told) in [
        ("{\"expires\":100000000}", "is deleted with all its messages"),
        (
            "{\"max-length\":1000000,\"overflow\":\"drop-head\",\"message-ttl\":1000000}",
            "drops messages by a policy with max-length",
        ),
        ("{\"delivery-limit\":3,\"message-ttl\":1000000}", "gives messages up after 3 redeliveries"),
    ] {
        let pattern = format!("^{prefix}\\.");
        block_in_place(|| {
            node.ctl(["set_policy", "-p", "/", "it hurts", &pattern, definition, "--apply-to", "queues"])
        });
        let finding = finds(&env, &management, told).await;
        let command = command(&finding).to_owned();
        assert_eq!(command, "rabbitmqctl clear_policy -p / 'it hurts'", "{finding}");
        block_in_place(|| node.shell(&command));
        is_gone(&env, &management, " policy: ").await;
    }

    // A binding that is gone: what the worker binds within a minute, and nobody else sees.
    let channel = env.amqp.channel().await;
    let (queue, exchange) = (env.queue("dead"), env.queue("dead"));
    let (queue, exchange) = (queue.as_str(), exchange.as_str());
    channel.queue_unbind(queue.into(), exchange.into(), "dead".into(), FieldTable::default()).await.unwrap();
    finds(&env, &management, "is not bound to exchange").await;
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.into(), exchange.into(), "dead".into(), options, FieldTable::default()).await.unwrap();
    is_gone(&env, &management, "is not bound to exchange").await;

    // A wait queue of other settings.
    let old = format!("{prefix}.wait.7s");
    env.amqp.declare_queue(&old).await;
    let finding = finds(&env, &management, "is of other settings and has 0 messages").await;
    block_in_place(|| node.shell(command(&finding)));
    is_gone(&env, &management, "is of other settings").await;

    // An alarm. The looks at the broker go on, for they publish nothing.
    block_in_place(|| node.ctl(["set_vm_memory_high_watermark", "0.000001"]));
    let finding = finds(&env, &management, "an alarm for the memory").await;
    assert!(block_in_place(|| node.shell(command(&finding))).to_lowercase().contains("memory"));
    block_in_place(|| node.ctl(["set_vm_memory_high_watermark", "0.6"]));
    is_gone(&env, &management, "an alarm for the memory").await;

    // Nobody takes requests any more.
    drop(worker);
    finds(&env, &management, "no worker takes requests").await;

    // The way in.
    let refused = found(&env, &["--management", &management.replace("127", "nobody:wrong@127")]).await;
    assert!(refused.iter().any(|finding| finding.contains("refuses user \"nobody\"")), "{refused:#?}");
    assert!(!refused.iter().any(|finding| finding.contains("wrong@")), "{refused:#?}");
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let refused = found(&env, &["--management", &nowhere]).await;
    assert!(
        refused.iter().any(|finding| finding.contains("is the plugin rabbitmq_management enabled")),
        "{refused:#?}"
    );
    let other = found(&env, &["--management", env.api.url()]).await;
    assert!(other.iter().any(|finding| finding.contains("is none of RabbitMQ's")), "{other:#?}");
}

#[tokio::test]
async fn a_canary_proves_the_whole_way_and_leaves_one_letter() {
    let mut env = TestEnv::new().await;
    let silent = check(&env, &["--end-to-end"]).await;
    assert!(silent.code == 1 && silent.stdout.contains("FAIL end to end: no answer within 10s"), "{silent:?}");

    let mut worker = env.worker().await;
    // What nobody answered waits, and is answered now.
    env.events(1, PATIENCE).await;
    let sung = check(&env, &["--end-to-end"]).await;
    let line = sung.stdout.lines().find(|line| line.contains("end to end")).unwrap();
    assert!(line.starts_with("ok   end to end: broker, worker, API and event: "), "{sung:?}");
    assert!(sung.stdout.contains("ok   clock: the API's is 0 s"), "{sung:?}");
    worker.signal("TERM");
    worker.wait().await;
    env.end().await;
}

#[tokio::test]
async fn the_report_is_the_same_as_text_and_as_json() {
    let mut env = TestEnv::new().await;
    let worker = env.worker().await;
    let (text, json) = (check(&env, &[]).await, check(&env, &["--json"]).await);
    assert_eq!((text.code, json.code), (0, 0), "{text:?}");
    let report: Value = serde_json::from_str(&json.stdout).unwrap();
    let (findings, settings) = (report["findings"].as_array().unwrap(), report["settings"].as_array().unwrap());
    assert_eq!(text.stdout.lines().count(), findings.len() + settings.len());
    assert!(settings.iter().any(|setting| setting["key"] == "amqp.prefetch" && setting["value"] == "256"));
    assert!(!json.stdout.contains("guest:guest"), "no password");
    let needs_online = run_command(&["check", "--end-to-end"], &env.environment(), "").await;
    assert_eq!(needs_online.code, 2, "{needs_online:?}");
    drop(worker);
    env.end().await;
}
