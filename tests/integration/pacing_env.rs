//! A worker before two locations, each served by a simulator of its own.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::Duration;

use cancel_worker::simulator::{Simulator, SimulatorOptions};
use futures_util::{StreamExt as _, future};
use lapin::Confirmation;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::support::{Amqp, Broker, Process, free_port, persistent};

/// The location that gets into trouble.
pub const BROKEN: &str = "us-central1";

/// The location that stays as it is.
pub const SOUND: &str = "europe-west1";

/// A simulated API on a port of its own. It can be stopped, and started again there.
pub struct Api {
    port: u16,
    served: Option<JoinHandle<()>>,
    http: reqwest::Client,
}

impl Api {
    /// Refuses connections until it is started.
    pub fn down() -> Self {
        Self { port: free_port(), served: None, http: reqwest::Client::new() }
    }

    pub async fn up() -> Self {
        let mut api = Self::down();
        api.start().await;
        api
    }

    pub async fn start(&mut self) {
        let options = SimulatorOptions { listen: ([127, 0, 0, 1], self.port).into(), ..SimulatorOptions::default() };
        let simulator = Simulator::bind(options).await.unwrap();
        self.served = Some(tokio::spawn(async move { simulator.serve(future::pending()).await.unwrap() }));
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub async fn weather(&self, weather: Value) {
        let url = format!("{}/control/weather", self.url());
        let answer = self.http.put(url).body(weather.to_string()).send().await.unwrap();
        assert!(answer.status().is_success());
    }

    /// Calls of any kind so far.
    pub async fn calls(&self) -> u64 {
        let stats = self.read("/control/stats").await;
        stats["cancel_calls"].as_u64().unwrap() + stats["get_calls"].as_u64().unwrap()
    }

    /// When the calls for these operations came, in milliseconds.
    pub async fn times(&self, ids: &[String]) -> Vec<i64> {
        let mut times = Vec::new();
        for id in ids {
            let calls = self.read(&format!("/control/calls?id={id}")).await;
            times.extend(calls["calls"].as_array().unwrap().iter().map(|call| call["at_ms"].as_i64().unwrap()));
        }
        times.sort_unstable();
        times
    }

    async fn read(&self, path: &str) -> Value {
        let answer = self.http.get(format!("{}{path}", self.url())).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(served) = &self.served {
            served.abort();
        }
    }
}

/// A result event.
pub struct Event {
    pub id: String,
    pub data: Value,
    pub at: Instant,
}

/// A worker with queues of its own, and those who publish to it and listen to it.
pub struct TestEnv {
    pub worker: Process,
    prefix: String,
    amqp: Amqp,
    events: mpsc::UnboundedReceiver<Event>,
    early: HashMap<String, Event>,
    _settings: NamedTempFile,
}

impl TestEnv {
    pub async fn start(broken: &Api, sound: &Api, settings: &str) -> Self {
        Self::start_on(Broker::shared(), broken, sound, settings).await
    }

    pub async fn start_on(broker: &Broker, broken: &Api, sound: &Api, settings: &str) -> Self {
        let prefix = Broker::unique_prefix();
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        write!(
            file,
            "[amqp]\nuri = {:?}\ntopology.prefix = {prefix:?}\n[api.endpoints]\n{BROKEN} = {:?}\n{SOUND} = {:?}\n{settings}",
            broker.uri(),
            broken.url(),
            sound.url(),
        )
        .unwrap();
        let worker = Process::worker(&["run", "--config", file.path().to_str().unwrap()], &[]);
        worker.line_with("consuming", Duration::from_secs(30)).await;
        let amqp = Amqp::connect(broker.uri()).await;
        let events = listen(&amqp, &prefix).await;
        Self { worker, prefix, amqp, events, early: HashMap::new(), _settings: file }
    }

    /// Publishes requests for operations with these ids, known by their ids, and waits until all are confirmed.
    pub async fn request(&self, location: &str, ids: &[String], more: Value) {
        let channel = self.amqp.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let exchange = format!("{}.requests", self.prefix);
        let mut confirms = Vec::new();
        for id in ids {
            let mut body =
                json!({"name": format!("projects/p/locations/{location}/operations/{id}"), "request_id": id});
            body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let body = body.to_string();
            let publish =
                channel.basic_publish(exchange.as_str().into(), "r".into(), options, body.as_bytes(), persistent());
            confirms.push(publish.await.unwrap());
        }
        for confirm in confirms {
            assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None));
        }
    }

    /// The next event of whatever operation.
    pub async fn next(&mut self, limit: Duration) -> Event {
        if let Some(id) = self.early.keys().next().cloned() {
            return self.early.remove(&id).unwrap();
        }
        timeout(limit, self.events.recv()).await.expect("no event in time").expect("events end")
    }

    /// The event of this operation; others are kept.
    pub async fn event_of(&mut self, id: &str, limit: Duration) -> Event {
        let end = Instant::now() + limit;
        loop {
            if let Some(event) = self.early.remove(id) {
                return event;
            }
            let left = end.saturating_duration_since(Instant::now());
            let event = timeout(left, self.events.recv()).await.expect("no event in time").expect("events end");
            self.early.insert(event.id.clone(), event);
        }
    }

    /// How long an answer takes for operations of the sound location, one after the other while `time` lasts.
    pub async fn latencies(&mut self, time: Duration) -> Vec<Duration> {
        let end = Instant::now() + time;
        let mut taken = Vec::new();
        while Instant::now() < end {
            let id = format!("unimplemented-s{:016x}", fastrand::u64(..));
            let began = Instant::now();
            self.request(SOUND, std::slice::from_ref(&id), json!({})).await;
            taken.push(self.event_of(&id, Duration::from_secs(30)).await.at - began);
        }
        taken.sort_unstable();
        taken
    }

    pub async fn dead(&self) -> Option<u32> {
        self.amqp.queue_depth(&format!("{}.dead", self.prefix)).await
    }
}

/// So many ids that follow a script, each different from those of any other call.
pub fn ids(script: &str, count: usize) -> Vec<String> {
    let unique = fastrand::u64(..);
    (0..count).map(|number| format!("{script}-x{unique:016x}-{number}")).collect()
}

async fn listen(amqp: &Amqp, prefix: &str) -> mpsc::UnboundedReceiver<Event> {
    let (sender, events) = mpsc::unbounded_channel();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let channel = amqp.channel().await;
    let queue = format!("{prefix}.results");
    let mut consumer =
        channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default()).await.unwrap();
    tokio::spawn(async move {
        // The channel lives as long as its consumer.
        let _channel = channel;
        while let Some(Ok(delivery)) = consumer.next().await {
            let event: Value = serde_json::from_slice(&delivery.data).unwrap();
            let data = event["data"].clone();
            let id = data["request_id"].as_str().unwrap().to_owned();
            if sender.send(Event { id, data, at: Instant::now() }).is_err() {
                break;
            }
        }
    });
    events
}
