//! `cancel-worker status` and `probe`: what is where, and whether the worker on this machine does its work.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::{Broker, Process, free_port, variable};
use crate::test_env::{Ended, PATIENCE, TestEnv, run_command};

async fn probe(kind: &str, address: &str) -> Ended {
    run_command(&["probe", kind, "--address", address], &[], "").await
}

#[tokio::test]
async fn a_worker_is_probed_through_its_whole_life() {
    let mut env = TestEnv::new().await;
    env.set("admin.listen", "127.0.0.1:0");
    let mut worker = env.worker().await;
    let address = worker.admin_address().await;
    for kind in ["live", "ready"] {
        let ended = probe(kind, &address).await;
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (0, "", ""));
    }
    worker.kill9().await;
    let gone = probe("live", &address).await;
    assert!(gone.code == 1 && gone.stderr.contains("is it running"), "{gone:?}");

    // Without a broker it lives, and is not ready.
    let nowhere = format!("amqp://guest:guest@127.0.0.1:{}/%2f", free_port());
    let worker = Process::worker(
        &["run"],
        &[(&variable("amqp.uri"), nowhere.as_str()), (&variable("admin.listen"), "127.0.0.1:0")],
    );
    let address = worker.admin_address().await;
    assert_eq!(probe("live", &address).await.code, 0);
    let ended = probe("ready", &address).await;
    assert!(ended.code == 1 && ended.stdout.contains("there is no session with the broker"), "{ended:?}");

    // By the settings, as in a container.
    let on_all = address.replace("127.0.0.1", "0.0.0.0");
    let ended = run_command(&["probe", "live"], &[(&variable("admin.listen"), &on_all)], "").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let ended = run_command(&["probe", "live"], &[(&variable("admin.listen"), "")], "").await;
    assert!(ended.code == 78 && ended.stderr.contains("give --address"), "{ended:?}");
}

#[tokio::test]
async fn what_listens_elsewhere_is_no_worker() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let began = Instant::now();
    let ended = probe("live", &silent.local_addr().unwrap().to_string()).await;
    assert!(ended.code == 1 && ended.stderr.contains("did not answer within 3s"), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

async fn status(env: &TestEnv) -> (i32, Value) {
    let ended = run_command(&["status", "--json"], &env.environment(), "").await;
    (ended.code, serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}")))
}

#[tokio::test]
async fn status_tells_what_each_queue_holds_and_what_is_wrong_and_costs_no_delivery() {
    let mut env = TestEnv::new().await;
    env.set("admin.listen", "");
    let (code, nothing) = status(&env).await;
    assert_eq!(code, 1, "{nothing}");
    assert!(nothing["problems"][0].as_str().unwrap().contains("a worker makes it"), "{nothing}");

    let nowhere = format!("amqp://guest:guest@127.0.0.1:{}/%2f", free_port());
    let ended =
        run_command(&["status"], &[(&variable("amqp.uri"), &nowhere), (&variable("admin.listen"), "")], "").await;
    assert!(ended.code == 69 && ended.stdout.contains("cannot be reached"), "{ended:?}");

    env.set("admin.listen", "127.0.0.1:0");
    let mut worker = env.worker().await;
    env.set("admin.listen", &worker.admin_address().await);
    env.request("notfound-a").await;
    env.depth_becomes("dead", 1).await;
    let (code, all) = status(&env).await;
    assert_eq!((code, &all["problems"]), (0, &json!([])), "{all}");
    assert_eq!(
        (&all["worker"]["not_ready"], &all["worker"]["dead_letters"]["failed"]),
        (&json!([]), &json!(1)),
        "{all}"
    );
    let row = |all: &Value, queue: &str| {
        let rows = all["queues"].as_array().unwrap();
        rows.iter().find(|row| row["name"] == env.queue(queue).as_str()).unwrap().clone()
    };
    assert_eq!((&row(&all, "dead")["ready"], &row(&all, "requests")["consumers"]), (&json!(1), &json!(1)));
    let text = run_command(&["status"], &env.environment(), "").await.stdout;
    assert!(text.contains("ready\n") && text.contains("dead letters since it was started: 1 failed"), "{text}");

    worker.signal("TERM");
    worker.wait().await;
    for _ in 0..3 {
        env.request("cancels-b").await;
    }
    for _ in 0..3 {
        let (code, all) = status(&env).await;
        assert_eq!(code, 1, "{all}");
        let problems = all["problems"].to_string();
        assert!(problems.contains("3 requests wait in") && problems.contains("no worker takes them"), "{all}");
        assert!(all["worker"]["problem"].as_str().unwrap().contains("is it running"), "{all}");
        assert_eq!(
            row(&all, "followups"),
            json!({ "name": env.queue("followups"), "ready": 0, "consumers": 0, "believed": true })
        );
    }
    let channel = env.amqp.channel().await;
    for queue in ["dead", "requests"] {
        let options = lapin::options::BasicGetOptions::default();
        let got = channel.basic_get(env.queue(queue).as_str().into(), options).await.unwrap().unwrap();
        assert!(!got.delivery.redelivered, "{queue}: nobody has had it");
    }
    env.end().await;
}

#[tokio::test]
async fn a_queue_without_a_leader_need_not_be_empty() {
    let first = Broker::private();
    let mut second = first.join();
    let mut env = TestEnv::on(&first).await;
    env.set("admin.listen", "127.0.0.1:0");
    let worker = env.worker().await;
    env.set("admin.listen", &worker.admin_address().await);
    env.request("notfound-a").await;
    env.depth_becomes("dead", 1).await;
    second.kill9();
    let end = Instant::now() + PATIENCE;
    let all = loop {
        let (_, all) = status(&env).await;
        if all["problems"].to_string().contains("it need not be empty") || Instant::now() > end {
            break all;
        }
        sleep(Duration::from_millis(500)).await;
    };
    let untold: Vec<_> = all["queues"].as_array().unwrap().iter().filter(|row| row["believed"] == false).collect();
    assert!(!untold.is_empty() && untold.iter().all(|row| row["ready"].is_null()), "{all}");
    let check = run_command(&["check", "--online"], &env.environment(), "").await;
    assert!(check.stdout.contains("WARN topology: queue") && check.stdout.contains("has no leader"), "{check:?}");
}
