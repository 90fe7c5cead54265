//! Every command that an error or README proposes is run: it works, and the error is gone.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use cancel_worker::broker::rabbitmq::Session;
use cancel_worker::broker::{BrokerError, Session as _};
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::time::{Instant, sleep};
use url::Url;

use crate::broker_setup::{Administered, WORKER, amqp, soon};
use crate::rust_source::rust_files;
use crate::support::{Amqp, Broker, Process, worker_command};
use crate::test_env::{PATIENCE, TestEnv, operation, run_command, variable};

/// What the texts of the program propose, and where it is run.
const COMMANDS: [(&str, &str); 19] = [
    ("rabbitmqctl add_vhost {}", "a_vhost_is_added_and_opened_to_the_user"),
    ("rabbitmqctl set_permissions -p {} {} '.*' '.*' '.*'", "a_vhost_is_added_and_opened_to_the_user"),
    ("rabbitmqctl list_queues -p {vhost} name messages", "a_queue_that_differs_is_looked_at_and_deleted"),
    ("rabbitmqctl delete_queue -p {vhost} {name}", "a_queue_that_differs_is_looked_at_and_deleted"),
    (
        "rabbitmqctl enable_feature_flag {name}",
        "doctor::queues_of_one_node_are_grown_onto_another_and_a_flag_that_is_off_is_enabled",
    ),
    ("rabbitmqctl eval {}", "an_exchange_that_differs_is_deleted"),
    ("rabbitmq-diagnostics alarms", "an_alarm_is_looked_at"),
    ("cancel-worker dead list", "the commands in the README files"),
    (
        "rabbitmqctl set_policy -p {vhost_word} --priority {priority} --apply-to queues {own} {pattern} {definition}",
        "doctor::what_a_user_may_not_see_and_what_others_have_set_is_mended_by_the_command_beside_it",
    ),
    (
        "rabbitmqctl clear_operator_policy -p {vhost_word} {}",
        "doctor::what_a_user_may_not_see_and_what_others_have_set_is_mended_by_the_command_beside_it",
    ),
    (
        "rabbitmqctl clear_policy -p {vhost_word} {}",
        "doctor::what_a_user_may_not_see_and_what_others_have_set_is_mended_by_the_command_beside_it",
    ),
    (
        "rabbitmqctl set_user_tags {user} monitoring",
        "doctor::what_a_user_may_not_see_and_what_others_have_set_is_mended_by_the_command_beside_it",
    ),
    (
        "rabbitmqctl set_permissions -p {vhost_word} {user} '^$' '^$' '^$'",
        "doctor::what_a_user_may_not_see_and_what_others_have_set_is_mended_by_the_command_beside_it",
    ),
    (
        "rabbitmqctl list_feature_flags",
        "doctor::what_a_user_may_not_see_and_what_others_have_set_is_mended_by_the_command_beside_it",
    ),
    (
        "rabbitmqctl set_vm_memory_high_watermark 0.6",
        "doctor::alarms_and_events_that_nobody_takes_and_queues_that_the_worker_does_not_declare_are_told_of",
    ),
    (
        "rabbitmqctl set_disk_free_limit 50MB",
        "doctor::alarms_and_events_that_nobody_takes_and_queues_that_the_worker_does_not_declare_are_told_of",
    ),
    (
        "rabbitmq-queues grow {} all --vhost-pattern {} --queue-pattern {}",
        "doctor::queues_of_one_node_are_grown_onto_another_and_a_flag_that_is_off_is_enabled",
    ),
    ("cancel-worker run", "the_commands_of_this_program_do_what_is_said_of_them"),
    ("gcloud auth application-default login", "nowhere: it wants a browser, Google and somebody's account"),
];

