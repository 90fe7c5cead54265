//! What is said to whoever set something wrong: one sentence that names what is wrong, and what to do.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use tokio::net::TcpListener;
use tokio::time::Instant;
use url::Url;

use crate::support::{Broker, free_port};
use crate::test_env::{Ended, PATIENCE, TestEnv, run_command, variable};

/// Occurs nowhere by chance.
const PASSWORD: &str = "pa55-vv0rd-of-the-tests";

const SETTINGS: i32 = 78;
const BROKER: i32 = 69;

/// What the command says itself: the only line on standard error that is no log line.
fn sentence(ended: &Ended) -> String {
    let lines: Vec<&str> = ended.stderr.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(lines.len(), 1, "one sentence on standard error, but: {ended:?}");
    assert!(lines[0].starts_with("cancel-worker: failed to "), "{}", lines[0]);
    lines[0].to_owned()
}

/// `run` ends with this number, and says each of the words, once; `check` says the same.
async fn is_told(env: &TestEnv, code: i32, words: &[&str]) {
    let environment = env.environment();
    let run = run_command(&["run"], &environment, "").await;
    let told = sentence(&run);
    assert_eq!(run.code, code, "{told}");
    for word in words {
        assert_eq!(told.matches(word).count(), 1, "{word:?} once in: {told}");
    }
    let errors = run.stderr.lines().filter(|line| line.contains("\"ERROR\"") || line.contains("\"WARN\""));
    assert_eq!(errors.count(), 0, "and not in the log too: {}", run.stderr);

    let check = run_command(&["check", "--online"], &environment, "").await;
    assert_eq!(check.code, code, "{check:?}");
    let told = if code == SETTINGS {
        sentence(&check)
    } else {
        let failures: Vec<&str> = check.stdout.lines().filter(|line| line.starts_with("FAIL")).collect();
        assert!(!failures.is_empty() && check.stderr.is_empty(), "{check:?}");
        failures.join("\n")
    };
    for word in words {
        assert!(told.contains(word), "{word:?} in: {told}");
    }
    for output in [run.stderr, run.stdout, check.stderr, check.stdout] {
        assert!(!output.contains(PASSWORD), "{output}");
    }
}

fn changed(uri: &str, change: impl FnOnce(&mut Url)) -> String {
    let mut url = Url::parse(uri).unwrap();
    change(&mut url);
    url.to_string()
}

#[tokio::test]
async fn an_address_for_probes_that_is_taken_or_none_at_all_is_named_with_the_remedy() {
    let mut env = TestEnv::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    env.set("admin.listen", &address);
    let run = run_command(&["run"], &env.environment(), "").await;
    let told = sentence(&run);
    assert_eq!(run.code, SETTINGS, "{told}");
    for word in [address.as_str(), "admin.listen", "in use", "another worker?"] {
        assert_eq!(told.matches(word).count(), 1, "{word:?} once in: {told}");
    }

    env.set("admin.listen", "9464");
    is_told(&env, SETTINGS, &["\"9464\" is not an address such as \"127.0.0.1:9464\""]).await;
}

#[tokio::test]
async fn a_wrong_setting_is_named_with_what_is_wrong() {
    for (setting, value, words) in [
        ("amqp.prefecth", "5", &["prefecth", "amqp"][..]),
        ("worker.grace", "5s", &["`grace`", "key `worker`"]),
        ("amqp.prefetch", "many", &["amqp.prefetch", "\"many\""]),
        ("amqp.prefetch", "0", &["amqp.prefetch", "it is 0, and must be from 1 to 65535"]),
        ("amqp.topology.prefix", "amq", &["amqp.topology.prefix", "which the broker keeps for itself"]),
        ("amqp.heartbeat", "10", &["amqp.heartbeat", "is not a duration such as"]),
        ("api.response_limit", "much", &["api.response_limit"]),
        ("api.endpoint", "dialogflow.googleapis.com", &["api.endpoint", "https://host:port"]),
        ("events.mode", "xml", &["events.mode", "structured", "binary"]),
        ("api.credentials.kind", "token_file", &["api.credentials.token_file", "must name the file"]),
    ] {
        let mut env = TestEnv::new().await;
        env.set("amqp.uri", &format!("amqp://worker:{PASSWORD}@127.0.0.1/%2f"));
        env.set(setting, value);
        is_told(&env, SETTINGS, words).await;
    }
}

