//! Messages that end the process, or every session that they are delivered in, where nobody sees to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use cancel_worker::broker::rabbitmq::RabbitMq;
use cancel_worker::broker::{Broker, BrokerError, SessionKind};
use cancel_worker::cancellation::Reply;
use cancel_worker::message::OperationName;
use cancel_worker::operations_api::{Call, CallSent, Client, Operations, ServingEndpoint};
use cancel_worker::settings;
use cancel_worker::worker::{Clock, run_on};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{self, Process};
use crate::test_env::{TestEnv, event_id, request, request_key};
use crate::wire::{LARGEST_HEADERS, Raw, Wire, long, nested, property, short};

#[tokio::test]
async fn headers_that_are_nested_as_deep_as_a_frame_allows_crash_nobody() {
    let mut env = TestEnv::new().await;
    let worker = env.worker().await;
    // Arrays in arrays, tables in tables: 26,000 and 21,000 levels. Each is read, and what can be used is answered.
    for (id, kind) in [("cancels-arrays", b'A'), ("cancels-tables", b'F')] {
        publish(&env, bomb(kind, request(id, json!({})).to_string())).await;
        assert_eq!(env.event_for(id).await.outcome(), "cancelled");
    }
    // What cannot be used is written again, with all its headers, or as many as fit beside ours.
    for (dead, kind) in [(1, b'A'), (2, b'F')] {
        publish(&env, bomb(kind, "{}".to_owned())).await;
        env.depth_becomes("dead", dead).await;
    }
    env.request("cancels-after").await;
    assert_eq!(env.event_for("cancels-after").await.outcome(), "cancelled");
    assert_eq!(lines_with(&worker, "\"consuming\""), 1, "no session was lost");
    env.end().await;
}

fn bomb(kind: u8, body: String) -> Raw {
    Raw::new(&[(property::HEADERS, long(&nested(kind, LARGEST_HEADERS)))], body)
}

/// Two of the three cannot even be parsed; handling the third panics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_messages_that_end_every_session_take_none_of_a_thousand_others_with_them() {
    let mut env = TestEnv::new().await;
    let ids = thousand();
    fill(&mut env, &ids).await;
    let (opened, stop) = (Arc::new(Opened::default()), CancellationToken::new());
    let workers = [(), ()].map(|()| tokio::spawn(worker(&env, &opened, &stop)));

    let verdict = |id: &String| {
        let (outcome, reason) = (expected(id), if id == PANICS { ": gave_up" } else { "" });
        (event_id(&request_key(id), &format!("{outcome}{reason}")), outcome.to_owned())
    };
    let wanted: BTreeSet<_> = ids.iter().chain([&PANICS.to_owned()]).map(verdict).collect();
    let answers = env.answers(wanted.len()).await;
    // What else was taken along is known only when the last of them is dead.
    env.depth_becomes("dead", 3).await;
    assert_eq!(answers, wanted);
    assert_eq!(env.event_for(PANICS).await.verdict(), "failed: gave_up");
    for queue in ["requests", "followups", "quarantine"] {
        env.depth_becomes(queue, 0).await;
    }
    let dead = take_raw(&env, "dead").await;
    let unparseable: Vec<_> = dead.iter().filter(|letter| letter.has(&short(NOT_UTF8))).collect();
    assert_eq!(unparseable.len(), 2, "as they were published: {dead:?}");
    let bodies: BTreeSet<String> = dead.iter().map(|letter| String::from_utf8(letter.body.clone()).unwrap()).collect();
    let of_panics = request(PANICS, json!({})).to_string();
    assert_eq!(bodies, ["poison 0".to_owned(), "poison 1".to_owned(), of_panics].into());

    stop.cancel();
    for worker in workers {
        worker.await.unwrap();
    }
    let (work, quarantine) = (opened.work.load(Relaxed), opened.quarantine.load(Relaxed));
    println!("{work} sessions of the workers, {quarantine} with the quarantine");
    // Of each worker one is the last, and was not lost.
    assert!(work - 2 <= 24 && quarantine <= 63, "{work} sessions of the workers, {quarantine} with the quarantine");
    env.end().await;
}

/// Its handling panics.
const PANICS: &str = "cancels-panics";

