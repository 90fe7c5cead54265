//! `cancel-worker dead`: whoever is on call lists, replays, answers, drops and moves dead letters, and nothing is lost.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::poison::take_raw;
use crate::support::{Broker, Process, persistent, worker_command};
use crate::test_env::{Ended, PATIENCE, TestEnv, operation, properties, request, run_command};
use crate::wire::{Raw, Wire, property, short};

/// Runs `cancel-worker dead` with these arguments.
async fn dead(env: &TestEnv, arguments: &str) -> Ended {
    let arguments: Vec<&str> = ["dead"].into_iter().chain(arguments.split(' ')).collect();
    run_command(&arguments, &env.environment(), "").await
}

/// The same, where it has to succeed: its lines of JSON.
async fn dead_json(env: &TestEnv, arguments: &str) -> Vec<Value> {
    let ended = dead(env, arguments).await;
    assert_eq!(ended.code, 0, "{arguments}: {ended:?}");
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The identities of what `dead list` shows, in their order.
async fn listed(env: &TestEnv, filter: &str) -> Vec<String> {
    let lines = dead_json(env, format!("list --limit 1000 {filter}").trim()).await;
    lines.iter().map(|line| line["identity"].as_str().unwrap().to_owned()).collect()
}

/// Declares the queues, and no worker runs.
async fn declared() -> TestEnv {
    let mut env = TestEnv::new().await;
    let mut worker = env.worker().await;
    worker.signal("TERM");
    worker.wait().await;
    env
}

/// A letter as a worker leaves it.
fn letter(headers: &[(&str, &str)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    properties().with_headers(table)
}

fn failed(reason: &str) -> BasicProperties {
    let detail = format!("{reason}: as the API says");
    letter(&[
        ("cancel-worker-reason", "failed"),
        ("cancel-worker-detail", &detail),
        ("cancel-worker-time", "2026-01-31T12:00:05.250Z"),
        ("cancel-worker-worker", "worker-1"),
        ("cancel-worker-replay", "0"),
    ])
}

/// Puts a letter into the dead queue.
async fn bury(env: &TestEnv, id: &str, properties: BasicProperties) {
    env.amqp.publish("", &env.queue("dead"), request(id, json!({})).to_string().as_bytes(), properties).await;
}

#[tokio::test]
async fn what_failed_is_listed_summed_up_explained_and_replayed_to_a_new_answer() {
    let mut env = TestEnv::new().await;
    let worker = env.worker().await;
    env.request("denied-a").await;
    env.request_with("cancels-5s-b", json!({ "deadline": "2026-01-31T12:00:00Z" })).await;
    env.publish(b"{}", properties().with_message_id("nameless".into())).await;
    env.depth_becomes("dead", 3).await;
    assert_eq!(env.event_for("cancels-5s-b").await.verdict(), "failed: deadline_exceeded");

    let letters = dead_json(&env, "list").await;
    let told = |letter: &Value| {
        let text = |part: &str| letter[part].as_str().unwrap_or("-").to_owned();
        (text("identity"), text("reason"), text("failed_reason"))
    };
    let told: BTreeSet<_> = letters.iter().map(told).collect();
    let expected = [
        ("denied-a", "failed", "permission_denied"),
        ("cancels-5s-b", "failed", "deadline_exceeded"),
        ("nameless", "unusable_request", "-"),
    ];
    assert_eq!(told, expected.map(|(id, reason, failed)| (id.into(), reason.into(), failed.into())).into());

    let summary = dead_json(&env, "summary --explain").await.remove(0);
    let commands: BTreeSet<&str> =
        summary["groups"].as_array().unwrap().iter().map(|group| group["command"].as_str().unwrap()).collect();
    assert!(
        commands.contains("cancel-worker dead replay --reason failed --failed-reason permission_denied"),
        "{summary}"
    );
    // The second's cancel was accepted and has taken its time since; of the first the API knows that it runs.
    assert_eq!(
        summary["explained"]["running"].as_u64().unwrap() + summary["explained"]["cancelled"].as_u64().unwrap(),
        2
    );

    let id = letters.iter().find(|letter| letter["identity"] == "denied-a").unwrap()["id"].as_str().unwrap();
    let shown = dead(&env, &format!("show {}", &id[..8])).await;
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!((&shown["name"], &shown["identity"]), (&json!(operation("denied-a")), &json!("denied-a")));
    assert_eq!(dead(&env, &format!("show {id} --body")).await.stdout, request("denied-a", json!({})).to_string());

    // What cannot be used is not sent again unless it is asked for by its reason.
    let replayed = dead(&env, "replay --older-than 0s").await;
    assert_eq!(replayed.code, 3, "{replayed:?}");
    let tally: Value = serde_json::from_str(&replayed.stdout).unwrap();
    assert_eq!((&tally["done"], &tally["rewritten"]), (&json!(2), &json!(1)), "{tally}");
    // The operation is cancelled by now, and its request has another deadline: it is the true answer, under another key.
    let events = env.events(5, PATIENCE).await;
    let of_b: Vec<_> = events.iter().filter(|event| event.data()["request_id"] == "cancels-5s-b").collect();
    let told: Vec<_> = of_b.iter().map(|event| (event.verdict(), event.data()["replay"].clone())).collect();
    assert_eq!(told, [("failed: deadline_exceeded".to_owned(), json!(0)), ("cancelled".to_owned(), json!(1))]);
    assert_ne!(of_b[0].request_key(), of_b[1].request_key());
    // The first failed again, and lies behind.
    env.depth_becomes("dead", 2).await;
    let again = dead_json(&env, "list --request-id denied-a").await;
    assert_eq!(again[0]["replay"], 1, "{again:?}");
    drop(worker);
    env.end().await;
}

#[tokio::test]
async fn filters_choose_and_a_dry_run_and_a_limit_change_no_more_than_they_say() {
    let env = declared().await;
    bury(&env, "a-1", failed("not_found")).await;
    bury(&env, "a-2", failed("unavailable")).await;
    bury(&env, "b-1", failed("not_found")).await;
    bury(&env, "c-1", letter(&[("cancel-worker-reason", "gave_up"), ("cancel-worker-worker", "worker-2")])).await;
    for (filter, ids) in [
        ("", "a-1 a-2 b-1 c-1"),
        ("--reason failed", "a-1 a-2 b-1"),
        ("--reason gave_up --reason failed", "a-1 a-2 b-1 c-1"),
        ("--failed-reason not_found", "a-1 b-1"),
        ("--name projects/*/operations/a-*", "a-1 a-2"),
        ("--request-id b-1", "b-1"),
        ("--worker worker-2", "c-1"),
        ("--older-than 1h", "a-1 a-2 b-1"),
        ("--newer-than 1h", ""),
        ("--failed-reason not_found --name *a-*", "a-1"),
    ] {
        assert_eq!(listed(&env, filter).await.join(" "), ids, "{filter}");
    }

    let dry = dead_json(&env, "drop --failed-reason not_found --dry-run").await;
    assert_eq!(dry.last().unwrap()["done"], 2);
    let refused = dead(&env, "drop --failed-reason not_found").await;
    assert!(refused.code == 1 && refused.stderr.contains("give --yes"), "{refused:?}");
    assert_eq!(listed(&env, "").await.len(), 4);
    dead_json(&env, "drop --failed-reason not_found --limit 1 --yes").await;
    assert_eq!(listed(&env, "").await.join(" "), "a-2 b-1 c-1");
    dead_json(&env, "drop --yes").await;
    let empty = dead(&env, "list").await;
    assert!(empty.stderr.contains("is empty"), "{empty:?}");
    env.end().await;
}

/// How many letters there are, and how many of them are chosen.
const LETTERS: usize = 500;
const CHOSEN: usize = 50;

/// Waits until the broker has found out that whoever held letters is gone, and has put them back.
async fn all_back(env: &TestEnv, least: u32) {
    let (mut before, end) = (0, Instant::now() + PATIENCE);
    loop {
        sleep(Duration::from_millis(150)).await;
        let depth = env.depth("dead").await;
        if depth >= least && depth == before {
            return;
        }
        assert!(Instant::now() < end, "{depth} letters are back");
        before = depth;
    }
}

#[tokio::test]
async fn a_replay_that_is_killed_at_any_moment_loses_nothing_and_leaves_the_rest_in_its_order() {
    let env = declared().await;
    let id = |number: usize| {
        if number % (LETTERS / CHOSEN) == 3 { format!("chosen-{number}") } else { format!("rest-{number}") }
    };
    let ids: Vec<String> = (0..LETTERS).map(id).collect();
    for id in &ids {
        bury(&env, id, failed("unavailable")).await;
    }
    let (chosen, rest): (Vec<String>, Vec<String>) = ids.into_iter().partition(|id| id.starts_with("chosen"));
    let mut kills = 0;
    for _ in 0..20 {
        let arguments = ["dead", "replay", "--name", "*/chosen-*", "--rate", "20/s"];
        let mut replay = Process::worker(&arguments, &env.environment());
        sleep(Duration::from_millis(fastrand::u64(30..350))).await;
        replay.kill9().await;
        kills += usize::from(!replay.wait().await.success());
        all_back(&env, u32::try_from(LETTERS - CHOSEN).unwrap()).await;
        // A look in between: what was given back stands behind what was given back before.
        let left = listed(&env, "").await;
        let left: Vec<&String> = left.iter().filter(|id| id.starts_with("rest")).collect();
        assert!(left.iter().copied().eq(&rest), "in their order, each once: {left:?}");
    }
    assert!(kills >= 10, "{kills} replays were killed");
    dead_json(&env, "replay --name */chosen-*").await;

    assert_eq!(listed(&env, "").await, rest, "in their order, each once");
    let sent = take_raw(&env, "requests").await;
    let mut bodies: Vec<String> = sent.iter().map(|sent| String::from_utf8(sent.body.clone()).unwrap()).collect();
    println!("{kills} replays were killed; {} requests for {CHOSEN} letters", bodies.len());
    bodies.sort();
    bodies.dedup();
    let mut expected: Vec<String> = chosen.iter().map(|id| request(id, json!({})).to_string()).collect();
    expected.sort();
    assert_eq!(bodies, expected, "each is there, as it was");
    env.end().await;
}

#[tokio::test]
async fn what_the_broker_gave_up_is_answered_by_hand_once() {
    let mut env = declared().await;
    // The quarantine's own way out: what it loses too often.
    let route = env.queue("quarantine");
    let mut table = FieldTable::default();
    let mut death = FieldTable::default();
    death.insert("reason".into(), AMQPValue::LongString("delivery_limit".into()));
    death.insert("queue".into(), AMQPValue::LongString(route.as_str().into()));
    death.insert("time".into(), AMQPValue::Timestamp(1_769_860_800));
    table.insert("x-death".into(), AMQPValue::FieldArray(vec![AMQPValue::FieldTable(death)].into()));
    bury(&env, "lost", properties().with_headers(table.clone())).await;
    env.amqp.publish("", &env.queue("dead"), b"nobody's", properties().with_headers(table)).await;
    bury(&env, "answered", failed("not_found")).await;

    let summary = dead_json(&env, "summary").await.remove(0);
    let of_broker = &summary["groups"][0];
    assert_eq!((&of_broker["reason"], &of_broker["letters"]), (&json!("delivery_limit"), &json!(2)), "{summary}");
    assert_eq!(of_broker["command"], "cancel-worker dead answer --reason delivery_limit");

    env.collect_events().await;
    let answered = dead(&env, "answer").await;
    assert_eq!(answered.code, 3, "{answered:?}");
    let event = env.event_for("lost").await;
    assert_eq!(event.verdict(), "failed: gave_up");
    assert_eq!(event.data()["attempts"], Value::Null, "nobody knows");
    let tally: Value = serde_json::from_str(&answered.stdout).unwrap();
    assert_eq!(tally["skipped"], json!({ "a worker has answered them": 1, "nothing tells whom to answer": 1 }));
    // The letter stays, and says that it was answered: the second time there is nothing to do.
    let again: Value = serde_json::from_str(&dead(&env, "answer").await.stdout).unwrap();
    assert_eq!((&again["done"], &again["letters"]), (&json!(0), &json!(3)), "{again}");
    let letters = dead_json(&env, "list --request-id lost").await;
    assert_eq!((&letters[0]["reason"], &letters[0]["answered"]), (&json!("gave_up"), &json!(true)));
    env.end().await;
}

/// As a requests queue of the user's own does it, which dead-letters to ours.
#[tokio::test]
async fn what_a_queue_of_the_users_own_has_dropped_is_answered_and_can_be_replayed() {
    let mut env = declared().await;
    let queue = format!("{}-own", env.prefix);
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(1));
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(env.queue("dead").into()));
    arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString("dead".into()));
    let options = lapin::options::QueueDeclareOptions::durable();
    env.amqp.channel().await.queue_declare(queue.as_str().into(), options, arguments).await.unwrap();
    env.amqp.publish("", &queue, request("cancels-a", json!({})).to_string().as_bytes(), properties()).await;
    env.depth_becomes("dead", 1).await;
    let letter = dead_json(&env, "list").await.remove(0);
    assert_eq!((&letter["reason"], &letter["answered"]), (&json!("expired"), &json!(false)), "{letter}");
    assert!(letter["time"].is_string(), "{letter}");

    env.collect_events().await;
    dead_json(&env, "answer").await;
    assert_eq!(env.event_for("cancels-a").await.verdict(), "failed: gave_up");
    dead_json(&env, "replay --reason gave_up").await;
    let worker = env.worker().await;
    let events = env.events(2, PATIENCE).await;
    let told: Vec<_> = events.iter().map(|event| (event.verdict(), event.data()["replay"].clone())).collect();
    assert_eq!(told, [("failed: gave_up".to_owned(), json!(0)), ("cancelled".to_owned(), json!(1))]);
    drop(worker);
    env.end().await;
}

