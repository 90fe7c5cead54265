//! The harness itself: what every other test here relies on.

use std::net::TcpListener;
use std::time::Duration;

use lapin::Confirmation;
use tokio::process::Command;

use crate::support::{Amqp, Broker, Process, free_port, persistent};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_message_confirmed_by_a_quorum_queue_is_read_back() {
    let queue = Broker::unique_prefix();
    let amqp = Amqp::connect(Broker::shared().uri()).await;
    amqp.declare_queue(&queue).await;

    let confirmation = amqp.publish("", &queue, b"hello", persistent().with_message_id("m-1".into())).await;

    assert_eq!(confirmation, Confirmation::Ack(None));
    let messages = amqp.drain(&queue, 1, SOON).await;
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].data, b"hello");
    assert_eq!(messages[0].properties.message_id().as_ref().unwrap().as_str(), "m-1");
    assert_eq!(amqp.queue_depth(&queue).await, Some(0));
}

#[tokio::test]
async fn a_message_that_no_queue_takes_comes_back_with_its_confirm() {
    let amqp = Amqp::connect(Broker::shared().uri()).await;

    let confirmation = amqp.publish("", &Broker::unique_prefix(), b"hello", persistent()).await;

    let returned = confirmation.take_message().unwrap();
    assert_eq!(returned.reply_text.as_str(), "NO_ROUTE");
}

#[tokio::test]
async fn draining_takes_as_many_as_expected_and_leaves_the_rest_untouched() {
    let queue = Broker::unique_prefix();
    let amqp = Amqp::connect(Broker::shared().uri()).await;
    amqp.declare_queue(&queue).await;
    for body in ["a", "b", "c", "d"] {
        amqp.publish("", &queue, body.as_bytes(), persistent()).await;
    }

    let first: Vec<_> = amqp.drain(&queue, 2, SOON).await.into_iter().map(|message| message.data).collect();
    let third = amqp.drain(&queue, 1, SOON).await;
    let too_many = amqp.drain(&queue, 9, Duration::from_millis(200)).await;

    assert_eq!(first, [b"a", b"b"]);
    assert_eq!((third[0].data.as_slice(), third[0].redelivered), (b"c".as_slice(), false));
    assert_eq!(too_many.len(), 1);
    assert_eq!(amqp.purge(&queue).await, 0);
    assert_eq!(amqp.queue_depth(&Broker::unique_prefix()).await, None);
}

#[tokio::test]
async fn a_confirmed_message_survives_kill_9_of_the_broker() {
    let mut broker = Broker::private();
    let amqp = Amqp::connect(broker.uri()).await;
    amqp.declare_queue("requests").await;
    assert_eq!(amqp.publish("", "requests", b"kept", persistent()).await, Confirmation::Ack(None));

    broker.kill9();
    broker.restart();

    let amqp = Amqp::connect(broker.uri()).await;
    let messages = amqp.drain("requests", 1, SOON).await;
    assert_eq!(messages.iter().map(|message| message.data.as_slice()).collect::<Vec<_>>(), [b"kept"]);
    assert!(broker.ctl(["list_queues", "name", "type"]).contains("requests\tquorum"));
}

#[tokio::test]
async fn a_process_is_asked_to_end_and_what_it_printed_is_kept() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap 'echo asked to end >&2; exit 3' TERM; echo up; while :; do sleep 0.02; done"]);
    let mut process = Process::spawn(command);

    assert_eq!(process.line_with("up", SOON).await, "up");
    process.signal("TERM");

    assert_eq!(process.wait().await.code(), Some(3));
    assert_eq!(process.lines(), ["up", "asked to end"]);
    assert_eq!(std::fs::read_to_string(process.log()).unwrap(), "up\nasked to end\n");
}

#[tokio::test]
async fn a_process_is_killed_as_a_crash_would_end_it() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.02; done"]);
    let mut process = Process::spawn(command);
    process.line_with("up", SOON).await;

    process.kill9().await;

    assert_eq!(process.wait().await.code(), None);
}

#[tokio::test]
async fn the_binary_runs() {
    assert!(Process::worker(&["--help"], &[("RUST_LOG", "off")]).wait().await.success());
}

#[test]
fn a_free_port_can_be_listened_on() {
    TcpListener::bind(("127.0.0.1", free_port())).unwrap();
}
