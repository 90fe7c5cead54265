use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeleteOptions};
use lapin::{BasicProperties, Confirmation};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

use crate::event::Event;
use crate::mailbox::Mailbox;
use crate::support::{Amqp, Broker, Process, SimulatedApi, persistent, worker_command};
pub use crate::support::{event_id, key_of, operation, request_key, variable};

/// How long anything may take that takes a moment on a machine with nothing else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

const WAIT_LEVELS: [&str; 9] = ["1s", "2s", "5s", "10s", "20s", "30s", "1m", "2m", "5m"];

/// One test's stage: queues of its own on a real broker, a simulated API as a process of its own, the settings of the
/// workers that play on it, and a mailbox for the events that they publish.
pub struct TestEnv {
    pub prefix: String,
    pub amqp: Amqp,
    pub api: SimulatedApi,
    uri: String,
    /// And other variables of the environment, by name.
    settings: BTreeMap<String, String>,
    mailbox: Option<Mailbox>,
}

impl TestEnv {
    /// On the broker that all tests share.
    pub async fn new() -> Self {
        Self::on(Broker::shared()).await
    }

    /// On this broker.
    pub async fn on(broker: &Broker) -> Self {
        let (amqp, api) = (Amqp::connect(broker.uri()).await, SimulatedApi::start().await);
        let (prefix, uri) = (Broker::unique_prefix(), broker.uri().to_owned());
        let settings = [("amqp.uri", uri.as_str()), ("amqp.topology.prefix", &prefix), ("api.endpoint", api.url())];
        let mut settings: BTreeMap<_, _> =
            settings.map(|(setting, value)| (variable(setting), value.to_owned())).into();
        // So that what the API refuses is answered at once.
        settings.insert(variable("api.refusal_grace"), "0s".to_owned());
        Self { prefix, amqp, api, uri, settings, mailbox: None }
    }

    /// Sets a setting of the commands that are started from now on: `set("amqp.prefetch", "512")`.
    pub fn set(&mut self, setting: &str, value: &str) {
        self.settings.insert(variable(setting), value.to_owned());
    }

