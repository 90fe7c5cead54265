//! Confirms and returns: no publish is ever taken for another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cancel_worker::broker::rabbitmq::{Publisher, Session};
use cancel_worker::broker::{PublishError, Publisher as _, Session as _, Target};
use cancel_worker::cancellation::{Outcome, Reason};
use futures_util::StreamExt as _;
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::time::Instant;

use crate::broker_setup::{WORKER, amqp, message, session, soon};
use crate::support::{Amqp, AmqpProxy, Broker};

/// A session whose events are routed for `cancelled` only, into the queue that comes with it.
async fn half_routed() -> (Session, String) {
    let (session, prefix) = session(&[("amqp.topology.results", "false")]).await;
    let queue = format!("{prefix}.some-results");
    let plain = Amqp::connect(Broker::shared().uri()).await;
    plain.declare_queue(&queue).await;
    let (exchange, key) = (format!("{prefix}.events"), "operation.cancelled".into());
    let options = QueueBindOptions::default();
    let channel = plain.channel().await;
    channel
        .queue_bind(queue.as_str().into(), exchange.as_str().into(), key, options, FieldTable::default())
        .await
        .unwrap();
    (session, queue)
}

fn target(routable: bool) -> Target {
    Target::Event(if routable { Outcome::Cancelled } else { Outcome::Failed(Reason::NotFound) })
}