/// How many sessions the workers have opened.
#[derive(Default)]
struct Opened {
    work: AtomicUsize,
    quarantine: AtomicUsize,
}

struct Counted {
    broker: RabbitMq,
    opened: Arc<Opened>,
}

impl Broker for Counted {
    type Session = <RabbitMq as Broker>::Session;

    async fn open(&self, kind: SessionKind) -> Result<Self::Session, BrokerError> {
        let count = match kind {
            SessionKind::Work => &self.opened.work,
            SessionKind::Quarantine => &self.opened.quarantine,
        };
        count.fetch_add(1, Relaxed);
        self.broker.open(kind).await
    }
}

/// The API's client, with a bug.
struct Buggy(Client);

impl Operations for Buggy {
    async fn call(&self, call: Call, name: &OperationName, sent: &CallSent) -> Reply {
        assert!(!name.to_string().contains(PANICS), "the bug");
        self.0.call(call, name, sent).await
    }

    fn endpoint(&self, name: &OperationName) -> Option<ServingEndpoint> {
        self.0.endpoint(name)
    }
}

/// A worker in this process, whose client has the bug.
fn worker(env: &TestEnv, opened: &Arc<Opened>, stop: &CancellationToken) -> impl Future<Output = ()> + use<> {
    let overrides = [
        ("amqp.uri", support::Broker::shared().uri().to_owned()),
        ("amqp.topology.prefix", env.prefix.clone()),
        ("amqp.reconnect_initial", "50ms".to_owned()),
        ("amqp.reconnect_max", "100ms".to_owned()),
        ("api.endpoint", env.api.url().to_owned()),
    ];
    let settings = settings::load(&[], &overrides).unwrap().settings;
    let (opened, stop) = (Arc::clone(opened), stop.clone());
    async move {
        let broker = Arc::new(Counted { broker: RabbitMq::new(&settings.amqp, "buggy", Arc::default()), opened });
        let operations = Buggy(Client::new(&settings.api).unwrap());
        run_on(broker, &settings, operations, "buggy", stop, Arc::default(), Clock::system()).await.unwrap();
    }
}

/// No client library takes a string that is not UTF-8: its connection ends.
const NOT_UTF8: &[u8] = b"\xff\xfe";

/// Requests, some of which take so long that sessions end while they are in hand.
fn thousand() -> Vec<String> {
    let scripts = ["cancels-500ms", "cancels", "completes-300ms", "unimplemented", "cancels-2s", "flaky-1"];
    (0..1000).map(|number| format!("{}-n{number}", scripts[number % scripts.len()])).collect()
}

/// Fills the queue, from which nobody consumes yet: 500 requests, the three, 500 requests.
async fn fill(env: &mut TestEnv, ids: &[String]) {
    let mut declares = env.worker().await;
    declares.signal("TERM");
    declares.wait().await;
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (before, after) = ids.split_at(ids.len() / 2);
    assert_eq!(env.flood(before, 100).await.len(), before.len());
    for number in 0..2 {
        publish(env, Raw::new(&[(property::MESSAGE_ID, short(NOT_UTF8))], format!("poison {number}"))).await;
    }
    env.request(PANICS).await;
    assert_eq!(env.flood(after, 100).await.len(), after.len());
}

fn expected(id: &str) -> &str {
    if id == PANICS {
        return "failed";
    }
    match id.split('-').next().unwrap() {
        "completes" => "completed",
        "unimplemented" => "unimplemented",
        _ => "cancelled",
    }
}

/// Publishes a message as it is, as a request.
async fn publish(env: &TestEnv, message: Raw) {
    let exchange = env.queue("requests");
    let publishing = move || Wire::open().publish(exchange.as_bytes(), b"cancel", &message);
    tokio::task::spawn_blocking(publishing).await.unwrap().unwrap();
}

/// Takes all messages of one of the worker's queues, as they are.
pub async fn take_raw(env: &TestEnv, queue: &str) -> Vec<Raw> {
    let queue = env.queue(queue);
    let taking = move || {
        let mut wire = Wire::open();
        std::iter::from_fn(|| wire.get(&queue)).collect()
    };
    tokio::task::spawn_blocking(taking).await.unwrap()
}

fn lines_with(worker: &Process, text: &str) -> usize {
    worker.lines().iter().filter(|line| line.contains(text)).count()
}