/// The lines of the README files that are not this program's, and where they are run.
const OTHER_LINES: [(&str, &str); 22] = [
    ("deploy/demo.sh", "what a visitor runs first"),
    ("cargo build --release", "it builds what cargo test builds, with another profile"),
    ("tests/run.sh", "it runs this test"),
    ("rabbitmqctl list_queues -p / name messages", "a_queue_that_differs_is_looked_at_and_deleted"),
    (
        "rabbitmqctl delete_queue -p / cancel-worker.requests",
        "queues_of_trees_before_the_quarantine_are_drained_and_deleted",
    ),
    (
        "rabbitmqctl delete_queue -p / cancel-worker.followups",
        "queues_of_trees_before_the_quarantine_are_drained_and_deleted",
    ),
    ("promtool check rules deploy/prometheus/rules.yml", "prometheus::the_rules_are_valid_and_fire_where_they_have_to"),
    ("promtool test rules deploy/prometheus/rules_test.yml", "the same"),
    ("tests/run.sh", "it runs this test"),
    ("tests/run.sh --broker 4.0", "it takes another broker"),
    ("cargo test --test integration a_worker_without_a_session", "tests/run.sh runs it"),
    ("deploy/rabbitmq.sh start /tmp/node", "the same"),
    (
        "CANCEL_WORKER_TEST_AMQP=$(cat /tmp/node/uri) CANCEL_WORKER_TEST_NODE=/tmp/node cargo test --test integration poison",
        "tests/run.sh does so",
    ),
    ("deploy/rabbitmq.sh stop /tmp/node", "tests/run.sh does so"),
    ("cargo test --test simulation -- --seeds 10000", "tests/run.sh runs it, with fewer seeds"),
    ("cargo test --test fuzz -- --inputs 100000", "tests/run.sh runs it"),
    ("UPDATE_GOLDEN=1 cargo test --test golden", "it writes files"),
    ("tests/chaos.sh --list", "tests/run.sh runs a short form"),
    ("tests/chaos.sh --only worker-kill", "the same"),
    ("tests/chaos.sh", "the same"),
    ("cargo bench --bench throughput", "tests/run.sh compiles it"),
    ("tests/bench/instructions.sh", "it counts instructions, which takes a quarter of an hour"),
];

/// The README files with commands.
const README_FILES: [&str; 5] = [
    include_str!("../../README.md"),
    include_str!("../../config/README.md"),
    include_str!("../../deploy/README.md"),
    include_str!("../../deploy/prometheus/README.md"),
    include_str!("../../tests/README.md"),
];

/// Names that a shell would take apart, and the vhost in a URI.
const VHOST: &str = "it's $HOME; \"x\"";

/// What a text proposes to type.
fn commands(text: &str) -> Vec<&str> {
    let is_command =
        |quoted: &&str| quoted.contains(' ') && quoted.starts_with(|first: char| first.is_ascii_lowercase());
    text.split('`').skip(1).step_by(2).filter(is_command).collect()
}

async fn refused(uri: &str, prefix: &str) -> BrokerError {
    match soon(Session::open(&amqp(uri, prefix, &[]), WORKER)).await {
        Ok(_) => panic!("the session was opened"),
        Err(error) => error,
    }
}

async fn opens(uri: &str, prefix: &str) {
    soon(Session::open(&amqp(uri, prefix, &[]), WORKER)).await.unwrap().close().await;
}

/// A vhost and a user with an awkward name, and the URI of both.
fn awkward_vhost(unique: &str) -> (String, String) {
    let name = format!("{VHOST}{unique}");
    let mut url = Url::parse(&Administered::uri("u:secret", "v")).unwrap();
    url.set_username(&name).unwrap();
    url.path_segments_mut().unwrap().clear().push(&name);
    Administered::ctl(["add_user", &name, "secret"]);
    (name, url.to_string().replace('\'', "%27"))
}

#[test]
fn every_command_in_a_text_of_the_program_is_run_here() {
    let known: BTreeSet<&str> = COMMANDS.iter().map(|(command, _)| *command).collect();
    let files = rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let code = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.flat_map(commands).map(str::to_owned).collect()
    };
    let found: BTreeSet<String> = files.iter().flat_map(|(_, text)| code(text)).collect();
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(found, known, "on the left what src proposes, on the right what this file runs");
}

#[tokio::test]
async fn a_vhost_is_added_and_opened_to_the_user() {
    let (vhost, uri) = awkward_vhost("1");
    let missing = refused(&uri, "p").await;
    assert!(matches!(&missing, BrokerError::VhostMissing { vhost: named, .. } if *named == vhost), "{missing:?}");
    let text = missing.to_string();
    assert_eq!(commands(&text).len(), 1, "{text}");
    Administered::shell(commands(&text)[0]);

    let forbidden = refused(&uri, "p").await;
    assert!(matches!(forbidden, BrokerError::VhostForbidden { .. }), "{forbidden:?}");
    let text = forbidden.to_string();
    Administered::shell(commands(&text)[0]);
    opens(&uri, "p").await;

    Administered::ctl(["set_permissions", "-p", &vhost, &vhost, "^nothing$", ".*", ".*"]);
    let forbidden = refused(&uri, "q").await;
    assert!(matches!(forbidden, BrokerError::Forbidden { .. }), "{forbidden:?}");
    let text = forbidden.to_string();
    Administered::shell(commands(&text)[0]);
    opens(&uri, "q").await;
}

