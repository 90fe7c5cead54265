use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use crate::collector::{Answer, Collector};
use crate::ledger::Ledger;
use crate::requests::LOCATION;
use crate::support::{Amqp, Broker, Process, SimulatedApi, variable};
use crate::upstream::{Target, Upstream};

/// How long anything may take that takes a moment on a machine with nothing else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Every scenario within half a minute or so.
    Short,
    /// What the promise is measured with.
    Long,
}

/// Where a scenario takes place: a broker, queues of its own, the scripted API, and the settings of workers.
pub struct TestEnv {
    pub size: Size,
    pub broker: Broker,
    pub api: SimulatedApi,
    /// Opened with the first worker that consumes.
    collector: Option<Collector>,
    /// All nodes of the broker, for upstream and the collector; workers go by the setting `amqp.uri`.
    uris: Vec<String>,
    prefix: String,
    settings: BTreeMap<String, String>,
    /// Of all requests so far.
    requests: Arc<AtomicUsize>,
    /// Of all workers so far.
    pub ledger: Ledger,
}

/// Fewer events are a trickle.
const FLOW: usize = 10;

/// When a fault ended.
#[derive(Clone, Copy)]
pub struct Mended {
    at: Instant,
    wall: OffsetDateTime,
}

impl TestEnv {
    /// On this node, else on a new one.
    pub async fn set(broker: Option<Broker>, size: Size) -> Self {
        let broker = broker.unwrap_or_else(|| block_in_place(Broker::private));
        let api = SimulatedApi::start().await;
        let uri = broker.uri().to_owned();
        let prefix = Broker::unique_prefix();
        let mut env = Self {
            size,
            broker,
            api,
            collector: None,
            uris: vec![uri.clone()],
            prefix: prefix.clone(),
            settings: BTreeMap::new(),
            requests: Arc::default(),
            ledger: Ledger::default(),
        };
        let endpoint = env.api.url().to_owned();
        for (setting, value) in [("amqp.uri", uri), ("amqp.topology.prefix", prefix), ("api.endpoint", endpoint)] {
            env.set_setting(setting, &value);
        }
        // So that what takes 2 s is parked, and not held.
        env.set_setting("worker.inline_wait", "1s");
        // So that what the API refuses is answered soon.
        env.set_setting("api.refusal_grace", "0s");
        env.set_setting("admin.listen", "127.0.0.1:0");
        env
    }

    /// Takes the queues away, and leaves the node for the next scenario.
    pub async fn strike(self) -> Broker {
        let amqp = Amqp::connect(self.broker.uri()).await;
        let channel = amqp.channel().await;
        for queue in self.queues() {
            channel.queue_delete(queue.into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
        }
        self.broker
    }

    /// One value for the short form, another for the long one.
    pub fn pick<T>(&self, short: T, long: T) -> T {
        match self.size {
            Size::Short => short,
            Size::Long => long,
        }
    }

    /// Sets a setting of the workers that are started from now on.
    pub fn set_setting(&mut self, setting: &str, value: &str) {
        self.settings.insert(variable(setting), value.to_owned());
    }

    /// Lets upstream, the collector and workers use these nodes.
    pub fn set_nodes(&mut self, uris: Vec<String>) {
        self.set_setting("amqp.uri", &uris.join(","));
        self.uris = uris;
    }

    /// The first node that answers.
    pub async fn live_uri(&self) -> &str {
        for uri in &self.uris {
            let address = uri.rsplit_once('@').map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return uri;
            }
        }
        panic!("no node of the broker answers");
    }

    /// The full name of one of the worker's queues or exchanges.
    pub fn name(&self, what: &str) -> String {
        format!("{}.{what}", self.prefix)
    }

    /// All queues, without `results` and `dead` those that a request can be in.
    pub fn queues(&self) -> Vec<String> {
        const QUEUES: [&str; 5] = ["requests", "followups", "results", "quarantine", "dead"];
        const WAITS: [&str; 9] = ["1s", "2s", "5s", "10s", "20s", "30s", "1m", "2m", "5m"];
        let waits = WAITS.map(|level| self.name(&format!("wait.{level}")));
        QUEUES.map(|queue| self.name(queue)).into_iter().chain(waits).collect()
    }

    /// Starts a worker.
    pub fn starting_worker(&self) -> Process {
        let environment: Vec<_> = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let worker = Process::worker(&["run", "--name", "tested"], &environment);
        self.ledger.watch(&worker);
        worker
    }

    /// Starts a worker, and waits until it consumes. Events are collected from then on.
    pub async fn worker(&mut self) -> Process {
        let worker = self.starting_worker();
        worker.line_with("\"consuming\"", PATIENCE).await;
        let (uris, results) = (self.uris.clone(), self.name("results"));
        self.collector.get_or_insert_with(|| Collector::start(uris, results));
        worker
    }

    /// Starts to publish so many further requests, and then some more until it is told to finish. There has to have been a
    /// worker, which declares the queues.
    pub fn upstream(&self, count: usize, per_second: u32) -> Upstream {
        self.upstream_to(LOCATION, count, per_second)
    }

    /// The same, for operations of this location.
    pub fn upstream_to(&self, location: &'static str, count: usize, per_second: u32) -> Upstream {
        let to = Target { exchange: self.name("requests"), location };
        Upstream::start(self.uris.clone(), to, Arc::clone(&self.requests), count, per_second)
    }

    /// How many requests there are.
    pub fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }

    pub fn collector(&self) -> &Collector {
        self.collector.as_ref().expect("no worker was started yet, so there is no queue of events")
    }

    pub fn collector_mut(&mut self) -> &mut Collector {
        self.collector.as_mut().expect("no worker was started yet, so there is no queue of events")
    }

    /// Waits until so many further events have arrived.
    pub async fn more_events(&self, count: usize) {
        let (collector, before) = (self.collector(), self.collector().count());
        let flow = collector.wait(PATIENCE, |answers| answers.len() >= before + count).await;
        assert!(flow, "{} of {count} events within {PATIENCE:?}", collector.count() - before);
    }

    /// Asserts that the worker is not ready now, with these words in the reason.
    pub async fn not_ready(&self, worker: &Process, words: &str) {
        let (status, reasons) = worker.readyz().await;
        assert!(status == 503 && reasons.iter().any(|reason| reason.contains(words)), "{status}, {reasons:?}");
    }

    /// Asserts that the worker is ready, or is soon.
    pub async fn ready(&self, worker: &Process) {
        let end = Instant::now() + Duration::from_secs(5);
        while let (503, reasons) = worker.readyz().await {
            assert!(Instant::now() < end, "still not ready: {reasons:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The fault ends now.
    #[expect(clippy::disallowed_methods, reason = "to be compared with the times in events")]
    pub fn mended(&self) -> Mended {
        Mended { at: Instant::now(), wall: OffsetDateTime::now_utc() }
    }

    /// How long it took until events flowed that were made after the fault's end: until [`FLOW`] of them had arrived. Waits
    /// for them.
    pub async fn recovery(&self, mended: Mended) -> Option<Duration> {
        let arrived = |answers: &[Answer]| {
            let start = answers.partition_point(|answer| answer.arrived < mended.at);
            let mut new = answers[start..].iter().filter(|answer| answer.made >= mended.wall);
            new.nth(FLOW - 1).map(|answer| answer.arrived)
        };
        self.collector().wait(PATIENCE, |answers| arrived(answers).is_some()).await;
        self.collector().look(arrived).map(|at| at - mended.at)
    }
}
