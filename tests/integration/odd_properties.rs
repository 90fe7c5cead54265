//! Properties that no publisher in its right mind would set. The broker refuses some of them, so that they were never
//! accepted; lapin cannot read others, which end in the dead queue, alone; the rest is answered as any other request.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::poison::take_raw;
use crate::test_env::{TestEnv, event_id, request, request_key};
use crate::wire::property::*;
use crate::wire::{Raw, Wire, entry, long, short};

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// In the dead queue by the broker's hand, after every session that it was delivered in has ended.
    Dead,
    /// By the broker, which says so, with this in its words.
    Refused(&'static str),
    /// The same by RabbitMQ 3.10; 4.0 takes it, and it is answered.
    RefusedOnce(&'static str),
}

use Fate::{Answered, Dead, Refused, RefusedOnce};

struct Odd {
    name: String,
    fate: Fate,
    properties: Vec<(u16, Vec<u8>)>,
    routing_key: &'static [u8],
}

impl Odd {
    fn new(name: impl Into<String>, fate: Fate, properties: Vec<(u16, Vec<u8>)>) -> Self {
        Self { name: name.into(), fate, properties, routing_key: b"cancel" }
    }

    fn header(name: impl Into<String>, fate: Fate, entries: &[u8]) -> Self {
        Self::new(name, fate, vec![(HEADERS, long(entries))])
    }

    /// The request that has these properties, and the one that follows it and has none.
    fn ids(&self) -> [String; 2] {
        ["odd", "after"].map(|which| format!("cancels-50ms-{which}-{}", self.name.replace(' ', "-")))
    }
}

const NOT_UTF8: &[u8] = b"\xff\xfe";

/// The string properties, and whether RabbitMQ looks into them.
const STRINGS: [(&str, u16, Fate); 10] = [
    ("content_type", CONTENT_TYPE, Dead),
    ("content_encoding", CONTENT_ENCODING, Dead),
    ("correlation_id", CORRELATION_ID, Dead),
    ("reply_to", REPLY_TO, Dead),
    ("expiration", EXPIRATION, Refused("expiration")),
    ("message_id", MESSAGE_ID, Dead),
    ("type", TYPE, Dead),
    ("user_id", USER_ID, Refused("user_id")),
    ("app_id", APP_ID, Dead),
    ("cluster_id", CLUSTER_ID, Dead),
];

/// Bytes that are not UTF-8, wherever there is a string.
fn not_utf8() -> Vec<Odd> {
    let mut odd: Vec<Odd> = STRINGS
        .map(|(name, bit, fate)| Odd::new(format!("{name} not utf8"), fate, vec![(bit, short(NOT_UTF8))]))
        .into();
    let inner = long(&entry(NOT_UTF8, b'V', b""));
    odd.extend([
        // Until it is in the quarantine, whose routing key it has from there.
        Odd { routing_key: NOT_UTF8, ..Odd::new("routing key not utf8", Answered, Vec::new()) },
        Odd::header("header name not utf8", Dead, &entry(NOT_UTF8, b'V', b"")),
        Odd::header("header name in a table not utf8", Dead, &entry(b"h", b'F', &inner)),
        // Long strings are bytes, not texts.
        Odd::header("header value not utf8", Answered, &entry(b"h", b'S', &long(NOT_UTF8))),
        Odd::header("event id not utf8", Answered, &entry(b"cloudEvents:id", b'S', &long(NOT_UTF8))),
        Odd::header("traceparent not utf8", Answered, &entry(b"traceparent", b'S', &long(NOT_UTF8))),
    ]);
    odd
}

/// Texts and numbers at the ends of what they may be.
fn extreme() -> Vec<Odd> {
    let strings = |value: &[u8]| -> Vec<(u16, Vec<u8>)> {
        let others = STRINGS.iter().filter(|(_, _, fate)| *fate == Dead);
        others.map(|(_, bit, _)| (*bit, short(value))).collect()
    };
    vec![
        Odd::new("longest strings", Answered, strings(&[b'x'; 255])),
        Odd::new("empty strings", Answered, strings(b"")),
        Odd::new("highest numbers", Answered, vec![(PRIORITY, vec![255]), (TIMESTAMP, vec![255; 8])]),
        Odd::new("delivery mode", RefusedOnce("delivery_mode"), vec![(DELIVERY_MODE, vec![7])]),
        Odd::new("expiration negative", Refused("expiration"), vec![(EXPIRATION, short(b"-1"))]),
        Odd::new("expiration no number", Refused("expiration"), vec![(EXPIRATION, short(b""))]),
        Odd::new("expiration long", Answered, vec![(EXPIRATION, short(b"4294967295"))]),
        Odd::new("user of another", Refused("user_id"), vec![(USER_ID, short(b""))]),
    ]
}

/// A header of every type that AMQP knows, and of one that it does not.
fn types() -> Vec<Odd> {
    let nan = f64::NAN.to_be_bytes();
    let types: [(&str, Fate, u8, &[u8]); 20] = [
        ("boolean 7", Answered, b't', &[7]),
        ("i8", Answered, b'b', &[0xff]),
        ("u8", Answered, b'B', &[0xff]),
        ("i16", Answered, b's', &[0xff; 2]),
        ("u16", Answered, b'u', &[0xff; 2]),
        ("i32", Answered, b'I', &[0xff; 4]),
        ("u32", Answered, b'i', &[0xff; 4]),
        ("i64", Answered, b'l', &[0xff; 8]),
        ("u64", Answered, b'L', &[0xff; 8]),
        ("float", Answered, b'f', &[0x7f, 0x7f, 0xff, 0xff]),
        // RabbitMQ has no such number.
        ("not a number", Refused("INTERNAL_ERROR"), b'd', &nan),
        ("decimal", Answered, b'D', &[0xff; 5]),
        ("timestamp", Answered, b'T', &[0xff; 8]),
        ("void", Answered, b'V', b""),
        ("bytes", Answered, b'x', &[0, 0, 0, 1, 0xff]),
        ("empty text", Answered, b'S', &[0; 4]),
        ("empty array", Answered, b'A', &[0; 4]),
        ("empty table", Answered, b'F', &[0; 4]),
        ("no type", Refused("INTERNAL_ERROR"), b'Z', b""),
        ("longer than its frame", Refused("INTERNAL_ERROR"), b'S', &[0xff; 4]),
    ];
    types.map(|(name, fate, kind, value)| Odd::header(name, fate, &entry(b"h", kind, value))).into()
}

/// Names that mean something, with what they do not mean; and too many names.
fn forged() -> Vec<Odd> {
    let table = |entries: &[u8]| [b"F".as_slice(), &long(entries)].concat();
    let deaths = long(&table(&entry(b"count", b'S', &long(b"many"))));
    let many: Vec<u8> = (0..5000).flat_map(|number| entry(format!("h{number}").as_bytes(), b'V', b"")).collect();
    let twice = [entry(b"h", b'I', &[0; 4]), entry(b"h", b'V', b"")].concat();
    vec![
        Odd::header("deaths no list", Answered, &entry(b"x-death", b'S', &long(b"x"))),
        Odd::header("deaths not counted", Answered, &entry(b"x-death", b'A', &deaths)),
        Odd::header("deliveries huge", Answered, &entry(b"x-delivery-count", b'l', &[0x7f; 8])),
        Odd::header("deliveries no number", Answered, &entry(b"x-delivery-count", b'S', &long(b"x"))),
        Odd::header("reason of ours", Answered, &entry(b"cancel-worker-reason", b'F', &long(b""))),
        Odd::header("event no text", Answered, &entry(b"cloudEvents:specversion", b'd', &1.0_f64.to_be_bytes())),
        Odd::header("event a table", Answered, &entry(b"cloudEvents_id", b'F', &long(b""))),
        Odd::header("traceparent a number", Answered, &entry(b"traceparent", b'I', &[0; 4])),
        Odd::header("queues no list", Refused("CC"), &entry(b"CC", b'S', &long(b"x"))),
        Odd::header("five thousand", Answered, &many),
        Odd::header("one name twice", Answered, &twice),
        Odd::header("no name", Answered, &entry(b"", b'V', b"")),
    ]
}

#[tokio::test]
async fn odd_properties_are_refused_or_answered_or_dead_and_harm_nobody_beside_them() {
    let mut env = TestEnv::new().await;
    // Ten messages end six sessions each here, and then those with the quarantine.
    env.set("amqp.reconnect_initial", "10ms");
    env.set("amqp.reconnect_max", "10ms");
    let worker = env.worker().await;
    let mut odd: Vec<Odd> = [not_utf8(), extreme(), types(), forged()].into_iter().flatten().collect();
    let told = publish(&env, &odd).await;
    for (message, told) in odd.iter_mut().zip(told) {
        match message.fate {
            RefusedOnce(_) if told.is_ok() => message.fate = Answered,
            Refused(word) | RefusedOnce(word) => {
                assert!(told.as_ref().is_err_and(|told| told.contains(word)), "{}: {told:?}", message.name);
            }
            Answered | Dead => assert_eq!(told, Ok(()), "{}", message.name),
        }
    }

    let of =
        |fate: Fate| odd.iter().filter(move |message| message.fate == fate).map(|message| message.ids()[0].clone());
    let good = of(Answered).chain(odd.iter().map(|message| message.ids()[1].clone()));
    let wanted: BTreeSet<_> =
        good.map(|id| (event_id(&request_key(&id), "cancelled"), "cancelled".to_owned())).collect();
    assert_eq!(env.answers(wanted.len()).await, wanted);

    let dead: BTreeSet<String> = of(Dead).collect();
    env.depth_becomes("dead", u32::try_from(dead.len()).unwrap()).await;
    let letters = take_raw(&env, "dead").await;
    let id = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["request_id"].as_str().unwrap().to_owned();
    assert_eq!(letters.iter().map(|letter| id(&letter.body)).collect::<BTreeSet<_>>(), dead, "dead letters");

    // The same process all the while.
    env.request("cancels-last").await;
    assert_eq!(env.event_for("cancels-last").await.outcome(), "cancelled");
    let lines = worker.lines();
    assert_eq!(lines.iter().filter(|line| line.contains("\"starting\"")).count(), 1);
    assert!(!lines.iter().any(|line| line.contains("panicked")), "{}", lines.join("\n"));
    env.end().await;
}

/// What expires at once may be delivered before it does. Otherwise it is past its deadline, and answered once it is cancelled.
#[tokio::test]
async fn what_expires_in_the_queue_is_answered_too() {
    let mut env = TestEnv::new().await;
    let mut first = env.worker().await;
    first.signal("TERM");
    first.wait().await;
    let expires = |name, time: &[u8]| Odd::new(name, Answered, vec![(EXPIRATION, short(time))]);
    let odd = [expires("expiration zero", b"0"), expires("expiration soon", b"100")];
    assert_eq!(publish(&env, &odd).await, [Ok(()), Ok(())]);
    // What is at a queue's head expires in it, the other when it comes there.
    env.depth_becomes("quarantine", 1).await;
    sleep(Duration::from_millis(200)).await;
    let _second = env.worker().await;
    for [id, after] in odd.map(|message| message.ids()) {
        let event = env.event_for(&id).await;
        // It is cancelled within 50 ms. Whether the worker still sees that is a matter of its deadline, which is now.
        assert!(["cancelled", "failed: deadline_exceeded"].contains(&event.verdict().as_str()), "{}", event.data());
        assert_eq!(env.api.calls(&id).await["cancel_calls"], 1);
        assert_eq!(env.event_for(&after).await.outcome(), "cancelled");
    }
    env.end().await;
}

/// Publishes them, each with an ordinary request after it. What the broker said where it refused one.
async fn publish(env: &TestEnv, odd: &[Odd]) -> Vec<Result<(), String>> {
    let exchange = env.queue("requests");
    let messages = odd.iter().map(|message| {
        let [odd, after] = message.ids().map(|id| request(&id, json!({})).to_string());
        (message.routing_key, Raw::new(&message.properties, odd), Raw::new(&[], after))
    });
    let messages: Vec<_> = messages.collect();
    let publishing = move || {
        let mut wire = Wire::open();
        let each = messages.into_iter().map(|(routing_key, odd, after)| {
            let told = wire.publish(exchange.as_bytes(), routing_key, &odd);
            if told.is_err() {
                wire = Wire::open();
            }
            wire.publish(exchange.as_bytes(), b"cancel", &after).unwrap();
            told
        });
        each.collect()
    };
    tokio::task::spawn_blocking(publishing).await.unwrap()
}