#[tokio::test]
async fn a_queue_that_differs_is_looked_at_and_deleted() {
    let (vhost, uri) = awkward_vhost("2");
    Administered::ctl(["add_vhost", &vhost]);
    Administered::ctl(["set_permissions", "-p", &vhost, &vhost, ".*", ".*", ".*"]);
    let prefix = VHOST;
    opens(&uri, prefix).await;
    let settings = amqp(&uri, prefix, &[("amqp.topology.delivery_limit", "7")]);
    // Quorum queues: `requests` and `followups`.
    for queue in ["requests", "followups"] {
        let error = match soon(Session::open(&settings, WORKER)).await {
            Ok(_) => panic!("the session was opened"),
            Err(error) => error.to_string(),
        };
        let name = format!("{prefix}.{queue}");
        assert!(error.contains(&format!("queue {name:?} exists with another x-delivery-limit")), "{error}");
        let [look, delete] = commands(&error)[..] else { panic!("two commands in {error}") };
        let listed = Administered::shell(look);
        assert!(listed.contains(&format!("{name}\t0")), "{listed}");
        Administered::shell(delete);
    }
    soon(Session::open(&settings, WORKER)).await.unwrap().close().await;

    // A classic one.
    let plain = Amqp::connect(&uri).await;
    let name = "c.requests";
    plain
        .channel()
        .await
        .queue_declare(name.into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await
        .unwrap();
    let error = refused(&uri, "c").await.to_string();
    for command in commands(&error) {
        Administered::shell(command);
    }
    opens(&uri, "c").await;
}

/// As `deploy/README.md` says under "Upgrading", in a vhost of its own.
#[tokio::test]
async fn queues_of_trees_before_the_quarantine_are_drained_and_deleted() {
    let (vhost, uri) = Administered::vhost();
    let text = |text: &str| AMQPValue::LongString(text.into());
    let plain = Amqp::connect(&uri).await;
    for queue in ["cancel-worker.requests", "cancel-worker.followups"] {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("quorum"));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(20));
        arguments.insert("x-dead-letter-exchange".into(), text("cancel-worker.dead"));
        arguments.insert("x-dead-letter-routing-key".into(), text("dead"));
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        arguments.insert("x-overflow".into(), text("reject-publish"));
        let options = QueueDeclareOptions::durable();
        plain.channel().await.queue_declare(queue.into(), options, arguments).await.unwrap();
    }
    let settings = [("amqp.uri", uri.as_str()), ("admin.listen", ""), ("api.endpoint", "http://127.0.0.1:9")];
    let settings = settings.map(|(setting, value)| (variable(setting), value));
    let environment: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let readme: Vec<&str> = command_lines(include_str!("../../deploy/README.md")).collect();
    for queue in ["cancel-worker.requests", "cancel-worker.followups"] {
        let refused = run_command(&["run"], &environment, "").await;
        assert_eq!(refused.code, 69, "{refused:?}");
        assert!(refused.stderr.contains(&format!("queue {queue:?} exists with another")), "{}", refused.stderr);
        // What README says, the refusal says too.
        let of = |vhost: &str| {
            [
                format!("rabbitmqctl list_queues -p {vhost} name messages"),
                format!("rabbitmqctl delete_queue -p {vhost} {queue}"),
            ]
        };
        assert!(of("/").iter().all(|command| readme.contains(&command.as_str())), "{readme:?}");
        assert_eq!(commands(&refused.stderr), of(&vhost), "{}", refused.stderr);
        let [look, delete] = of(&vhost);
        assert!(Administered::shell(&look).contains(&format!("{queue}\t0")));
        Administered::shell(&delete);
    }
    let mut worker = Process::worker(&["run"], &environment);
    worker.line_with("\"consuming\"", PATIENCE).await;
    worker.signal("TERM");
    assert!(worker.wait().await.success());
}