#[tokio::test]
async fn a_uri_that_is_none_or_cannot_be_read_is_told_of_without_being_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("uri");
    let path = file.to_str().unwrap();
    let mut env = TestEnv::new().await;
    env.set("amqp.uri", &format!("worker:{PASSWORD}@127.0.0.1"));
    is_told(&env, SETTINGS, &["amqp.uri", "amqp://user:password@host:5672/%2f"]).await;
    env.set("amqp.uri_file", path);
    is_told(&env, SETTINGS, &["amqp.uri_file", path, "No such file", "make the file readable"]).await;
    std::fs::write(&file, format!("http://worker:{PASSWORD}@127.0.0.1/")).unwrap();
    is_told(&env, SETTINGS, &["amqp.uri", "amqp://user:password@host:5672/%2f"]).await;
}

#[tokio::test]
async fn settings_files_that_are_missing_or_broken_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.toml");
    std::fs::write(&file, "[amqp]\nprefetch = = 5\n").unwrap();
    let broken = run_command(&["run", "--config", file.to_str().unwrap()], &[], "").await;
    assert_eq!(broken.code, SETTINGS);
    assert!(sentence(&broken).contains("broken.toml is no TOML at line 2, column 12 (key `prefetch`)"), "{broken:?}");
    std::fs::write(&file, format!("[amqp]\nuri = \"amqp://ann:{PASSWORD}@127.0.0.1\nprefetch = 5\n")).unwrap();
    for command in ["run", "check"] {
        let quoted = run_command(&[command, "--config", file.to_str().unwrap()], &[], "").await;
        assert_eq!(quoted.code, SETTINGS);
        assert!(sentence(&quoted).contains("broken.toml is no TOML at line 2, column"), "{quoted:?}");
        assert!(!quoted.stderr.contains(PASSWORD) && !quoted.stderr.contains("ann"), "{quoted:?}");
    }
    let missing = run_command(&["check", "--config", "/nowhere/my.toml"], &[], "").await;
    assert_eq!(missing.code, SETTINGS);
    assert!(sentence(&missing).contains("/nowhere/my.toml"), "{missing:?}");
}

#[tokio::test]
async fn a_login_that_is_refused_is_told_of() {
    let mut env = TestEnv::new().await;
    let uri = changed(Broker::shared().uri(), |url| {
        url.set_username("nobody").unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
    });
    env.set("amqp.uri", &uri);
    // Every detail.
    env.set("log.filter", "trace");
    let words = ["refused the login of user \"nobody\"", "check user and password in amqp.uri"];
    let run = run_command(&["run"], &env.environment(), "").await;
    assert_eq!(run.code, BROKER);
    assert!(!run.stderr.contains(PASSWORD), "the password is in the log");
    env.set("log.filter", "info");
    is_told(&env, BROKER, &words).await;
}

#[tokio::test]
async fn a_vhost_that_is_not_there_is_told_of() {
    let mut env = TestEnv::new().await;
    env.set("amqp.uri", &changed(Broker::shared().uri(), |url| url.set_path("/nowhere")));
    is_told(&env, BROKER, &["there is no vhost \"nowhere\"", "`rabbitmqctl add_vhost nowhere`"]).await;
}

#[tokio::test]
async fn a_queue_of_another_kind_is_told_of_with_a_difference_and_the_remedy() {
    let env = TestEnv::new().await;
    let queue = env.queue("requests");
    let channel = env.amqp.channel().await;
    channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();
    // The broker names one difference only.
    let what = format!("queue \"{queue}\" exists with another x-");
    let remedy = format!("`rabbitmqctl delete_queue -p / {queue}`");
    is_told(&env, BROKER, &[&what, ": the settings ask for ", &remedy]).await;
    env.end().await;
}

