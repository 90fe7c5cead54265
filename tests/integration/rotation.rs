//! A password of the broker that is replaced while workers run: nothing is lost, and nobody restarts anything.

use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout};

use crate::event::Event;
use crate::support::{Broker, Process};
use crate::test_env::{PATIENCE, TestEnv, properties, request, run_command};

/// From the moment that broker and file agree to the next session.
const BACK: Duration = Duration::from_secs(if cfg!(debug_assertions) { 15 } else { 5 });

/// A worker that logs in as a user of its own, whose URI is in a file.
struct Login {
    broker: Broker,
    env: TestEnv,
    _folder: TempDir,
    file: PathBuf,
}

impl Login {
    async fn new(password: &str) -> Self {
        let broker = block_in_place(Broker::private);
        broker.ctl(["add_user", "worker", password]);
        broker.ctl(["set_permissions", "-p", "/", "worker", ".*", ".*", ".*"]);
        let mut env = TestEnv::on(&broker).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("uri");
        env.set("amqp.uri_file", file.to_str().unwrap());
        env.set("admin.listen", "127.0.0.1:0");
        let login = Self { broker, env, _folder: folder, file };
        login.write(password);
        login
    }

    fn write(&self, password: &str) {
        let node = self.broker.uri().rsplit_once('@').unwrap().1;
        // As secrets are replaced: another file takes the name.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("amqp://worker:{password}@{node}\n")).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
    }

    fn change_at_broker(&self, password: &str) {
        block_in_place(|| self.broker.ctl(["change_password", "worker", password]));
    }

