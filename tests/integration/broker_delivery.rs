//! Deliveries and their answers, waiting in the broker, dead letters, and watching events.

use std::time::Duration;

use cancel_worker::broker::{Delivery as _, Publisher as _, Session as _, Source, Target, WaitLevel};
use cancel_worker::cancellation::Outcome;
use cancel_worker::message::Outgoing;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString};
use tokio::time::Instant;

use crate::broker_setup::{message, session, soon};
use crate::support::{Amqp, Broker, persistent};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_delivery_is_gone_once_acknowledged_and_back_once_requeued() {
    let (mut session, prefix) = session(&[]).await;
    let publisher = session.publisher();
    let proof = publisher.publish(&Target::Request, message("m")).await.unwrap();
    session.consume(10).await.unwrap();

    let delivery = soon(session.next()).await.unwrap();
    assert_eq!((delivery.source(), delivery.redeliveries()), (Source::Requests, 0));
    delivery.requeue().await.unwrap();
    let again = soon(session.next()).await.unwrap();
    assert_eq!(again.redeliveries(), 1);
    let envelope = again.envelope();
    assert_eq!((envelope.body, envelope.message_id), (&b"body of m"[..], Some("m")));
    assert_eq!(envelope.timestamp, Some(message("m").timestamp));
    again.ack(proof).await.unwrap();
    soon(session.close()).await;

    let plain = Amqp::connect(Broker::shared().uri()).await;
    assert!(plain.drain(&format!("{prefix}.requests"), 1, Duration::from_millis(300)).await.is_empty());
}

#[tokio::test]
async fn how_often_a_message_was_delivered_is_for_the_broker_to_say_and_not_for_who_published_it() {
    let (mut session, prefix) = session(&[]).await;
    let mut headers = FieldTable::default();
    headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(19));
    let plain = Amqp::connect(Broker::shared().uri()).await;
    plain.publish(&format!("{prefix}.requests"), "r", b"{}", persistent().with_headers(headers)).await;
    session.consume(10).await.unwrap();
    let delivery = soon(session.next()).await.unwrap();
    assert_eq!(delivery.redeliveries(), 0);
    delivery.requeue().await.unwrap();
    assert_eq!(soon(session.next()).await.unwrap().redeliveries(), 1);
    soon(session.close()).await;
}

#[tokio::test]
async fn what_is_parked_comes_back_as_a_follow_up_after_its_level() {
    let (mut session, _) = session(&[]).await;
    session.consume(10).await.unwrap();
    let began = Instant::now();
    let proof = session
        .publisher()
        .publish(&Target::Wait(WaitLevel::new(Duration::from_secs(1))), message("later"))
        .await
        .unwrap();
    let delivery = soon(session.next()).await.unwrap();
    let waited = began.elapsed();
    assert_eq!((delivery.source(), delivery.envelope().message_id), (Source::Followups, Some("later")));
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(3), "{waited:?}");
    delivery.ack(proof).await.unwrap();
    soon(session.close()).await;
}

#[tokio::test]
async fn both_queues_are_served_in_turn() {
    let (mut session, prefix) = session(&[]).await;
    let plain = Amqp::connect(Broker::shared().uri()).await;
    for number in 0..10 {
        for queue in ["requests", "followups"] {
            let queue = format!("{prefix}.{queue}");
            plain.publish("", &queue, number.to_string().as_bytes(), persistent()).await;
        }
    }
    session.consume(10).await.unwrap();
    // All twenty are here before the first is taken, but for the last few at most.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut sources = Vec::new();
    let mut held = Vec::new();
    for _ in 0..20 {
        let delivery = soon(session.next()).await.unwrap();
        sources.push(delivery.source());
        held.push(delivery);
    }
    assert!(sources.windows(2).all(|pair| pair[0] != pair[1]), "{sources:?}");
    soon(session.close()).await;
}

#[tokio::test]
async fn the_prefetch_is_for_each_queue_and_can_be_changed() {
    let (mut session, prefix) = session(&[]).await;
    let publisher = session.publisher();
    for number in 0..5 {
        drop(publisher.publish(&Target::Request, message(&number.to_string())).await.unwrap());
    }
    session.consume(1).await.unwrap();
    let first = soon(session.next()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), session.next()).await.is_err());
    session.consume(5).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(soon(session.next()).await.unwrap());
    }
    // A delivery of the consumer before can still be answered.
    let proof = publisher.publish(&Target::Dead, message("proof")).await.unwrap();
    first.ack(proof).await.unwrap();
    drop(held);
    soon(session.close()).await;
    let plain = Amqp::connect(Broker::shared().uri()).await;
    assert_eq!(plain.drain(&format!("{prefix}.requests"), 4, SOON).await.len(), 4);
}