#[tokio::test]
async fn an_exchange_that_differs_is_deleted() {
    let (vhost, uri) = awkward_vhost("3");
    Administered::ctl(["add_vhost", &vhost]);
    Administered::ctl(["set_permissions", "-p", &vhost, &vhost, ".*", ".*", ".*"]);
    let prefix = format!("ü\\{VHOST}");
    let plain = Amqp::connect(&uri).await;
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let name = format!("{prefix}.events");
    let (name, kind) = (name.as_str().into(), ExchangeKind::Fanout);
    plain.channel().await.exchange_declare(name, kind, options, FieldTable::default()).await.unwrap();
    let error = refused(&uri, &prefix).await.to_string();
    assert!(error.contains("exists with another type"), "{error}");
    assert_eq!(commands(&error).len(), 1, "{error}");
    Administered::shell(commands(&error)[0]);
    opens(&uri, &prefix).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_is_looked_at() {
    let node = tokio::task::block_in_place(Broker::private);
    let mut env = TestEnv::on(&node).await;
    env.set("admin.listen", "127.0.0.1:0");
    let worker = env.worker().await;
    // The broker blocks a connection at its first publish under the alarm: at the event.
    env.request("cancels-4s-a").await;
    tokio::task::block_in_place(|| node.ctl(["set_vm_memory_high_watermark", "0.000001"]));
    let end = Instant::now() + PATIENCE;
    let reason = loop {
        let (_, reasons) = worker.readyz().await;
        if let Some(reason) = reasons.into_iter().find(|reason| reason.contains("alarm")) {
            break reason;
        }
        assert!(Instant::now() < end, "the alarm does not show");
        sleep(Duration::from_millis(200)).await;
    };
    let said = tokio::task::block_in_place(|| node.shell(commands(&reason)[0]));
    assert!(said.to_lowercase().contains("memory"), "{said}");
    tokio::task::block_in_place(|| node.ctl(["set_vm_memory_high_watermark", "0.6"]));
}

#[tokio::test]
async fn the_commands_of_this_program_do_what_is_said_of_them() {
    let check = run_command(&["check"], &[], "").await;
    assert!(check.stdout.contains("amqp.prefetch = 256"), "{}", check.stdout);

    let mut env = TestEnv::new().await;
    let before = run_command(&["check", "--online"], &env.environment(), "").await;
    let line = before.stdout.lines().find(|line| line.contains("is not there yet")).unwrap();
    assert_eq!(commands(line), ["cancel-worker run"]);
    let worker = env.worker().await;
    let after = run_command(&["check", "--online"], &env.environment(), "").await;
    assert!(!after.stdout.contains("is not there yet"), "{}", after.stdout);
    drop(worker);
    env.end().await;
}

/// The lines of the blocks of commands.
fn command_lines(readme: &str) -> impl Iterator<Item = &str> {
    readme.split("```sh\n").skip(1).flat_map(|rest| rest.split("\n```").next().unwrap().lines())
}

/// As they stand there, but for the places of files, broker and API.
#[tokio::test]
async fn the_commands_in_the_readme_files_work_as_they_stand_there() {
    let mut env = TestEnv::new().await;
    let worker = env.worker().await;
    let folder = tempfile::tempdir().unwrap();
    let (url, prefix) = (env.api.url(), &env.prefix);
    let uri = Broker::shared().uri();
    let toml = format!(
        "[amqp]\nuri = \"{uri}\"\n[amqp.topology]\nprefix = \"{prefix}\"\n[api]\nendpoint = \"{url}\"\n[admin]\nlisten = \"\"\n"
    );
    std::fs::write(folder.path().join("my.toml"), toml).unwrap();
    std::fs::write(folder.path().join("names.txt"), format!("{}\n", operation("cancels-r"))).unwrap();
    let mut others = Vec::new();
    for line in README_FILES.into_iter().flat_map(command_lines) {
        let line = line.split("  #").next().unwrap().trim();
        let own = ["cancel-worker ", "target/release/cancel-worker "];
        let Some(arguments) = own.iter().find_map(|program| line.strip_prefix(program)) else {
            others.push(line);
            continue;
        };
        let arguments = shlex::split(&arguments.replace("http://127.0.0.1:8086", url)).unwrap();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = worker_command(&arguments, &env.environment());
        command.current_dir(folder.path()).kill_on_drop(true);
        if arguments[0] == "run" {
            // Until a signal.
            let mut running = Process::spawn(command);
            running.line_with("\"consuming\"", PATIENCE).await;
            running.signal("TERM");
            assert!(running.wait().await.success(), "{line}");
            continue;
        }
        let ended = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        assert!(ended.status.success(), "{line}: {ended:?}");
    }
    assert_eq!(others, OTHER_LINES.map(|(line, _)| line));
    drop(worker);
    env.end().await;
}
