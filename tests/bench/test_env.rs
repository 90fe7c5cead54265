//! What both contenders work on: the broker, its queues, and the scripted API.

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use lapin::Channel;
use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::process::{self, Process};
use crate::support::{Amqp, Broker};

/// The levels of the wait queues. Nothing waits in the first; the other holds what is parked for longer than any run.
pub const WAIT_LEVELS: [&str; 2] = ["1s", "1h"];

/// How long a process that was started may take until it works.
pub const START: Duration = Duration::from_secs(30);

/// What the broker says of unacknowledged messages is at most this old: it counts them every 5 s.
pub const COUNTED: Duration = Duration::from_secs(6);

/// Between two looks while something is awaited that is not measured.
const LOOK: Duration = Duration::from_millis(50);

/// The worker's queues and exchanges. The worker declares them.
#[derive(Clone)]
pub struct Topology {
    pub prefix: String,
}

impl Topology {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub fn requests_exchange(&self) -> String {
        self.name("requests")
    }

    pub fn requests_queue(&self) -> String {
        self.name("requests")
    }

    pub fn followups_queue(&self) -> String {
        self.name("followups")
    }

    pub fn events_exchange(&self) -> String {
        self.name("events")
    }

    pub fn results_queue(&self) -> String {
        self.name("results")
    }

    pub fn wait_queues(&self) -> Vec<String> {
        WAIT_LEVELS.iter().map(|level| self.name(&format!("wait.{level}"))).collect()
    }

    fn queues(&self) -> Vec<String> {
        let mut queues = ["requests", "followups", "results", "dead"].map(|name| self.name(name)).to_vec();
        queues.extend(self.wait_queues());
        queues
    }

    fn exchanges(&self) -> [String; 5] {
        ["requests", "followups", "wait", "events", "dead"].map(|name| self.name(name))
    }

    fn name(&self, what: &str) -> String {
        format!("{}.{what}", self.prefix)
    }
}

/// The broker and the API.
pub struct TestEnv {
    pub topology: Topology,
    pub broker_uri: String,
    /// The broker's process, where it is on this machine and known.
    pub broker_id: Option<u32>,
    /// Base URL of the API.
    pub endpoint: String,
    http: reqwest::Client,
    simulator: Process,
    amqp: Amqp,
    folder: TempDir,
    /// Ends with the stage; `None` if the broker is somebody else's.
    private: Option<RefCell<Broker>>,
}

/// What the API was asked since its start.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Calls {
    #[serde(rename = "cancel_calls")]
    pub cancel: u64,
    #[serde(rename = "get_calls")]
    pub get: u64,
}

impl TestEnv {
    /// Starts the broker, unless the environment names one, and the scripted API.
    pub async fn set() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (broker_uri, mut private) = match std::env::var("CANCEL_WORKER_TEST_AMQP") {
            Ok(uri) => (uri, None),
            Err(_) => {
                let broker = Broker::private();
                (broker.uri().to_owned(), Some(broker))
            }
        };
        let broker_id = private.as_mut().and_then(broker_id);
        let amqp = Amqp::connect(&broker_uri).await;
        let mut simulator = start_simulator(folder.path())?;
        let endpoint = base_url(&mut simulator).await?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let topology = Topology { prefix: Broker::unique_prefix() };
        Ok(Self {
            topology,
            broker_uri,
            broker_id,
            endpoint,
            http,
            simulator,
            amqp,
            folder,
            private: private.map(RefCell::new),
        })
    }

    /// Takes away what would stay: the queues on somebody else's broker.
    pub async fn clear(&self) {
        if self.private.is_some() {
            return;
        }
        let Ok(channel) = self.channel().await else { return };
        // A queue or exchange that is not there is deleted without an error.
        for queue in self.topology.queues() {
            let _gone = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
        }
        for exchange in self.topology.exchanges() {
            let _gone = channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await;
        }
    }

    /// For settings and logs; it goes with the stage.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn simulator_id(&self) -> u32 {
        self.simulator.id()
    }

    pub async fn channel(&self) -> anyhow::Result<Channel> {
        Ok(self.amqp.channel().await)
    }

    /// Removes all messages.
    pub async fn purge(&self) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        for queue in self.topology.queues() {
            channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
        }
        Ok(())
    }

    /// Waits until the worker has declared everything.
    pub async fn declared(&self, worker: &mut Process) -> anyhow::Result<()> {
        let end = Instant::now() + START;
        for queue in self.topology.queues() {
            while self.amqp.queue_depth(&queue).await.is_none() {
                worker.check_alive()?;
                ensure!(Instant::now() < end, "no queue {queue} within {START:?}:\n{}", worker.last_words());
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// How many messages of the two work queues are ready or unacknowledged, as the broker counts them every few seconds
    /// ([`COUNTED`]); `None` if it is not ours to ask.
    pub fn unsettled(&self) -> anyhow::Result<Option<u64>> {
        let Some(broker) = &self.private else { return Ok(None) };
        let listed = broker.borrow_mut().ctl(["list_queues", "--quiet", "--no-table-headers", "name", "messages"]);
        let work = [self.topology.requests_queue(), self.topology.followups_queue()];
        let counts =
            listed.lines().filter_map(|line| line.split_once('\t')).filter(|(name, _)| work.iter().any(|w| w == name));
        let counts: Vec<u64> = counts.map(|(_, count)| count.trim().parse()).collect::<Result<_, _>>()?;
        ensure!(counts.len() == work.len(), "failed to find {work:?} among the broker's queues:\n{listed}");
        Ok(Some(counts.iter().sum()))
    }

    /// What the API was asked so far.
    pub async fn calls(&self) -> anyhow::Result<Calls> {
        let answer = self.http.get(format!("{}/control/stats", self.endpoint)).send().await?.error_for_status()?;
        serde_json::from_slice(&answer.bytes().await?).context("read the simulator's totals")
    }
}

/// How many messages are ready in a queue: cheap for the broker, so that it may be asked often.
pub async fn depth(channel: &Channel, queue: &str) -> anyhow::Result<u32> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
    Ok(channel.queue_declare(queue.into(), options, FieldTable::default()).await?.message_count())
}

/// The node's process, if it is one of this machine's (in a container it has another id here).
fn broker_id(broker: &mut Broker) -> Option<u32> {
    let answer = broker.ctl(["eval", "os:getpid()."]);
    let id = answer.trim().trim_matches('"').parse().ok()?;
    process::command_name(id).is_some_and(|name| name.starts_with("beam")).then_some(id)
}

fn start_simulator(folder: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cancel-worker"));
    command.args(["simulate", "--listen", "127.0.0.1:0"]);
    Process::start(command, folder.join("simulator.log"))
}

/// The first line that the simulator prints.
async fn base_url(simulator: &mut Process) -> anyhow::Result<String> {
    let end = Instant::now() + START;
    while Instant::now() < end {
        simulator.check_alive()?;
        let printed = simulator.printed();
        if let Some(line) = printed.lines().find(|line| line.starts_with("http://"))
            && printed.ends_with('\n')
        {
            return Ok(line.to_owned());
        }
        sleep(LOOK).await;
    }
    bail!("the simulator did not say where it listens, within {START:?}:\n{}", simulator.last_words())
}