#[tokio::test]
async fn a_wait_queue_with_another_time_is_told_of_with_both_times_and_the_remedy() {
    let env = TestEnv::new().await;
    let queue = env.queue("wait.1s");
    let text = |text: String| AMQPValue::LongString(text.into());
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", text("quorum".into())),
        ("x-message-ttl", AMQPValue::LongLongInt(5000)),
        ("x-dead-letter-exchange", text(env.queue("followups"))),
        ("x-dead-letter-routing-key", text("followup".into())),
        ("x-dead-letter-strategy", text("at-least-once".into())),
        ("x-overflow", text("reject-publish".into())),
    ] {
        arguments.insert(name.into(), value);
    }
    let channel = env.amqp.channel().await;
    channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    let what = format!("queue \"{queue}\" exists with another x-message-ttl");
    is_told(&env, BROKER, &[&what, "the settings ask for 1000, it has 5000", "empty the queue"]).await;
    env.end().await;
}

#[tokio::test]
async fn a_delivery_limit_that_differs_is_told_of_with_the_setting() {
    let mut env = TestEnv::new().await;
    let mut worker = env.worker().await;
    worker.signal("TERM");
    assert!(worker.wait().await.success());
    env.set("amqp.topology.delivery_limit", "7");
    let words = ["exists with another x-delivery-limit", "ask for 7, it has 5", "set amqp.topology.delivery_limit"];
    is_told(&env, BROKER, &words).await;
    env.end().await;
}

#[tokio::test]
async fn what_is_not_there_and_not_to_be_declared_is_told_of() {
    let mut env = TestEnv::new().await;
    env.set("amqp.topology.declare", "false");
    let exchange = format!("exchange \"{}\" does not exist", env.queue("dead"));
    is_told(&env, BROKER, &[&exchange, "or set amqp.topology.declare = true"]).await;
    assert_eq!(env.amqp.queue_depth(&env.queue("requests")).await, None, "nothing was declared");
}

#[tokio::test]
async fn a_broker_that_cannot_be_reached_is_waited_for_and_the_wait_ends_with_a_signal() {
    let mut env = TestEnv::new().await;
    env.set("amqp.uri", &format!("amqp://worker:{PASSWORD}@127.0.0.1:{}/%2f", free_port()));
    env.set("amqp.reconnect_max", "250ms");
    let mut worker = env.starting_worker();
    let line = worker.line_with("no session with the broker", PATIENCE).await;
    assert!(line.contains("cannot be reached: Connection refused"), "{line}");
    // Some attempts later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    ends_soon(&mut worker).await;
    let lines = worker.lines();
    let errors: Vec<&String> = lines.iter().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "one line, not one for each attempt: {errors:?}");
    assert!(!lines.join("\n").contains(PASSWORD));

    let check = run_command(&["check", "--online"], &env.environment(), "").await;
    assert_eq!(check.code, BROKER);
    assert!(check.stdout.contains("FAIL broker: amqp://worker@127.0.0.1"), "{}", check.stdout);
    assert!(!check.stdout.contains(PASSWORD) && !check.stderr.contains(PASSWORD), "{check:?}");
}

#[tokio::test]
async fn a_broker_that_never_answers_keeps_nobody_from_ending() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut env = TestEnv::new().await;
    env.set("amqp.uri", &format!("amqp://worker:{PASSWORD}@{}/%2f", silent.local_addr().unwrap()));
    let mut worker = env.starting_worker();
    let _connection = silent.accept().await.unwrap();
    ends_soon(&mut worker).await;

    env.set("amqp.connect_timeout", "1s");
    let mut worker = env.starting_worker();
    let line = worker.line_with("no session with the broker", PATIENCE).await;
    assert!(line.contains("did not answer within") && line.contains("while opening the AMQP connection"), "{line}");
    ends_soon(&mut worker).await;
}

async fn ends_soon(worker: &mut crate::support::Process) {
    let asked = Instant::now();
    worker.signal("TERM");
    assert_eq!(worker.wait().await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(2), "it took {:?}", asked.elapsed());
}