#[tokio::test]
async fn letters_are_copied_to_a_file_and_come_back_as_they_were() {
    let env = declared().await;
    let mut odd = FieldTable::default();
    odd.insert("n".into(), AMQPValue::LongInt(-7));
    odd.insert("bytes".into(), AMQPValue::LongString(vec![0xff, 0xfe].into()));
    odd.insert("list".into(), AMQPValue::FieldArray(vec![AMQPValue::Boolean(true), AMQPValue::Void].into()));
    let odd = persistent().with_headers(odd).with_correlation_id("c".into()).with_priority(3);
    env.amqp.publish("", &env.queue("dead"), b"\xff not text", odd).await;
    bury(&env, "a", failed("not_found")).await;
    let before = take_copy(&env).await;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letters.jsonl");
    let file = file.to_str().unwrap();
    dead_json(&env, &format!("export {file}")).await;
    let twice = dead(&env, &format!("export {file}")).await;
    assert!(twice.code == 1 && twice.stderr.contains("failed to create"), "{twice:?}");
    dead_json(&env, "drop --yes").await;
    dead_json(&env, &format!("import {file}")).await;
    assert_eq!(take_copy(&env).await, before);

    std::fs::write(file, "{\"body\":\"!\"}\n").unwrap();
    let broken = dead(&env, &format!("import {file}")).await;
    assert!(broken.code == 1 && broken.stderr.contains("line 1"), "{broken:?}");
    assert_eq!(env.depth("dead").await, 2);
    env.end().await;
}

