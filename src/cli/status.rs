use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::admin_client::get;
use super::arguments;
use super::exit::Exit;
use super::output::print;
use super::probe::ReadyAnswer;
use super::startup::runtime;
use super::table::table;
use crate::broker::rabbitmq::{Finding, Inspection, MANY_RESULTS, Status, inspect};
use crate::settings::{Loaded, Settings};

/// `status`: what is where. Costs no message a delivery, and changes nothing.
pub(super) fn run(command: &arguments::Status) -> anyhow::Result<Exit> {
    let Loaded { settings, .. } = command.settings.load(&[]).context("failed to look")?;
    let report = runtime(1).context("failed to start the runtime")?.block_on(Report::make(&settings))?;
    print(&if command.json { format!("{}\n", report.json()) } else { report.text() })?;
    Ok(report.exit())
}

struct Report {
    /// Nodes that cannot be used.
    nodes: Vec<String>,
    queues: Vec<QueueRow>,
    problems: Vec<String>,
    worker: Option<WorkerRow>,
}

struct QueueRow {
    name: String,
    ready: u32,
    consumers: u32,
    /// Of a queue without a leader RabbitMQ says that it is empty.
    believed: bool,
}

/// What the worker on this machine says.
struct WorkerRow {
    address: SocketAddr,
    /// Why it is not ready; an error where there is no answer.
    reasons: Result<Vec<String>, String>,
    /// What it has put into the dead queue since it was started.
    letters: BTreeMap<String, u64>,
}

impl Report {
    async fn make(settings: &Settings) -> anyhow::Result<Self> {
        let inspection = inspect(&settings.amqp, "status").await.context("failed to look at the broker")?;
        let worker = match settings.admin.listen {
            Some(address) => Some(WorkerRow::ask(address).await),
            None => None,
        };
        Ok(Self::of(&inspection, settings, worker))
    }

    fn of(inspection: &Inspection, settings: &Settings, worker: Option<WorkerRow>) -> Self {
        let unusable = |(_, node): &(_, Result<(), crate::broker::BrokerError>)| Some(node.as_ref().err()?.to_string());
        let nodes = inspection.nodes.iter().filter_map(unusable).collect();
        let (mut queues, mut problems) = (Vec::new(), Vec::new());
        for Finding { what, queue, status } in &inspection.topology {
            match (status, queue) {
                (Ok(Status::Queue { messages, consumers, believed }), Some(name)) => {
                    queues.push(QueueRow {
                        name: name.clone(),
                        ready: *messages,
                        consumers: *consumers,
                        believed: *believed,
                    });
                }
                (Ok(Status::ToBeDeclared), _) => {
                    problems
                        .push(format!("{what} is not there; a worker makes it when it starts, and within a minute"));
                }
                (Ok(_), _) => {}
                (Err(error), _) => problems.push(error.to_string()),
            }
        }
        let mut report = Self { nodes, queues, problems, worker };
        report.look_at(settings);
        report
    }

    /// What the numbers mean.
    fn look_at(&mut self, settings: &Settings) {
        let prefix = &settings.amqp.topology.prefix;
        let external = &settings.amqp.topology.external;
        let own = |name: Option<&String>, ours: &str| name.cloned().unwrap_or_else(|| format!("{prefix}.{ours}"));
        for row in &self.queues {
            let QueueRow { name, ready, consumers, believed } = row;
            if !believed {
                self.problems.push(format!(
                    "queue {name:?} does not answer: it has no leader, or may not be read; it need not be empty"
                ));
            } else if *consumers == 0 && *ready > 0 && *name == own(external.requests_queue.as_ref(), "requests") {
                self.problems.push(format!("{ready} requests wait in {name:?}, and no worker takes them"));
            } else if *consumers == 0
                && *name == own(external.results_queue.as_ref(), "results")
                && *ready > MANY_RESULTS
            {
                self.problems.push(format!(
                    "{ready} events wait in {name:?}, and nobody takes them: take them, or set amqp.topology.results = false and delete the queue"
                ));
            }
        }
        if let Some(WorkerRow { reasons: Ok(reasons), .. }) = &self.worker {
            self.problems.extend(reasons.iter().map(|reason| format!("the worker is not ready: {reason}")));
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self { queues, problems, .. } if queues.is_empty() && problems.is_empty() => Exit::Broker,
            Self { problems, nodes, .. } if problems.is_empty() && nodes.is_empty() => Exit::Success,
            _ => Exit::Failure,
        }
    }

    fn text(&self) -> String {
        let row = |row: &QueueRow| {
            let shown = |number: u32| if row.believed { number.to_string() } else { "?".to_owned() };
            [row.name.clone(), shown(row.ready), shown(row.consumers)]
        };
        let rows: Vec<_> = self.queues.iter().map(row).collect();
        let mut text = if rows.is_empty() { String::new() } else { table(["queue", "ready", "consumers"], &rows) };
        if let Some(WorkerRow { address, reasons, letters }) = &self.worker {
            let said = match reasons {
                Ok(reasons) if reasons.is_empty() => "ready".to_owned(),
                Ok(_) => "not ready".to_owned(),
                Err(problem) => problem.clone(),
            };
            text += &format!("\nworker at {address}: {said}\n");
            let letters: Vec<_> = letters
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(reason, count)| format!("{count} {reason}"))
                .collect();
            if !letters.is_empty() {
                text += &format!("dead letters since it was started: {}\n", letters.join(", "));
            }
        }
        for problem in self.nodes.iter().chain(&self.problems) {
            text += &format!("WARN {problem}\n");
        }
        text
    }

    fn json(&self) -> Value {
        let queue = |QueueRow { name, ready, consumers, believed }: &QueueRow| json!({ "name": name, "ready": believed.then_some(ready), "consumers": believed.then_some(consumers), "believed": believed });
        let worker = self.worker.as_ref().map(|WorkerRow { address, reasons, letters }| {
            let (reasons, problem) = (reasons.as_ref().ok(), reasons.as_ref().err());
            json!({ "address": address.to_string(), "not_ready": reasons, "problem": problem, "dead_letters": letters })
        });
        let queues: Vec<_> = self.queues.iter().map(queue).collect();
        json!({ "queues": queues, "worker": worker, "nodes": self.nodes, "problems": self.problems })
    }
}

impl WorkerRow {
    async fn ask(address: SocketAddr) -> Self {
        let reasons = match get(address, "/readyz").await {
            Ok((_, body)) => serde_json::from_str::<ReadyAnswer>(&body)
                .map(|answer| answer.reasons)
                .map_err(|_| format!("{address} does not answer as a worker does")),
            Err(problem) => Err(problem.to_string()),
        };
        let letters = match &reasons {
            Ok(_) => get(address, "/metrics").await.map(|(_, metrics)| dead_letters(&metrics)).unwrap_or_default(),
            Err(_) => BTreeMap::new(),
        };
        Self { address, reasons, letters }
    }
}

/// By their reasons, of a scrape.
fn dead_letters(metrics: &str) -> BTreeMap<String, u64> {
    let samples = metrics.lines().filter_map(|line| line.strip_prefix("cancel_worker_dead_letters_total{reason=\""));
    samples
        .filter_map(|sample| {
            let (reason, count) = sample.split_once("\"} ")?;
            Some((reason.to_owned(), count.parse().ok()?))
        })
        .collect()
}
