//! Declaring and verifying queues and exchanges, and what is said where they differ.

use cancel_worker::broker::rabbitmq::{Session, Status, inspect};
use cancel_worker::broker::{BrokerError, Delivery as _, Publisher as _, Session as _, Target};
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use crate::broker_setup::{Administered, WORKER, amqp, message, session, soon};
use crate::support::{Amqp, Broker};

/// What a refused session says.
async fn refused(settings: &cancel_worker::settings::Amqp) -> BrokerError {
    match soon(Session::open(settings, WORKER)).await {
        Ok(_) => panic!("the session was opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_topology_is_declared_as_often_as_one_likes_and_then_verified() {
    let (first, prefix) = session(&[]).await;
    let settings = amqp(Broker::shared().uri(), &prefix, &[]);
    let second = Session::open(&settings, WORKER).await.unwrap();
    let settings = amqp(Broker::shared().uri(), &prefix, &[("amqp.topology.declare", "false")]);
    let third = Session::open(&settings, WORKER).await.unwrap();
    for session in [first, second, third] {
        soon(session.close()).await;
    }
    let plain = Amqp::connect(Broker::shared().uri()).await;
    for queue in ["requests", "followups", "results", "dead", "wait.1s", "wait.5m"] {
        assert_eq!(plain.queue_depth(&format!("{prefix}.{queue}")).await, Some(0), "{queue}");
    }
}

#[tokio::test]
async fn an_existing_queue_with_another_argument_is_named_with_both_values_and_the_remedy() {
    let (session, prefix) = session(&[("amqp.topology.delivery_limit", "20")]).await;
    soon(session.close()).await;

    let other = amqp(Broker::shared().uri(), &prefix, &[("amqp.topology.delivery_limit", "21")]);
    let error = refused(&other).await;

    assert!(error.is_permanent());
    let text = error.to_string();
    for part in [
        &format!("queue \"{prefix}.requests\" exists with another x-delivery-limit"),
        "the settings ask for 21, it has 20",
        "set amqp.topology.delivery_limit to what it has",
        &format!("`rabbitmqctl delete_queue -p / {prefix}.requests`"),
        "amqp.topology.prefix",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[tokio::test]
async fn a_classic_queue_or_an_exchange_of_another_type_in_the_way_is_told_apart() {
    let plain = Amqp::connect(Broker::shared().uri()).await;
    let channel = plain.channel().await;
    let prefix = Broker::unique_prefix();
    let name = format!("{prefix}.requests");
    channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();
    let text = refused(&amqp(Broker::shared().uri(), &prefix, &[])).await.to_string();
    // Which argument is named first is the broker's choice.
    assert!(text.contains(&format!("queue {name:?} exists with another x-")), "{text}");

    let prefix = Broker::unique_prefix();
    let name = format!("{prefix}.events");
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let kind = ExchangeKind::Fanout;
    channel.exchange_declare(name.as_str().into(), kind, options, FieldTable::default()).await.unwrap();
    let text = refused(&amqp(Broker::shared().uri(), &prefix, &[])).await.to_string();
    assert!(text.contains(&format!("exchange {name:?} exists with another type")), "{text}");
    assert!(text.contains("ask for topic, it has fanout"), "{text}");
}

#[tokio::test]
async fn without_declaring_what_is_missing_is_named() {
    let prefix = Broker::unique_prefix();
    let error = refused(&amqp(Broker::shared().uri(), &prefix, &[("amqp.topology.declare", "false")])).await;
    assert!(matches!(error, BrokerError::Missing { .. }) && error.is_permanent());
    let text = error.to_string();
    assert!(text.contains(&prefix) && text.contains("set amqp.topology.declare = true"), "{text}");
}

#[tokio::test]
async fn what_is_the_users_own_is_used_and_never_declared_or_bound() {
    let plain = Amqp::connect(Broker::shared().uri()).await;
    let own = Broker::unique_prefix();
    let settings = [("amqp.topology.external.requests_queue", own.as_str())];
    let prefix = Broker::unique_prefix();
    let error = refused(&amqp(Broker::shared().uri(), &prefix, &settings)).await.to_string();
    assert!(error.contains(&own) && error.contains("amqp.topology.external"), "{error}");

    plain.declare_queue(&own).await;
    let (mut session, prefix) = session(&settings).await;
    assert_eq!(plain.queue_depth(&format!("{prefix}.requests")).await, None);
    session.consume(1).await.unwrap();
    let proof = session.publisher().publish(&Target::Request, message("own")).await.unwrap();
    let delivery = soon(session.next()).await.unwrap();
    assert_eq!(delivery.envelope().message_id, Some("own"));
    delivery.ack(proof).await.unwrap();
    soon(session.close()).await;
}

#[tokio::test]
async fn a_missing_permission_is_named_with_its_user_and_the_resource() {
    let (vhost, uri) = Administered::vhost();
    Administered::ctl(["set_permissions", "-p", &vhost, &vhost, "", ".*", ".*"]);
    let error = refused(&amqp(&uri, "p", &[])).await;
    assert!(matches!(error, BrokerError::Forbidden { .. }) && error.is_permanent());
    let text = error.to_string();
    for part in [format!("user {vhost:?} may not declare"), "p.dead".to_owned(), "set_permissions".to_owned()] {
        assert!(text.contains(&part), "{part:?} is not in {text:?}");
    }

    // Verifying takes no permission to configure.
    Administered::ctl(["set_permissions", "-p", &vhost, &vhost, ".*", ".*", ".*"]);
    soon(Session::open(&amqp(&uri, "p", &[]), WORKER)).await.unwrap().close().await;
    Administered::ctl(["set_permissions", "-p", &vhost, &vhost, "", ".*", ".*"]);
    let verifying = amqp(&uri, "p", &[("amqp.topology.declare", "false")]);
    soon(Session::open(&verifying, WORKER)).await.unwrap().close().await;
}

#[tokio::test]
async fn an_inspection_finds_everything_and_changes_nothing() {
    let prefix = Broker::unique_prefix();
    let settings = amqp(Broker::shared().uri(), &prefix, &[]);
    let before = soon(inspect(&settings, WORKER)).await.unwrap();
    assert_eq!(before.nodes.len(), 1);
    assert!(before.nodes[0].1.is_ok() && !before.nodes[0].0.contains("guest:guest"));
    assert!(before.topology.iter().all(|finding| finding.status == Ok(Status::ToBeDeclared)));
    let plain = Amqp::connect(Broker::shared().uri()).await;
    assert_eq!(plain.queue_depth(&format!("{prefix}.requests")).await, None);

    let mut session = Session::open(&settings, WORKER).await.unwrap();
    session.consume(1).await.unwrap();
    drop(session.publisher().publish(&Target::Dead, message("m")).await.unwrap());
    let after = soon(inspect(&settings, WORKER)).await.unwrap();
    let status = |what: &str| {
        let what = format!("{what} {:?}", format!("{prefix}.{}", if what == "exchange" { "events" } else { "dead" }));
        after.topology.iter().find(|finding| finding.what == what).unwrap().status.clone()
    };
    assert_eq!(status("exchange"), Ok(Status::Exchange));
    assert_eq!(status("queue"), Ok(Status::Queue { messages: 1, consumers: 0, believed: true }));

    let other = amqp(Broker::shared().uri(), &prefix, &[("amqp.topology.delivery_limit", "3")]);
    let found = soon(inspect(&other, WORKER)).await.unwrap();
    let wrong: Vec<_> = found.topology.iter().filter(|finding| finding.status.is_err()).collect();
    assert_eq!(wrong.len(), 2, "requests and followups: {wrong:?}");
    soon(session.close()).await;
}

#[tokio::test]
async fn queues_that_keep_messages_are_not_emptied_by_redelivering_them() {
    let (session, prefix) = session(&[]).await;
    drop(session.publisher().publish(&Target::Dead, message("kept")).await.unwrap());
    let plain = Amqp::connect(Broker::shared().uri()).await;
    let channel = plain.channel().await;
    let queue = format!("{prefix}.dead");
    for _ in 0..25 {
        let got = soon(channel.basic_get(queue.as_str().into(), Default::default())).await.unwrap().unwrap();
        got.nack(lapin::options::BasicNackOptions { requeue: true, multiple: false }).await.unwrap();
        // The next get must not overtake the nack, which has no answer: another command's answer tells.
        let options = QueueBindOptions::default();
        let key = "flushed".into();
        channel
            .queue_bind(queue.as_str().into(), queue.as_str().into(), key, options, FieldTable::default())
            .await
            .unwrap();
    }
    let kept = plain.drain(&queue, 1, std::time::Duration::from_secs(10)).await;
    assert_eq!(kept.len(), 1);
    soon(session.close()).await;
}
