//! Messages that no client library would write: the broker takes them, and hands them to the worker.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use url::Url;

use crate::scene::{PATIENCE, Scene, operation, request};
use crate::support::Broker;

/// The flags of the two properties.
const MESSAGE_ID: u16 = 1 << 7;
const HEADERS: u16 = 1 << 13;

#[tokio::test]
async fn headers_that_are_nested_two_thousand_deep_crash_nobody() {
    let mut scene = Scene::new().await;
    let worker = scene.worker().await;
    let nested = (0..2000).fold(b"V".to_vec(), |inner, _| [b"A", long(&inner).as_slice()].concat());
    let table = [short(b"deep").as_slice(), &nested].concat();
    let body = request("cancels-deep", serde_json::json!({})).to_string();
    publish(&scene, HEADERS, long(&table), body).await;
    scene.request("cancels-a").await;
    assert_eq!(scene.event_for("cancels-a").await.outcome(), "cancelled");
    assert_eq!(scene.event_for("cancels-deep").await.outcome(), "cancelled");
    assert_eq!(worker.lines().iter().filter(|line| line.contains("\"consuming\"")).count(), 1);
    scene.end().await;
}

#[tokio::test]
async fn a_message_that_the_client_library_cannot_read_takes_no_other_message_with_it() {
    let mut scene = Scene::new().await;
    scene.set("amqp.reconnect_max", "250ms");
    let _worker = scene.worker().await;
    let body = serde_json::json!({ "name": operation("never-called") }).to_string();
    // Deliveries that are under way when the sessions end.
    for number in 0..5 {
        scene.request(&format!("cancels-500ms-a{number}")).await;
    }
    publish(&scene, MESSAGE_ID, short(b"\xff\xfe"), body.clone()).await;
    for number in 0..5 {
        scene.request(&format!("cancels-500ms-b{number}")).await;
    }
    // At its delivery limit the message goes to the dead queue. This test cannot read it there either.
    let mut dead = scene.depth("dead").await;
    let end = Instant::now() + PATIENCE;
    while dead == 0 && Instant::now() < end {
        sleep(Duration::from_millis(100)).await;
        dead = scene.depth("dead").await;
    }
    let events = scene.events(10, PATIENCE / 2).await.len();
    let dead = scene.depth("dead").await;
    assert_eq!((events, dead), (10, 1), "answers to the requests that nothing is wrong with, and dead letters");
    scene.end().await;
}

/// Publishes a message with these properties, as they stand, as a request.
async fn publish(scene: &Scene, flags: u16, properties: Vec<u8>, body: String) {
    let url = Url::parse(Broker::shared().uri()).unwrap();
    let exchange = scene.queue("requests");
    tokio::task::spawn_blocking(move || {
        let mut wire = Wire::open(&url);
        let target = [short(exchange.as_bytes()), short(b"cancel")].concat();
        wire.method(60, 40, &[&[0, 0], target.as_slice(), &[0]].concat(), 1);
        let size = u64::try_from(body.len()).unwrap().to_be_bytes();
        let header = [&60_u16.to_be_bytes(), &[0, 0][..], &size, &flags.to_be_bytes(), &properties].concat();
        wire.frame(2, 1, &header);
        wire.frame(3, 1, body.as_bytes());
        // The confirm: basic.ack.
        assert_eq!(wire.answer()[..4], [0, 60, 0, 80], "the broker did not take the message");
    })
    .await
    .unwrap();
}

/// Just enough of AMQP 0-9-1 to publish what nobody should.
struct Wire(TcpStream);

impl Wire {
    fn open(url: &Url) -> Self {
        let address = (url.host_str().unwrap(), url.port().unwrap_or(5672));
        let mut wire = Self(TcpStream::connect(address).unwrap());
        wire.0.set_read_timeout(Some(PATIENCE)).unwrap();
        wire.0.write_all(b"AMQP\0\0\x09\x01").unwrap();
        wire.answer();
        let login = ["", url.username(), url.password().unwrap_or_default()].join("\0");
        let login = [long(b""), short(b"PLAIN"), long(login.as_bytes()), short(b"en_US")].concat();
        wire.method(10, 11, &login, 0);
        let tune = wire.answer();
        // No heartbeat.
        wire.method(10, 31, &[&tune[4..10], &[0, 0]].concat(), 0);
        let vhost = url.path().trim_start_matches('/').replace("%2f", "/").replace("%2F", "/");
        wire.method(10, 40, &[short(vhost.as_bytes()), vec![0, 0]].concat(), 0);
        wire.answer();
        wire.method(20, 10, &[0], 1);
        wire.answer();
        wire.method(85, 10, &[0], 1);
        wire.answer();
        wire
    }

    fn method(&mut self, class: u16, method: u16, arguments: &[u8], channel: u16) {
        self.frame(1, channel, &[&class.to_be_bytes(), &method.to_be_bytes(), arguments].concat());
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let frame = [&[kind], &channel.to_be_bytes()[..], &long(payload), &[0xce]].concat();
        self.0.write_all(&frame).unwrap();
    }

    /// The payload of the next frame.
    fn answer(&mut self) -> Vec<u8> {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let mut payload = vec![0; usize::try_from(length).unwrap() + 1];
        self.0.read_exact(&mut payload).unwrap();
        payload
    }
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}
