//! `check --online` as a doctor: each fault is made, found with the command that mends it, mended by that command, and gone.

use std::time::Duration;

use cancel_worker::worker::now;
use lapin::options::{BasicPublishOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::support::{Act, Broker, RawServer, Request, free_port, persistent};
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

/// Waits until the finding is there, runs the command in it that begins so, and waits until it is gone.
async fn mends(env: &TestEnv, management: &str, text: &str, start: &str, node: &Broker) {
    let finding = finds(env, management, text).await;
    let commands = finding.split('`').skip(1).step_by(2);
    let command = commands.into_iter().find(|command| command.starts_with(start));
    let command = command.unwrap_or_else(|| panic!("no {start} in {finding}"));
    block_in_place(|| node.shell(command));
    is_gone(env, management, text).await;
}

async fn declare(env: &TestEnv, queue: &str, arguments: &[(&str, AMQPValue)]) {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    let channel = env.amqp.channel().await;
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), table).await.unwrap();
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
    assert!(refused.iter().any(|finding| finding.contains("refuses the login of user \"nobody\"")), "{refused:#?}");
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
async fn a_canary_proves_the_whole_way() {
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

/// An API that knows no operation, and at which it is ten minutes earlier.
async fn forgetful_api() -> RawServer {
    RawServer::start(|_: &Request| {
        let date = httpdate::fmt_http_date((now() - Duration::from_secs(600)).into());
        let body = json!({ "error": { "code": 404, "status": "NOT_FOUND", "message": "no such operation" } });
        Act::json(&format!("404 Not Found\r\ndate: {date}"), &body.to_string())
    })
    .await
}

#[tokio::test]
async fn a_canary_leaves_one_letter_where_failures_are_kept_and_a_wrong_clock_is_told_of() {
    let (mut env, api) = (TestEnv::new().await, forgetful_api().await);
    env.set("api.endpoint", &api.url());
    for keeps in [true, false] {
        env.set("worker.keep_failed", &keeps.to_string());
        let worker = env.worker().await;
        let sung = check(&env, &["--end-to-end"]).await;
        assert!(sung.code == 0 && sung.stdout.contains("the answer is failed not_found"), "{sung:?}");
        let seconds = ["-599 s", "-600 s", "-601 s"];
        let clock = sung.stdout.lines().find(|line| line.starts_with("WARN clock: the API's is ")).unwrap();
        assert!(seconds.iter().any(|seconds| clock.contains(seconds)), "{clock}");
        env.depth_becomes("dead", keeps.into()).await;
        if keeps {
            let letter = env.dead_letters(1).await.remove(0);
            let request: Value = serde_json::from_slice(&letter.data).unwrap();
            assert!(request["request_id"].as_str().unwrap().starts_with("cancel-worker-check-"), "{request}");
        }
        drop(worker);
    }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_may_not_see_and_what_others_have_set_is_mended_by_the_command_beside_it() {
    let node = block_in_place(Broker::private);
    let management = block_in_place(|| manage(&node));
    let mut env = TestEnv::on(&node).await;
    let _worker = env.worker().await;
    users(&env, &management, &node).await;

    // A policy that others need, and an operator's.
    block_in_place(|| {
        node.ctl(["set_policy", "--priority", "7", "it's everybody's", ".*", "{\"message-ttl\":999999}"]);
        node.ctl(["set_operator_policy", "the operator's", ".*", "{\"max-length\":1000000}"])
    });
    mends(&env, &management, "by a policy with message-ttl", "rabbitmqctl set_policy", &node).await;
    block_in_place(|| node.ctl(["clear_policy", &env.prefix]));
    mends(&env, &management, "by a policy with message-ttl", "rabbitmqctl clear_policy", &node).await;
    mends(&env, &management, "drops messages", "rabbitmqctl clear_operator_policy", &node).await;

    // A binding, also where no worker declares it.
    let (queue, exchange, channel) = (env.queue("results"), env.queue("events"), env.amqp.channel().await);
    let key = "operation.#".into();
    channel.queue_unbind(queue.into(), exchange.into(), key, FieldTable::default()).await.unwrap();
    mends(&env, &management, "is not bound to exchange", "rabbitmqctl eval", &node).await;
}

/// From a user who may log in to one who sees all that a monitoring user sees.
async fn users(env: &TestEnv, management: &str, node: &Broker) {
    block_in_place(|| node.ctl(["add_user", "it's me", "h1dden"]));
    let me = management.replace("127", "it%27s%20me:h1dden@127");
    mends(env, &me, "may not use the management API", "rabbitmqctl set_user_tags", node).await;
    mends(env, &me, "may not see the queues of vhost \"/\"", "rabbitmqctl set_permissions", node).await;
    block_in_place(|| node.ctl(["set_user_tags", "it's me", "management"]));
    mends(env, &me, "may not see nodes and their alarms", "rabbitmqctl set_user_tags", node).await;
    let text = check(env, &["--management", &me]).await;
    assert!(text.code == 0 && !text.stdout.contains("h1dden"), "{text:?}");
    let flags = text.stdout.lines().find(|line| line.starts_with("ok   feature flags: ")).unwrap();
    assert!(block_in_place(|| node.shell(command(flags))).contains("quorum_queue"), "{flags}");
    assert!(text.stdout.contains("ok   node: 1 running") && text.stdout.contains("ok   policy: "), "{text:?}");
    let wrong = found(env, &["--management", &management.replace("127", "guest:h1dden@127")]).await;
    assert!(wrong.iter().any(|finding| finding.contains("refuses the login of user \"guest\"")), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarms_and_events_that_nobody_takes_and_queues_that_the_worker_does_not_declare_are_told_of() {
    let node = block_in_place(Broker::private);
    let management = block_in_place(|| manage(&node));
    let mut env = TestEnv::on(&node).await;
    block_in_place(|| {
        node.ctl(["set_vm_memory_high_watermark", "0.000001"]);
        node.ctl(["set_disk_free_limit", "100000GB"])
    });
    mends(&env, &management, "an alarm for the memory", "rabbitmqctl set_vm", &node).await;
    mends(&env, &management, "an alarm for the disk", "rabbitmqctl set_disk", &node).await;
    drop(env.worker().await);
    external_queues(&mut env, &management).await;
}

/// What is wrong with queues that the worker does not declare, and events that nobody takes.
async fn external_queues(env: &mut TestEnv, management: &str) {
    let (events, letters, jobs) = (env.queue("own-events"), env.queue("own-letters"), env.queue("own-jobs"));
    let quorum = ("x-queue-type", AMQPValue::LongString("quorum".into()));
    let limit = |limit| ("x-delivery-limit", AMQPValue::LongLongInt(limit));
    declare(env, &events, &[quorum.clone(), limit(20)]).await;
    declare(env, &letters, &[]).await;
    declare(env, &jobs, &[quorum, limit(5)]).await;
    env.set("amqp.topology.external.results_queue", &events);
    env.set("amqp.topology.external.dead_queue", &letters);
    env.set("amqp.topology.external.requests_queue", &jobs);
    finds(env, management, &format!("{jobs:?} has no x-dead-letter-exchange")).await;
    finds(env, management, &format!("{letters:?} is no quorum queue")).await;
    finds(env, management, &format!("{events:?} has a delivery limit that looking at it reaches")).await;

    let channel = env.amqp.channel().await;
    for _ in 0..100_001 {
        let (queue, options) = (events.as_str().into(), BasicPublishOptions::default());
        drop(channel.basic_publish("".into(), queue, options, b"e", persistent()).await.unwrap());
    }
    finds(env, management, "100001 events wait").await;
    channel.queue_purge(events.as_str().into(), QueuePurgeOptions::default()).await.unwrap();
    is_gone(env, management, "events wait").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_of_one_node_are_grown_onto_another_and_a_flag_that_is_off_is_enabled() {
    let mut first = block_in_place(Broker::private);
    // As a node begins that was upgraded to 3.10. Newer versions have no such flag.
    block_in_place(|| first.kill9());
    for file in std::fs::read_dir(first.folder().join("mnesia")).unwrap().map(|entry| entry.unwrap().path()) {
        if file.to_str().unwrap().ends_with("-feature_flags") {
            let flags = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, flags.replace("stream_queue,", "")).unwrap();
        }
    }
    block_in_place(|| first.restart());
    let management = block_in_place(|| manage(&first));
    let mut env = TestEnv::on(&first).await;
    if block_in_place(|| first.ctl(["--silent", "list_feature_flags"])).contains("stream_queue\tdisabled") {
        mends(&env, &management, "stream_queue is disabled", "rabbitmqctl enable_feature_flag", &first).await;
    }

    drop(env.worker().await);
    finds(&env, &management, "queues have one member").await;
    let second = block_in_place(|| first.join());
    mends(&env, &management, "rabbitmq-queues grow", "rabbitmq-queues grow", &first).await;
    drop(second);
    finds(&env, &management, "1 of 2 members").await;
}

#[tokio::test]
async fn a_url_that_cannot_be_used_is_refused_without_being_quoted() {
    for url in ["http://ann:s3cret@", "ann:s3cret@broker", "amqp://ann:s3cret@broker", "http://ann:s3cret@b/?s3cret"] {
        let refused = run_command(&["check", "--online", "--management", url], &[], "").await;
        let told = "cancel-worker: failed to use --management: it must be of the form http://user:password@host:15672";
        assert!(refused.code == 1 && refused.stderr.starts_with(told), "{refused:?}");
        assert!(!format!("{refused:?}").contains("s3cret"), "{refused:?}");
    }
}