    /// Sets any other variable of the environment of the commands that are started from now on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.settings.insert(name.to_owned(), value.to_owned());
    }

    /// The settings as environment variables.
    pub fn environment(&self) -> Vec<(&str, &str)> {
        self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// Starts a worker, and waits until it consumes. Its events are collected from then on.
    pub async fn worker(&mut self) -> Process {
        let worker = self.starting_worker();
        worker.line_with("\"consuming\"", PATIENCE).await;
        if self.settings.get(&variable("amqp.topology.results")).is_none_or(|results| results != "false") {
            self.collect_events().await;
        }
        worker
    }

    /// Starts a worker.
    pub fn starting_worker(&self) -> Process {
        Process::worker(&["run", "--name", "tested"], &self.environment())
    }

    /// Opens the mailbox for the events of the results queue, unless it is open.
    pub async fn collect_events(&mut self) {
        if self.mailbox.is_none() {
            self.mailbox = Some(Mailbox::open(&self.uri, &self.queue("results")).await);
        }
    }

    /// Connects anew, to a broker that has restarted. Events that came before are still known.
    pub async fn reconnect(&mut self) {
        self.amqp = Amqp::connect(&self.uri).await;
        let queue = self.queue("results");
        if let Some(mailbox) = &mut self.mailbox {
            mailbox.reopen(&self.uri, &queue).await;
        }
    }

    /// The full name of one of the worker's queues or exchanges.
    pub fn queue(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Publishes the request to cancel the operation with this id, which is the request's identity too.
    pub async fn request(&self, id: &str) {
        self.request_with(id, json!({})).await;
    }

    /// The same, with further fields.
    pub async fn request_with(&self, id: &str, fields: Value) {
        self.publish(request(id, fields).to_string().as_bytes(), properties()).await;
    }

    /// Publishes any message where requests are published.
    pub async fn publish(&self, body: &[u8], properties: BasicProperties) {
        let confirmation = self.amqp.publish(&self.queue("requests"), "cancel", body, properties).await;
        assert_eq!(confirmation, Confirmation::Ack(None), "the broker did not take a request");
    }

    /// Publishes a request for each id, so many of them at once, and returns those ids that the broker confirmed: all,
    /// unless the broker fails meanwhile.
    pub async fn flood<'a>(&self, ids: &[&'a str], at_once: usize) -> Vec<&'a str> {
        let channel = self.amqp.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let (channel, exchange) = (&channel, self.queue("requests"));
        let publishing = ids.iter().map(async |id| {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let body = request(id, json!({})).to_string();
            let (exchange, key) = (exchange.as_str().into(), "cancel".into());
            let sent = channel.basic_publish(exchange, key, options, body.as_bytes(), properties()).await;
            let confirmed = timeout(PATIENCE, sent.ok()?).await;
            matches!(confirmed, Ok(Ok(Confirmation::Ack(None)))).then_some(*id)
        });
        futures_util::stream::iter(publishing).buffer_unordered(at_once).filter_map(std::future::ready).collect().await
    }

    /// The event for the request with this identity, as soon as there is one.
    pub async fn event_for(&self, identity: &str) -> Event {
        self.event_within(identity, PATIENCE).await
    }

    /// The same, if it comes in time.
    pub async fn event_within(&self, identity: &str, limit: Duration) -> Event {
        let events = self.mailbox().when(limit, |events| events.iter().any(|event| event.is_for(identity))).await;
        let found = events.into_iter().find(|event| event.is_for(identity));
        found.unwrap_or_else(|| panic!("no event for {identity:?} within {limit:?}"))
    }

    /// All events so far, as soon as there are so many; those that there are when the time is over.
    pub async fn events(&self, count: usize, limit: Duration) -> Vec<Event> {
        self.mailbox().when(limit, |events| events.len() >= count).await
    }

    /// The event ids with their outcomes, as soon as there are so many; those that there are when the time is over. What
    /// is delivered again may be answered again: with the same id and outcome, it is here once.
    pub async fn answers(&self, count: usize) -> BTreeSet<(String, String)> {
        let pair = |event: &Event| (event.id().to_owned(), event.outcome().to_owned());
        let answers = |events: &[Event]| events.iter().map(pair).collect::<BTreeSet<_>>();
        answers(&self.mailbox().when(PATIENCE, |events| answers(events).len() >= count).await)
    }

    /// Takes so many messages out of the dead queue. Waits for them.
    pub async fn dead_letters(&self, count: u16) -> Vec<Delivery> {
        let letters = self.amqp.drain(&self.queue("dead"), count, PATIENCE).await;
        assert_eq!(letters.len(), usize::from(count), "dead letters within {PATIENCE:?}");
        letters
    }

    /// How many messages are ready in one of the worker's queues.
    pub async fn depth(&self, queue: &str) -> u32 {
        self.amqp.queue_depth(&self.queue(queue)).await.unwrap()
    }

    /// Waits until so many messages are ready in one of the worker's queues.
    pub async fn depth_becomes(&self, queue: &str, expected: u32) {
        let mut depth = self.depth(queue).await;
        let end = Instant::now() + PATIENCE;
        while depth != expected {
            assert!(Instant::now() < end, "{depth} messages in {queue}, and not {expected}");
            sleep(Duration::from_millis(50)).await;
            depth = self.depth(queue).await;
        }
    }

    /// Ready and unacknowledged messages by queue, without the prefix; queues without any are left out. Only on
    /// [`Broker::observable`].
    pub async fn census(&self) -> BTreeMap<String, (u32, u32)> {
        let listing = ["--silent", "list_queues", "name", "messages_ready", "messages_unacknowledged"];
        let table = tokio::task::spawn_blocking(move || Broker::observable().ctl(listing)).await.unwrap();
        let prefix = format!("{}.", self.prefix);
        let row = |line: &str| {
            let mut columns = line.split('\t');
            let queue = columns.next()?.strip_prefix(&prefix)?.to_owned();
            Some((queue, (columns.next()?.parse().unwrap(), columns.next()?.parse().unwrap())))
        };
        table.lines().filter_map(row).filter(|(_, messages)| *messages != (0, 0)).collect()
    }

    /// Waits until the census is this. What the broker tells may be some seconds old.
    pub async fn census_becomes(&self, expected: &[(&str, (u32, u32))]) {
        let expected = expected.iter().map(|(queue, messages)| ((*queue).to_owned(), *messages)).collect();
        let end = Instant::now() + PATIENCE;
        let mut census = self.census().await;
        while census != expected {
            assert!(Instant::now() < end, "in the queues: {census:?}, and not {expected:?}");
            sleep(Duration::from_millis(500)).await;
            census = self.census().await;
        }
    }

    /// Takes the queues away, since many queues make a broker slow.
    pub async fn end(self) {
        let channel = self.amqp.channel().await;
        let waits = WAIT_LEVELS.map(|level| format!("wait.{level}"));
        for queue in ["requests", "followups", "results", "quarantine", "dead"]
            .into_iter()
            .chain(waits.iter().map(String::as_str))
        {
            channel.queue_delete(self.queue(queue).into(), QueueDeleteOptions::default()).await.unwrap();
        }
    }

    fn mailbox(&self) -> &Mailbox {
        self.mailbox.as_ref().expect("no worker was started yet, so there is no queue of events")
    }
}

/// How a command ended, and what it printed.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `cancel-worker` to its end. Settings of the caller's environment do not reach it.
pub async fn run_command(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Ended {
    let mut command = worker_command(arguments, environment);
    command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read it has closed it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    let ended = timeout(PATIENCE, child.wait_with_output()).await;
    let output = ended.unwrap_or_else(|_| panic!("{arguments:?} still runs after {PATIENCE:?}")).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The request to cancel the operation with this id, which is the request's identity too.
pub fn request(id: &str, fields: Value) -> Value {
    let mut request = json!({ "name": operation(id), "request_id": id });
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    request
}

/// The properties of a well-made request.
pub fn properties() -> BasicProperties {
    persistent().with_content_type("application/json".into())
}
