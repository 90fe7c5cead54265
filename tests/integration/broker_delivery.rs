//! Deliveries and their answers, waiting in the broker, dead letters, and watching events.

use std::time::Duration;

use cancel_worker::broker::rabbitmq::Session;
use cancel_worker::broker::{Delivery as _, DeliveryKind, Publisher as _, Session as _, Target, WaitLevel};
use cancel_worker::cancellation::Outcome;
use cancel_worker::message::Outgoing;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString};
use tokio::time::Instant;

use crate::broker_setup::{WORKER, amqp, message, session, soon};
use crate::support::{Amqp, Broker, persistent};

const SOON: Duration = Duration::from_secs(10);

/// The next session with the same queues, after this one.
async fn next_session(session: Session, prefix: &str) -> Session {
    soon(session.close()).await;
    let mut next = soon(Session::open(&amqp(Broker::shared().uri(), prefix, &[]), WORKER)).await.unwrap();
    next.consume(10).await.unwrap();
    next
}

#[tokio::test]
async fn a_delivery_is_gone_once_acknowledged_and_back_with_the_next_session_otherwise() {
    let (mut session, prefix) = session(&[]).await;
    drop(session.publisher().publish(&Target::Request, message("m")).await.unwrap());
    session.consume(10).await.unwrap();
    let delivery = soon(session.next()).await.unwrap();
    assert_eq!((delivery.kind(), delivery.redeliveries()), (DeliveryKind::Request, 0));
    assert!(!delivery.has_expired());

    let mut session = next_session(session, &prefix).await;
    let proof = session.publisher().publish(&Target::Dead, message("proof")).await.unwrap();
    let again = soon(session.next()).await.unwrap();
    assert_eq!(again.redeliveries(), 1);
    let envelope = again.envelope();
    assert_eq!((envelope.body, envelope.message_id), (&b"body of m"[..], Some("m")));
    assert_eq!(envelope.timestamp, Some(message("m").timestamp));
    again.ack(proof).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
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
    let mut session = next_session(session, &prefix).await;
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
    assert_eq!((delivery.kind(), delivery.envelope().message_id), (DeliveryKind::FollowUp, Some("later")));
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
    let mut kinds = Vec::new();
    let mut held = Vec::new();
    for _ in 0..20 {
        let delivery = soon(session.next()).await.unwrap();
        kinds.push(delivery.kind());
        held.push(delivery);
    }
    assert!(kinds.windows(2).all(|pair| pair[0] != pair[1]), "{kinds:?}");
    soon(session.close()).await;
}

#[tokio::test]
async fn stopping_hands_back_what_nobody_has_taken_and_consuming_can_begin_again() {
    let (mut session, prefix) = session(&[]).await;
    let publisher = session.publisher();
    for number in 0..20 {
        drop(publisher.publish(&Target::Request, message(&number.to_string())).await.unwrap());
    }
    session.consume(20).await.unwrap();
    let taken = soon(session.next()).await.unwrap();
    let mut left = soon(session.stop_consuming()).await;
    assert_eq!(left.len(), 19);
    assert!(tokio::time::timeout(Duration::from_millis(200), session.next()).await.is_err());

    left.push(taken);
    for delivery in left {
        let proof = publisher.publish(&Target::Dead, message("proof")).await.unwrap();
        delivery.ack(proof).await.unwrap();
    }
    session.consume(1).await.unwrap();
    drop(publisher.publish(&Target::Request, message("another")).await.unwrap());
    let another = soon(session.next()).await.unwrap();
    assert_eq!((another.envelope().message_id, another.redeliveries()), (Some("another"), 0));
    soon(session.close()).await;
    let plain = Amqp::connect(Broker::shared().uri()).await;
    assert_eq!(plain.drain(&format!("{prefix}.requests"), 1, SOON).await.len(), 1, "all others are acknowledged");
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
    let proof = session.publisher().forward(&Target::Dead, &delivery, reason).await.unwrap();
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
    let proof = session.publisher().forward(&Target::Dead, &delivery, reason).await.unwrap();
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
    assert_eq!(seen.envelope().headers, [("traceparent", "00-1".into())]);
    let plain = Amqp::connect(Broker::shared().uri()).await;
    assert_eq!(plain.drain(&format!("{prefix}.results"), 1, SOON).await.len(), 1);
    soon(session.close()).await;
}