/// Publishes `count` messages, `at_once` of them in flight; which are routable and what their ids are, is asked.
async fn publish_all(
    publisher: &Publisher,
    count: u64,
    at_once: u64,
    message_of: impl Fn(u64) -> (bool, String) + Send + Sync + 'static,
) -> Vec<String> {
    let (next, message_of) = (Arc::new(AtomicU64::new(0)), Arc::new(message_of));
    let mut publishing = Vec::new();
    for _ in 0..at_once {
        let (publisher, next, message_of) = (publisher.clone(), Arc::clone(&next), Arc::clone(&message_of));
        publishing.push(tokio::spawn(async move {
            let mut wrong = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return wrong;
                }
                let (routable, id) = message_of(number);
                let result = publisher.publish(&target(routable), message(&id)).await;
                match (&result, routable) {
                    (Ok(_), true) | (Err(PublishError::Unroutable { .. }), false) => {}
                    _ => wrong.push(format!("{id}, routable: {routable}, but {result:?}")),
                }
            }
        }));
    }
    let mut wrong = Vec::new();
    for task in publishing {
        wrong.extend(task.await.unwrap());
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_hundred_thousand_publishes_none_is_taken_for_another() {
    const COUNT: u64 = 100_000;
    let (session, queue) = half_routed().await;
    let publisher = session.publisher();
    let began = Instant::now();
    let wrong = publish_all(&publisher, COUNT, 256, |number| (number % 3 != 0, format!("m-{number}"))).await;
    let seconds = began.elapsed().as_secs_f64();
    println!("{:.0} publishes/s, {} made again", COUNT as f64 / seconds, publisher.repeated());
    assert!(wrong.is_empty(), "{} wrong, such as {}", wrong.len(), wrong[0]);

    let plain = Amqp::connect(Broker::shared().uri()).await;
    let routable = (0..COUNT).filter(|number| number % 3 != 0).count() as u64;
    let there = u64::from(plain.purge(&queue).await);
    assert!(there >= routable && there <= routable + publisher.repeated(), "{there} of {routable} are there");
    soon(session.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_that_share_their_message_id_are_told_apart_too() {
    let (session, _) = half_routed().await;
    // Some twenty publishes of each id are in flight together, routable and unroutable ones.
    let wrong =
        publish_all(&session.publisher(), 20_000, 256, |number| (number % 3 != 0, format!("m-{}", number / 20 % 12)))
            .await;
    assert!(wrong.is_empty(), "{} wrong, such as {}", wrong.len(), wrong[0]);
    soon(session.close()).await;
}

#[tokio::test]
async fn an_unroutable_message_is_told_with_where_it_should_have_gone() {
    let (session, prefix) = session(&[("amqp.topology.results", "false")]).await;
    let error = session.publisher().publish(&Target::Event(Outcome::Completed), message("m")).await.unwrap_err();
    let text = error.to_string();
    for part in [&format!("{prefix}.events"), "operation.completed", "NO_ROUTE"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    soon(session.close()).await;
}

#[tokio::test]
async fn a_full_queue_refuses_and_the_session_goes_on() {
    let (session, prefix) = session(&[("amqp.topology.results", "false")]).await;
    let plain = Amqp::connect(Broker::shared().uri()).await;
    let channel = plain.channel().await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let (queue, exchange) = (format!("{prefix}.small"), format!("{prefix}.events"));
    channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    let options = QueueBindOptions::default();
    let key = "operation.#".into();
    channel
        .queue_bind(queue.as_str().into(), exchange.as_str().into(), key, options, FieldTable::default())
        .await
        .unwrap();

    let publisher = session.publisher();
    let mut refusals = 0;
    for number in 0..20 {
        match soon(publisher.publish(&target(true), message(&number.to_string()))).await {
            Ok(_) => {}
            Err(PublishError::Refused { .. }) => refusals += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refusals > 0);
    plain.purge(&queue).await;
    assert_eq!(session.over().cause(), None);
    soon(session.close()).await;
}

#[tokio::test]
async fn a_reply_reaches_the_one_who_waits_for_it() {
    let (session, _) = session(&[]).await;
    let plain = Amqp::connect(Broker::shared().uri()).await;
    let channel = plain.channel().await;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let pseudo_queue = "amq.rabbitmq.reply-to";
    let mut replies =
        channel.basic_consume(pseudo_queue.into(), "".into(), options, FieldTable::default()).await.unwrap();
    let properties = BasicProperties::default().with_reply_to(pseudo_queue.into());
    let queue = Broker::unique_prefix();
    plain.declare_queue(&queue).await;
    channel.basic_publish("".into(), queue.as_str().into(), Default::default(), b"", properties).await.unwrap();
    let asked = plain.drain(&queue, 1, Duration::from_secs(10)).await.remove(0);
    let address = asked.properties.reply_to().as_ref().unwrap().to_string();

    soon(session.publisher().reply(&address, message("reply"))).await.unwrap();
    assert_eq!(soon(replies.next()).await.unwrap().unwrap().data, b"body of reply");
    soon(session.close()).await;
}

#[tokio::test]
async fn a_reply_to_a_made_up_address_harms_no_session() {
    let (session, prefix) = session(&[]).await;
    let publisher = session.publisher();
    let stray = publisher.reply(&format!("{prefix}.dead"), message("m")).await;
    assert_eq!(stray, Err(PublishError::NoReplyAddress));
    // RabbitMQ 3.10 crashes on these, later versions may take them.
    for garbage in ["x", "g1h2AA5yZXBseUAxMjM0NTY3OAAAAAAAAAAAAAAAAQ==.abc", ""] {
        let _ = soon(publisher.reply(&format!("amq.rabbitmq.reply-to.{garbage}"), message("m"))).await;
    }
    // Long enough for the end of a connection to be seen.
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(soon(publisher.publish(&Target::Dead, message("still here"))).await.unwrap());
    assert_eq!(session.over().cause(), None);
    soon(session.close()).await;
}

/// Requesters' addresses lead nowhere, or the broker is slow with them.
#[tokio::test]
async fn no_more_than_64_replies_are_under_way_and_the_rest_is_dropped_at_once() {
    let proxy = AmqpProxy::start(Broker::shared().uri()).await;
    let prefix = Broker::unique_prefix();
    let session = Session::open(&amqp(&proxy.uri(), &prefix, &[]), WORKER).await.unwrap();
    // The connection for replies is not open yet, and will not be.
    proxy.silence().await;
    let publisher = session.publisher();
    let began = Instant::now();
    let replies = (0..200).map(|number| {
        let publisher = publisher.clone();
        async move {
            let sent = publisher.reply("amq.rabbitmq.reply-to.g1h2.x", message(&format!("m-{number}"))).await;
            (sent.unwrap_err(), began.elapsed())
        }
    });
    let replies = futures_util::future::join_all(replies).await;
    proxy.resume();
    let (dropped, late): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|(error, _)| matches!(error, PublishError::TooManyReplies { limit: 64 }));
    assert_eq!((dropped.len(), late.len()), (136, 64));
    assert!(dropped.iter().all(|(_, took)| *took < Duration::from_secs(1)), "at once");
    assert!(late.iter().all(|(error, _)| matches!(error, PublishError::ReplyLost(_))), "{late:?}");
    assert!(late.iter().all(|(_, took)| *took < Duration::from_secs(4)), "{late:?}");
    drop(soon(publisher.publish(&Target::Dead, message("still here"))).await.unwrap());
    soon(session.close()).await;
}

/// RabbitMQ 3.10 refuses what is published on a channel from before the election of a queue's leader. A full queue looks the
/// same from here.
#[tokio::test]
async fn a_channel_on_which_refusals_last_is_replaced_and_nothing_else_is() {
    let node = Broker::observable();
    let name = Broker::unique_prefix();
    let settings = amqp(node.uri(), &name, &[("amqp.topology.results", "false")]);
    let session = Session::open(&settings, &name).await.unwrap();
    let queue = format!("{name}.full");
    let plain = Amqp::connect(node.uri()).await;
    let channel = plain.channel().await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    let (exchange, key) = (format!("{name}.events"), "operation.cancelled");
    let options = QueueBindOptions::default();
    channel
        .queue_bind(queue.as_str().into(), exchange.as_str().into(), key.into(), options, FieldTable::default())
        .await
        .unwrap();
    // The channel on the publishing connection.
    let channels = || {
        let connections = node.ctl(["--silent", "list_connections", "pid", "client_properties"]);
        let ours = |line: &&str| line.contains(&format!("cancel-worker {name} publish"));
        let connection = connections.lines().find(ours).unwrap().split('\t').next().unwrap().to_owned();
        let channels = node.ctl(["--silent", "list_channels", "connection", "number"]);
        let ours = channels.lines().filter_map(|line| line.split_once('\t')).filter(|(of, _)| *of == connection);
        ours.map(|(_, number)| number.to_owned()).collect::<Vec<_>>()
    };
    let first = channels();
    assert_eq!(first.len(), 1);

    let publisher = session.publisher();
    let (mut refused, began) = (0, Instant::now());
    let replaced = loop {
        for _ in 0..10 {
            match publisher.publish(&target(true), message("m")).await {
                Ok(_) => {}
                Err(PublishError::Refused { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let now = channels();
        if now.len() == 1 && now != first {
            break now;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{first:?}, and after {refused} refusals {now:?}");
    };
    assert!(refused > 10 && began.elapsed() >= Duration::from_secs(5), "{refused} refusals, and then {replaced:?}");
    // What is not refused goes its way all the while.
    let wait = cancel_worker::broker::WaitLevel::new(Duration::from_secs(1));
    let _ = publisher.publish(&Target::Wait(wait), message("w")).await.unwrap();
    assert!(session.over().cause().is_none());
    plain.purge(&queue).await;
    let _ = publisher.publish(&target(true), message("m")).await.unwrap();
    soon(session.close()).await;
}