#[tokio::test]
async fn stopping_gives_back_what_nobody_has_taken() {
    let (mut session, prefix) = session(&[]).await;
    let publisher = session.publisher();
    for number in 0..20 {
        drop(publisher.publish(&Target::Request, message(&number.to_string())).await.unwrap());
    }
    session.consume(20).await.unwrap();
    let taken = soon(session.next()).await.unwrap();
    soon(session.stop_consuming()).await;

    let plain = Amqp::connect(Broker::shared().uri()).await;
    let left = plain.drain(&format!("{prefix}.requests"), 19, SOON).await;
    assert_eq!(left.len(), 19, "while the session still stands");
    let proof = publisher.publish(&Target::Dead, message("proof")).await.unwrap();
    taken.ack(proof).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), session.next()).await.is_err());
    soon(session.close()).await;
}

#[tokio::test]
async fn a_dead_letter_has_the_originals_content_and_the_reason() {
    let (mut session, prefix) = session(&[]).await;
    session.consume(10).await.unwrap();
    let plain = Amqp::connect(Broker::shared().uri()).await;
    let mut headers = FieldTable::default();
    headers.insert("count".into(), AMQPValue::LongInt(-7));
    headers.insert("bytes".into(), AMQPValue::LongString(LongString::from(vec![0xff, 0])));
    let properties = BasicProperties::default()
        .with_content_type("text/x-odd".into())
        .with_user_id("guest".into())
        .with_expiration("60000".into())
        .with_reply_to("somewhere".into())
        .with_headers(headers.clone());
    plain.publish(&format!("{prefix}.requests"), "any.key", b"\xffnot a request", properties).await;

    let delivery = soon(session.next()).await.unwrap();
    let reason = vec![("cancel-worker-reason".to_owned(), "unusable_request".to_owned())];
    let proof = session.publisher().dead_letter(&delivery, reason).await.unwrap();
    delivery.ack(proof).await.unwrap();

    let dead = plain.drain(&format!("{prefix}.dead"), 1, SOON).await.remove(0);
    assert_eq!(dead.data, b"\xffnot a request");
    let properties = &dead.properties;
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "text/x-odd");
    assert_eq!(properties.reply_to().as_ref().unwrap().as_str(), "somewhere");
    assert_eq!((*properties.delivery_mode(), properties.expiration()), (Some(2), &None));
    let got = properties.headers().as_ref().unwrap().inner();
    for (name, value) in &headers {
        assert_eq!(got.get(name), Some(value));
    }
    for (name, value) in [
        ("cancel-worker-reason", "unusable_request"),
        ("cancel-worker-expiration", "60000"),
        ("cancel-worker-user-id", "guest"),
    ] {
        assert_eq!(got.get(name), Some(&AMQPValue::LongString(value.into())), "{name}");
    }
    soon(session.close()).await;
}

#[tokio::test]
async fn a_dead_letter_whose_headers_fill_a_frame_arrives_without_them() {
    let (mut session, prefix) = session(&[]).await;
    session.consume(10).await.unwrap();
    let plain = Amqp::connect(Broker::shared().uri()).await;
    let mut headers = FieldTable::default();
    headers.insert("big".into(), AMQPValue::LongString("b".repeat(130_000).into()));
    let properties = BasicProperties::default().with_headers(headers);
    plain.publish(&format!("{prefix}.requests"), "", b"big", properties).await;

    let delivery = soon(session.next()).await.unwrap();
    let reason = vec![("cancel-worker-detail".to_owned(), "d".repeat(1024))];
    let proof = session.publisher().dead_letter(&delivery, reason).await.unwrap();
    delivery.ack(proof).await.unwrap();

    let dead = plain.drain(&format!("{prefix}.dead"), 1, SOON).await.remove(0);
    let got = dead.properties.headers().as_ref().unwrap().inner();
    assert!(!got.contains_key("big") && got.contains_key("cancel-worker-detail"));
    assert!(got.contains_key("cancel-worker-headers-dropped"));
    soon(session.close()).await;
}

#[tokio::test]
async fn a_tap_sees_events_and_takes_them_from_nobody() {
    let (session, prefix) = session(&[]).await;
    let mut events = session.subscribe_to_events().await.unwrap();
    let event = Outgoing {
        correlation_id: Some("c-1".to_owned()),
        headers: vec![("traceparent".to_owned(), "00-1".to_owned())],
        ..message("e-1")
    };
    drop(session.publisher().publish(&Target::Event(Outcome::Cancelled), event).await.unwrap());

    let seen = soon(events.next()).await.unwrap();
    assert_eq!((seen.envelope().message_id, seen.envelope().correlation_id), (Some("e-1"), Some("c-1")));
    assert_eq!(seen.envelope().headers, [("traceparent", "00-1")]);
    let plain = Amqp::connect(Broker::shared().uri()).await;
    assert_eq!(plain.drain(&format!("{prefix}.results"), 1, SOON).await.len(), 1);
    soon(session.close()).await;
}