    /// Not by `close_all_user_connections`, which gives up where one of them has ended by itself in between.
    fn close_connections(&self) {
        let each = "[case catch rabbit_networking:connection_info(C, [user]) of
            [{user, <<\"worker\">>}] -> catch rabbit_networking:close_connection(C, \"rotated\");
            _ -> of_another end || C <- rabbit_networking:connections()].";
        block_in_place(|| self.broker.ctl(["eval", each]));
    }
}

fn count(worker: &Process, text: &str) -> usize {
    worker.lines().iter().filter(|line| line.contains(text)).count()
}

/// Waits until so many lines have this text, and says for how long.
async fn lines_become(worker: &Process, text: &str, expected: usize, limit: Duration) -> Duration {
    let began = Instant::now();
    while count(worker, text) < expected {
        assert!(began.elapsed() < limit, "{expected} lines with {text:?} in:\n{}", worker.lines().join("\n"));
        sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_rotated_under_load_without_a_loss_or_a_restart() {
    const PASSWORDS: [&str; 3] = ["0ne-pAssw0rd", "tw0-pAssw0rds", "thr33-pAssw0rds"];
    let mut login = Login::new(PASSWORDS[0]).await;
    let mut worker = login.env.worker().await;
    let ids: Vec<String> = (0..3000).map(|n| format!("cancels-50ms-{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();

    let rotating = async {
        // Broker first: refused until the file has it.
        login.change_at_broker(PASSWORDS[1]);
        login.close_connections();
        lines_become(&worker, "refused the login of user", 1, PATIENCE).await;
        let (status, reasons) = worker.readyz().await;
        assert_eq!(status, 503, "{reasons:?}");
        assert!(reasons.iter().all(|reason| PASSWORDS.iter().all(|password| !reason.contains(password))));
        login.write(PASSWORDS[1]);
        let broker_first = lines_become(&worker, "\"consuming\"", 2, BACK).await;

        // File first: nothing happens, then refused until the broker has it.
        login.write(PASSWORDS[2]);
        login.close_connections();
        lines_become(&worker, "refused the login of user", 2, PATIENCE).await;
        login.change_at_broker(PASSWORDS[2]);
        let file_first = lines_become(&worker, "\"consuming\"", 3, BACK).await;

        // Both, before anybody notices.
        login.write(PASSWORDS[0]);
        login.change_at_broker(PASSWORDS[0]);
        login.close_connections();
        lines_become(&worker, "\"consuming\"", 4, BACK).await;
        println!("back after {broker_first:?} (broker first) and {file_first:?} (file first)");
    };
    let flooding = async {
        let mut confirmed = Vec::new();
        // So that requests come before, while and after passwords change.
        for some in ids.chunks(100) {
            confirmed.extend(login.env.flood(some, 100).await);
            sleep(Duration::from_millis(250)).await;
        }
        confirmed
    };
    let (confirmed, ()) = tokio::join!(flooding, rotating);

    assert_eq!(confirmed.len(), ids.len());
    let answers = login.env.answers(confirmed.len()).await;
    assert_eq!(answers.len(), confirmed.len(), "events");
    assert!(answers.iter().all(|(_, outcome)| outcome == "cancelled"));
    worker.signal("TERM");
    assert_eq!(worker.wait().await.code(), Some(0));
    for password in PASSWORDS {
        assert_eq!(count(&worker, password), 0, "a password is in the log");
    }
    assert_eq!(count(&worker, "has changed, and is used"), 3, "each time once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_away_or_broken_for_a_while_is_told_of_once_and_what_it_held_is_used() {
    let mut login = Login::new("0ne-pAssw0rd").await;
    let mut worker = login.env.worker().await;
    std::fs::remove_file(&login.file).unwrap();
    for sessions in [2, 3] {
        login.close_connections();
        lines_become(&worker, "\"consuming\"", sessions, PATIENCE).await;
    }
    assert_eq!(count(&worker, "cannot be used: what it held before stays in use"), 1);
    assert!(count(&worker, "No such file") == 1 && count(&worker, "\"WARN\"") >= 1);
    std::fs::write(&login.file, "amqp://worker:7#0ne-pAssw0rd@127.0.0.1").unwrap();
    login.close_connections();
    lines_become(&worker, "\"consuming\"", 4, PATIENCE).await;
    assert_eq!(count(&worker, "cannot be used: what it held before stays in use"), 2, "another problem");

    login.write("0ne-pAssw0rd");
    login.close_connections();
    lines_become(&worker, "\"consuming\"", 5, PATIENCE).await;
    assert_eq!(count(&worker, "can be used again"), 1);
    login.env.request("cancels-a").await;
    assert_eq!(login.env.event_for("cancels-a").await.outcome(), "cancelled");
    worker.signal("TERM");
    assert_eq!(worker.wait().await.code(), Some(0));
    assert_eq!(count(&worker, "0ne-pAssw0rd"), 0);

    // At the start there is nothing to go on with.
    std::fs::remove_file(&login.file).unwrap();
    let ended = run_command(&["run"], &login.env.environment(), "").await;
    assert_eq!(ended.code, 78, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_is_sent_with_the_new_password_while_the_session_lives_on_with_the_old_one() {
    let mut login = Login::new("0ne-pAssw0rd").await;
    let worker = login.env.worker().await;
    login.change_at_broker("tw0-pAssw0rds");
    login.write("tw0-pAssw0rds");
    let channel = login.env.amqp.channel().await;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let direct = "amq.rabbitmq.reply-to";
    let mut replies = channel.basic_consume(direct.into(), "".into(), options, FieldTable::default()).await.unwrap();
    let body = request("cancels-a", json!({})).to_string();
    let (exchange, options) = (login.env.queue("requests").into(), BasicPublishOptions::default());
    let properties = properties().with_reply_to(direct.into());
    let sent = channel.basic_publish(exchange, "cancel".into(), options, body.as_bytes(), properties).await;
    sent.unwrap().await.unwrap();
    let reply = timeout(PATIENCE, replies.next()).await.expect("no reply").unwrap().unwrap();
    assert_eq!(Event::read(&reply).outcome(), "cancelled");
    assert_eq!(count(&worker, "\"consuming\""), 1, "the session has lived on");
}