/// The letters, which stay: bodies, and properties without what the queue counts.
async fn take_copy(env: &TestEnv) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.jsonl");
    dead_json(env, &format!("export {}", file.to_str().unwrap())).await;
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let without_count = |mut line: Value| {
        if let Some(headers) = line["properties"]["headers"].as_object_mut() {
            headers.remove("x-delivery-count");
        }
        json!({ "body": line["body"], "properties": line["properties"] })
    };
    lines.map(without_count).collect()
}

#[tokio::test]
async fn two_commands_do_not_work_on_one_queue_and_one_that_is_broken_off_leaves_nothing_half_done() {
    let env = declared().await;
    for number in 0..20 {
        bury(&env, &format!("id-{number}"), failed("unavailable")).await;
    }
    let mut slow = Process::worker(&["dead", "replay", "--rate", "2/s"], &env.environment());
    env.depth_becomes("requests", 2).await;
    let refused = dead(&env, "list").await;
    assert!(refused.code == 69 && refused.stderr.contains("another cancel-worker dead command"), "{refused:?}");
    slow.signal("INT");
    assert_eq!(slow.wait().await.code(), Some(130));
    let tally: Value = serde_json::from_str(slow.lines().iter().find(|line| line.starts_with('{')).unwrap()).unwrap();
    let done = u32::try_from(tally["done"].as_u64().unwrap()).unwrap();
    assert_eq!((env.depth("requests").await, env.depth("dead").await), (done, 20 - done), "{tally}");

    let channel = env.amqp.channel().await;
    let (queue, tag) = (env.queue("dead"), "somebody");
    let _consumer = channel
        .basic_consume(
            queue.as_str().into(),
            tag.into(),
            lapin::options::BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let refused = dead(&env, "list").await;
    assert!(refused.code == 69 && refused.stderr.contains("1 consumers take its messages"), "{refused:?}");
    env.end().await;
}

/// On a terminal of its own, which `script` gives it. Nothing is held while the question waits.
#[tokio::test]
async fn on_a_terminal_what_changes_letters_asks_first() {
    let env = declared().await;
    for number in 0..3 {
        bury(&env, &format!("id-{number}"), failed("unavailable")).await;
    }
    let asked = async |answer: &str| {
        let command = worker_command(&["dead", "drop"], &env.environment());
        let program = command.as_std().get_program().to_str().unwrap().to_owned();
        let mut terminal = Command::new("script");
        terminal.args(["-qefc", &format!("{program} dead drop"), "/dev/null"]).envs(env.environment());
        terminal.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut terminal = terminal.spawn().expect("script, of Debian's package bsdutils");
        let (mut stdin, mut stdout) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
        let mut shown = Vec::new();
        while !String::from_utf8_lossy(&shown).contains("drop 3 of 3 letters? [y/N]") {
            assert!(stdout.read_buf(&mut shown).await.unwrap() > 0, "{}", String::from_utf8_lossy(&shown));
        }
        assert_eq!(env.depth("dead").await, 3, "nothing is held while the question waits");
        stdin.write_all(answer.as_bytes()).await.unwrap();
        // Until the terminal is closed.
        while stdout.read_buf(&mut shown).await.is_ok_and(|read| read > 0) {}
        terminal.wait().await.unwrap().code()
    };
    assert_eq!(asked("n\n").await, Some(130));
    assert_eq!(env.depth("dead").await, 3);
    assert_eq!(asked("y\n").await, Some(0));
    assert_eq!(env.depth("dead").await, 0);
    env.end().await;
}

#[tokio::test]
async fn a_letter_that_the_client_cannot_parse_is_named_by_its_place() {
    let env = declared().await;
    bury(&env, "before", failed("not_found")).await;
    let queue = env.queue("dead");
    let poison = Raw::new(&[(property::MESSAGE_ID, short(b"\xff\xfe"))], "poison");
    tokio::task::spawn_blocking(move || Wire::open().publish(b"", queue.as_bytes(), &poison)).await.unwrap().unwrap();
    bury(&env, "after", failed("not_found")).await;
    let stuck = dead(&env, "list").await;
    assert!(stuck.code == 69 && stuck.stderr.contains("letter 2 of"), "{stuck:?}");
    assert!(stuck.stderr.contains("Get messages"), "{stuck:?}");
    assert_eq!(env.depth("dead").await, 3, "all are back");
    env.end().await;
}

#[tokio::test]
async fn a_queue_of_the_users_own_is_not_looked_at_until_its_broker_drops_letters() {
    let mut env = TestEnv::new().await;
    let queue = format!("{}-own-dead", env.prefix);
    env.amqp.declare_limited_queue(&queue, 20).await;
    env.set("amqp.topology.external.dead_queue", &queue);
    let mut worker = env.worker().await;
    worker.signal("TERM");
    worker.wait().await;
    env.amqp.publish("", &queue, b"{}", failed("not_found")).await;
    let mut refusals = 0;
    for _ in 0..30 {
        let ended = dead(&env, "list").await;
        match ended.code {
            0 => assert_eq!(refusals, 0),
            1 => {
                assert!(ended.stderr.contains("delivery limit"), "{ended:?}");
                refusals += 1;
            }
            _ => panic!("{ended:?}"),
        }
        if refusals == 3 {
            break;
        }
    }
    assert_eq!(refusals, 3);
    assert_eq!(env.amqp.queue_depth(&queue).await, Some(1), "it was not dropped");
    env.end().await;
}

/// A passive look at such a queue says that it is empty.
#[tokio::test]
async fn a_queue_without_a_leader_is_not_called_empty() {
    let first = Broker::private();
    let mut second = first.join();
    let mut env = TestEnv::on(&first).await;
    env.set("amqp.connect_timeout", "3s");
    let mut worker = env.worker().await;
    worker.signal("TERM");
    worker.wait().await;
    bury(&env, "a", failed("not_found")).await;
    second.kill9();
    sleep(Duration::from_secs(1)).await;
    let ended = dead(&env, "list").await;
    assert_eq!(ended.code, 69, "{ended:?}");
    assert!(ended.stderr.contains("no leader") && ended.stderr.contains("does not mean that it is empty"), "{ended:?}");
}

#[tokio::test]
async fn many_letters_take_little_memory() {
    let count = if std::env::var_os("CANCEL_WORKER_TEST_LONG").is_some() { 100_000 } else { 10_000 };
    let env = declared().await;
    let channel = env.amqp.channel().await;
    let queue = env.queue("dead");
    for number in 0..count {
        let body = request(&format!("id-{number}"), json!({})).to_string();
        let options = lapin::options::BasicPublishOptions::default();
        drop(
            channel
                .basic_publish("".into(), queue.as_str().into(), options, body.as_bytes(), failed("not_found"))
                .await,
        );
    }
    env.depth_becomes("dead", count).await;
    let mut command = Process::worker(&["dead", "replay", "--name", "*id-*7"], &env.environment());
    let mut peak = 0;
    while let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", command.id())) {
        let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) else { break };
        peak = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    assert!(command.wait().await.success(), "{:?}", command.lines());
    println!("{count} letters: {} MiB at most", peak / 1024);
    assert!(peak < 60 * 1024, "{peak} KiB for {count} letters");
    assert_eq!((env.depth("dead").await, env.depth("requests").await), (count * 9 / 10, count / 10));
    env.end().await;
}
