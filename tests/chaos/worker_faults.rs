use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::scene::PATIENCE;
use crate::stage::{Row, Stage};

/// Half a second after each start the worker is killed, and started again, as by a supervisor.
pub async fn kill(mut stage: Stage) -> Row {
    let first = stage.scene.worker().await;
    let ids = stage.ids("r", stage.size.requests);
    let requests: Vec<&str> = ids.iter().map(String::as_str).collect();
    let confirmed = stage.scene.flood(&requests, 1000).await;
    let mut worker = first;
    let end = Instant::now() + 10 * PATIENCE;
    // For as long as there is something left to be answered: the last kills hit what waits longest.
    while stage.answered().await < confirmed.len() && Instant::now() < end {
        sleep(Duration::from_millis(500)).await;
        worker.kill9().await;
        stage.struck();
        worker = stage.scene.starting_worker();
    }
    stage.check(&confirmed, vec![worker]).await
}

/// Two workers, of which one after the other is stopped in order and replaced, under load.
pub async fn restart(mut stage: Stage) -> Row {
    let mut workers = vec![stage.scene.worker().await, stage.scene.starting_worker()];
    let ids = stage.ids("r", stage.size.requests);
    let requests: Vec<&str> = ids.iter().map(String::as_str).collect();
    let restarting = async {
        for round in 0..stage.size.faults {
            stage.scene.events((round + 1) * 20, PATIENCE).await;
            let mut old = workers.remove(0);
            old.signal("TERM");
            let status = old.wait().await;
            assert!(status.success(), "worker of round {round} ended with {status}");
            workers.push(stage.scene.starting_worker());
        }
    };
    // Few at once, so that there is load for as long as workers are restarted.
    let (confirmed, ()) = tokio::join!(stage.scene.flood(&requests, 20), restarting);
    for _ in 1..stage.size.faults {
        stage.struck();
    }
    stage.recovers(confirmed.len()).await;
    stage.check(&confirmed, workers).await
}