#[tokio::test]
async fn a_worker_whose_broker_comes_later_starts_to_work_then() {
    let mut env = TestEnv::new().await;
    let port = free_port();
    let real = Url::parse(Broker::shared().uri()).unwrap();
    let target = format!("{}:{}", real.host_str().unwrap(), real.port().unwrap_or(5672));
    env.set(
        "amqp.uri",
        &changed(real.as_str(), |url| {
            url.set_host(Some("127.0.0.1")).unwrap();
            url.set_port(Some(port)).unwrap();
        }),
    );
    let worker = env.starting_worker();
    worker.line_with("no session with the broker", PATIENCE).await;

    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let forwarding = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut broker = tokio::net::TcpStream::connect(&target).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut broker).await });
        }
    });
    worker.line_with("\"consuming\"", PATIENCE).await;
    env.collect_events().await;
    env.request("cancels-a").await;
    assert_eq!(env.event_for("cancels-a").await.outcome(), "cancelled");
    drop(worker);
    forwarding.abort();
    env.end().await;
}

#[tokio::test]
async fn a_variable_is_a_setting_only_with_two_underscores() {
    assert_eq!(variable("amqp.prefetch"), "CANCEL_WORKER__AMQP__PREFETCH");
    let check = run_command(&["check"], &[("CANCEL_WORKER_SERVICE_HOST", "10.0.0.1")], "").await;
    assert_eq!(check.code, 0, "{check:?}");
    assert!(!check.stdout.contains("WARN"), "{check:?}");

    let mut env = TestEnv::new().await;
    env.set_variable("CANCEL_WORKER_AMQP__URI", &format!("amqp://ann:{PASSWORD}@broker"));
    let check = run_command(&["check"], &env.environment(), "").await;
    let told = "CANCEL_WORKER_AMQP__URI (for CANCEL_WORKER__AMQP__URI?)";
    let warned: Vec<&str> = check.stdout.lines().filter(|line| line.starts_with("WARN ")).collect();
    assert!(check.code == 0 && warned.len() == 1 && warned[0].contains(told), "{check:?}");
    let worker = env.worker().await;
    let lines = worker.lines();
    let warned: Vec<&String> = lines.iter().filter(|line| line.contains("\"WARN\"")).collect();
    assert!(warned.len() == 1 && warned[0].contains(told), "{lines:?}");
    assert!(!format!("{check:?}{lines:?}").contains(PASSWORD), "{lines:?}");
    env.end().await;
}

#[tokio::test]
async fn a_uri_that_could_be_read_in_two_ways_is_refused_by_check_and_run_alike() {
    let mut env = TestEnv::new().await;
    for (uri, words) in [
        (format!("amqp://ann:7#{PASSWORD}@127.0.0.1"), "it has a \"#\" (%23)"),
        (format!("amqp://ann:7/{PASSWORD}@127.0.0.1"), "before an \"@\" (%40)"),
        (format!("amqp://ann:a@{PASSWORD}@127.0.0.1"), "more than one \"@\" (%40)"),
        (format!("amqp://ann:a {PASSWORD}@127.0.0.1"), "a blank is %20"),
    ] {
        env.set("amqp.uri", &uri);
        is_told(&env, SETTINGS, &["amqp.uri", words, "is percent-encoded"]).await;
    }
}

#[tokio::test]
async fn what_run_would_refuse_is_refused_by_check_too() {
    let mut env = TestEnv::new().await;
    env.set("amqp.reconnect_initial", "100us");
    is_told(&env, SETTINGS, &["amqp.reconnect_initial", "it is 100us", "must be at least 1ms"]).await;
}

#[tokio::test]
async fn a_time_that_is_over_is_told_as_it_was_set() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut env = TestEnv::new().await;
    env.set("amqp.uri", &format!("amqp://worker:{PASSWORD}@{}/%2f", silent.local_addr().unwrap()));
    env.set("amqp.connect_timeout", "1s");
    let worker = env.starting_worker();
    let line = worker.line_with("no session with the broker", PATIENCE).await;
    assert!(line.contains("did not answer within 1s while opening the AMQP connection"), "{line}");
}
