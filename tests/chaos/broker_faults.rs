use std::time::Duration;

use lapin::options::{QueueBindOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use tokio::time::sleep;

use crate::scene::PATIENCE;
use crate::stage::{Row, SLOW, Stage};

/// The broker is killed as by a power cut while requests are published and events flow, and comes back.
pub async fn kill(mut stage: Stage) -> Row {
    let worker = stage.scene.worker().await;
    let mut confirmed = Vec::new();
    let rounds = stage.size.faults.min(5);
    let ids: Vec<Vec<String>> =
        (0..rounds).map(|round| stage.ids(&format!("r{round}-"), stage.size.requests / rounds)).collect();
    for part in &ids {
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        let so_far = stage.answered().await;
        let mut broker = stage.broker;
        let publishing = stage.scene.flood(&part, 200);
        let killing = async {
            stage.scene.events(so_far + 20, PATIENCE).await;
            tokio::task::spawn_blocking(move || {
                broker.kill9();
                broker.restart();
                broker
            })
            .await
            .unwrap()
        };
        let (taken, broker) = tokio::join!(publishing, killing);
        confirmed.extend(taken.iter().map(|id| (*id).to_owned()));
        stage.broker = broker;
        stage.scene.reconnect().await;
        stage.recovers(confirmed.len()).await;
    }
    let confirmed: Vec<&str> = confirmed.iter().map(String::as_str).collect();
    stage.check(&confirmed, vec![worker]).await
}

/// An operator closes all connections, again and again.
pub async fn connections_closed(mut stage: Stage) -> Row {
    let worker = stage.scene.worker().await;
    let ids = stage.ids("r", stage.size.requests);
    let requests: Vec<&str> = ids.iter().map(String::as_str).collect();
    let confirmed = stage.scene.flood(&requests, 1000).await;
    for _ in 0..stage.size.faults {
        stage.ctl(["close_all_connections", "--vhost", "/", "chaos"]);
        stage.scene.reconnect().await;
        stage.recovers(confirmed.len()).await;
    }
    stage.check(&confirmed, vec![worker]).await
}

/// The disk is full, as far as the broker can tell: publishers are blocked.
pub async fn disk_alarm(mut stage: Stage) -> Row {
    let worker = stage.scene.worker().await;
    // Nobody can publish while the alarm lasts, so what it hits is asked for before.
    let ids: Vec<String> = (0..stage.size.requests).map(|number| format!("{SLOW}-r{number}")).collect();
    let requests: Vec<&str> = ids.iter().map(String::as_str).collect();
    let confirmed = stage.scene.flood(&requests, 1000).await;
    stage.ctl(["set_disk_free_limit", "900000GB"]);
    let so_far = stage.answered().await;
    assert!(so_far < confirmed.len(), "all was answered before the alarm");
    sleep(stage.size.lasts + Duration::from_secs(5)).await;
    let slipped = stage.answered().await - so_far;
    assert!(so_far + slipped < confirmed.len(), "the alarm kept nothing from being published");
    stage.ctl(["set_disk_free_limit", "10MB"]);
    stage.recovers(confirmed.len()).await;
    stage.check(&confirmed, vec![worker]).await
}

/// Nothing is bound to the exchange of events for a while: what is published there comes back.
pub async fn no_binding(mut stage: Stage) -> Row {
    let worker = stage.scene.worker().await;
    let channel = stage.scene.amqp.channel().await;
    let (queue, exchange) = (stage.scene.queue("results"), stage.scene.queue("events"));
    let (key, arguments) = ("operation.#", FieldTable::default);
    let unbind = channel.queue_unbind(queue.as_str().into(), exchange.as_str().into(), key.into(), arguments());
    unbind.await.unwrap();
    let ids = stage.ids("r", stage.size.requests);
    let requests: Vec<&str> = ids.iter().map(String::as_str).collect();
    let confirmed = stage.scene.flood(&requests, 1000).await;
    sleep(stage.size.lasts).await;
    assert_eq!(stage.answered().await, 0, "an event came although no queue was bound");
    let options = QueueBindOptions::default();
    channel
        .queue_bind(queue.as_str().into(), exchange.as_str().into(), key.into(), options, arguments())
        .await
        .unwrap();
    stage.recovers(confirmed.len()).await;
    stage.check(&confirmed, vec![worker]).await
}

/// Somebody deletes the queue of requests, while it is empty, and the consumer with it. The worker makes it anew.
pub async fn queue_deleted(mut stage: Stage) -> Row {
    let worker = stage.scene.worker().await;
    let count = stage.size.requests / stage.size.faults;
    let mut confirmed = Vec::new();
    for round in 0..stage.size.faults {
        let channel = stage.scene.amqp.channel().await;
        let queue = stage.scene.queue("requests");
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
        // Upstream's publishes are returned until the queue is there again: nothing was accepted.
        let began = tokio::time::Instant::now();
        while stage.scene.amqp.queue_depth(&queue).await.is_none() {
            assert!(began.elapsed() < PATIENCE, "the queue was not declared again");
            sleep(Duration::from_millis(50)).await;
        }
        stage.scene.reconnect().await;
        let ids = stage.ids(&format!("r{round}-"), count);
        let part: Vec<&str> = ids.iter().map(String::as_str).collect();
        confirmed.extend(stage.scene.flood(&part, 200).await.into_iter().map(str::to_owned));
        stage.recovers(confirmed.len()).await;
        while stage.answered().await < confirmed.len() && began.elapsed() < 2 * PATIENCE {
            sleep(Duration::from_millis(200)).await;
        }
    }
    let confirmed: Vec<&str> = confirmed.iter().map(String::as_str).collect();
    stage.check(&confirmed, vec![worker]).await
}
