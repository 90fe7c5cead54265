//! SIGHUP: what can change while the worker works does, and the rest is named.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::support::Process;
use crate::test_env::{PATIENCE, TestEnv};

#[tokio::test]
async fn a_hang_up_takes_over_what_can_change_and_names_the_rest_while_requests_flow() {
    let mut env = TestEnv::new().await;
    drop(env.worker().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("");
    let mut worker = Process::worker(&["run", "--config", file.to_str().unwrap()], &env.environment());
    worker.line_with("\"consuming\"", PATIENCE).await;
    let ids: Vec<String> = (0..300).map(|number| format!("cancels-n{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (before, rest) = ids.split_at(100);
    let (during, after) = rest.split_at(100);
    assert_eq!(env.flood(before, 50).await.len(), 100);

    worker.signal("HUP");
    worker.line_with("the settings are as they were", PATIENCE).await;
    assert!(!worker.lines().iter().any(|line| line.contains("\"DEBUG\"")));

    write("[log]\nfilter = \"debug\"\n[rate_limit]\nper_second = 20.0\nburst = 1\n[amqp]\nprefetch = 77\n");
    worker.signal("HUP");
    let taken = worker.line_with("these settings were taken over", PATIENCE).await;
    assert!(taken.contains("log.filter, rate_limit.burst, rate_limit.per_second"), "{taken}");
    let left = worker.line_with("take effect at the next start", PATIENCE).await;
    assert!(left.contains("\"amqp.prefetch\"") && left.contains("WARN"), "{left}");

    // From now on twenty calls a second, two for each request.
    let began = Instant::now();
    assert_eq!(env.flood(&during[..20], 50).await.len(), 20);
    env.answers(120).await;
    assert!(began.elapsed() > Duration::from_millis(1500), "{:?} for 40 calls", began.elapsed());
    worker.line_with("\"DEBUG\"", PATIENCE).await;

    // What cannot be read changes nothing.
    write("[log]\nfilter = 7 oops");
    worker.signal("HUP");
    let broken = worker.line_with("the settings cannot be read, and stay as they are", PATIENCE).await;
    assert!(broken.contains("is no TOML at line 2"), "{broken}");

    // Nothing of it ends anything, however often.
    write("");
    for _ in 0..20 {
        worker.signal("HUP");
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(env.flood(&during[20..], 50).await.len() + env.flood(after, 50).await.len(), 180);
    assert_eq!(env.answers(300).await.len(), 300);
    worker.signal("TERM");
    assert!(worker.wait().await.success());
    assert_eq!(worker.lines().iter().filter(|line| line.contains("\"consuming\"")).count(), 1);
    env.end().await;
}

#[tokio::test]
async fn a_hang_up_at_the_very_start_ends_nothing() {
    let env = TestEnv::new().await;
    for delay in [0, 1, 2, 5, 10, 20, 50] {
        let mut worker = Process::worker(&["run"], &env.environment());
        // The program starts itself again, with larger stacks; up to there no handler can be.
        worker.line_with("\"starting\"", PATIENCE).await;
        sleep(Duration::from_millis(delay)).await;
        worker.signal("HUP");
        worker.line_with("\"consuming\"", PATIENCE).await;
        worker.signal("TERM");
        assert!(worker.wait().await.success());
    }
    env.end().await;
}
