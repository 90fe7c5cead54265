//! What `deploy/demo.sh` shows: publishes requests to a worker that runs against the simulator, and checks every answer.
//!
//! Settings come from the environment, as the worker's do. Ends with 1 if an answer is missing, wrong, or doubled under
//! another id.

use std::collections::{BTreeMap, HashMap};
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cancel_worker::broker::rabbitmq::{EventSubscription, Publisher, Session};
use cancel_worker::broker::{Publisher as _, Session as _, Target, WaitLevels};
use cancel_worker::message::{CancelRequest, JsonText, OperationName, ReceivedEvent};
use cancel_worker::settings;
use cancel_worker::worker::now;
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::ExposeSecret as _;
use serde_json::value::RawValue;
use tokio::time::Instant;

const REQUESTS: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(120);

/// The operations that are to be cancelled: the simulator's script, the answer that it must lead to, and how many of
/// every hundred requests there are of it.
const MIX: &[(&str, &str, usize)] = &[
    ("cancels", "cancelled", 30),
    ("cancels-300ms", "cancelled", 10),
    ("cancels-3s", "cancelled", 6),
    ("cancels-9s", "cancelled", 4),
    ("flaky-2", "cancelled", 6),
    ("limited-1-2s", "cancelled", 4),
    ("aborted-1", "cancelled", 2),
    ("completes", "completed", 10),
    ("completes-2s", "completed", 5),
    ("errs-13", "completed", 4),
    ("precondition-done", "completed", 3),
    ("unimplemented", "unimplemented", 6),
    ("notfound", "failed (not_found)", 3),
    ("denied", "failed (permission_denied)", 3),
    ("html404", "failed (bad_endpoint)", 2),
    ("never", "failed (deadline_exceeded)", 2),
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match demo().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("demo: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn demo() -> anyhow::Result<bool> {
    let settings = settings::load(&[], &[]).context("failed to start")?.settings;
    if std::env::args().any(|argument| argument == "--delete-topology") {
        return delete_topology(&settings.amqp).await.map(|()| true);
    }
    let session = Session::open(&settings.amqp, "demo").await.context("failed to reach the broker")?;
    let mut events = session.subscribe_to_events().await.context("failed to watch for events")?;
    let publisher = session.publisher();
    show_one(&publisher, &mut events).await?;
    let report = run_all(&publisher, events).await?;
    session.close().await;
    Ok(report.print())
}

/// Deletes every queue and exchange of the demo from a broker that is not the demo's own.
async fn delete_topology(amqp: &settings::Amqp) -> anyhow::Result<()> {
    let uri = amqp.uris.last().first().context("no URI")?.with_password();
    let connection = lapin::Connection::connect(uri.expose_secret(), lapin::ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let prefix = &amqp.topology.prefix;
    let levels = WaitLevels::of(&amqp.topology).context("no wait level")?;
    let levels = levels.levels().map(|level| format!("wait.{}", level.label()));
    for queue in ["requests", "followups", "results", "dead"].map(ToOwned::to_owned).into_iter().chain(levels) {
        channel.queue_delete(format!("{prefix}.{queue}").into(), Default::default()).await?;
    }
    for exchange in ["requests", "followups", "wait", "events", "dead"] {
        channel.exchange_delete(format!("{prefix}.{exchange}").into(), Default::default()).await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// One request and its event, in full.
async fn show_one(publisher: &Publisher, events: &mut EventSubscription) -> anyhow::Result<()> {
    let name = OperationName::parse("projects/demo/locations/global/operations/cancels-300ms-first")?;
    let context = RawValue::from_string(r#"{"ticket":4711,"price":1.50}"#.to_owned())?;
    let mut request = CancelRequest::new(name, Some("demo-first".to_owned()));
    request.details.reason = Some("the customer changed their mind".to_owned());
    request.details.requested_by = Some("demo".to_owned());
    request.details.context = Some(context.into());
    let message = request.to_message(now());
    say("One request, as published:");
    say(&String::from_utf8_lossy(&message.body));
    let _confirmed = publisher.publish(&Target::Request, message).await.context("failed to publish")?;
    let event =
        tokio::time::timeout(PATIENCE, events.next()).await.context("no event came; does the worker run?")??;
    say("\nIts result event, as received:");
    say(&String::from_utf8_lossy(event.envelope().body));
    let read = ReceivedEvent::read(&event.envelope())?;
    ensure!(read.data.outcome == "cancelled", "the answer must be cancelled");
    ensure!(
        read.data.context.as_deref().map(RawValue::get) == request.details.context.as_ref().map(JsonText::get),
        "the context must come back untouched"
    );
    Ok(())
}

/// A request on its way.
struct Sent {
    request_id: String,
    expected: &'static str,
    at: Instant,
}

#[derive(Default)]
struct Report {
    /// By expected answer: how many were expected, received as expected.
    answers: BTreeMap<&'static str, (usize, usize)>,
    latencies: Vec<Duration>,
    problems: Vec<String>,
    repeated: usize,
    took: Duration,
}

async fn run_all(publisher: &Publisher, events: EventSubscription) -> anyhow::Result<Report> {
    let requests = requests()?;
    say(&format!("\n{} requests of {} kinds:", requests.len(), MIX.len()));
    let mut report = Report::default();
    for (_, expected) in &requests {
        report.answers.entry(expected).or_default().0 += 1;
    }
    let begun = Instant::now();
    let sent = publish_all(publisher, &requests).await?;
    receive_all(events, sent, &mut report).await?;
    report.took = begun.elapsed();
    Ok(report)
}

fn requests() -> anyhow::Result<Vec<(CancelRequest, &'static str)>> {
    let mut requests = Vec::with_capacity(REQUESTS);
    let of_a_hundred: Vec<_> =
        MIX.iter().flat_map(|(script, answer, share)| vec![(*script, *answer); *share]).collect();
    for number in 0..REQUESTS {
        // 37 and 100 share no factor: every kind comes up all along, not in blocks.
        let (script, expected) = of_a_hundred[number * 37 % of_a_hundred.len()];
        let location = ["global", "us-central1", "europe-west1"][number % 3];
        let name = OperationName::parse(format!("projects/demo/locations/{location}/operations/{script}-r{number}"))?;
        // What may be the worker's own fault, or never ends, is answered at the deadline.
        let timeout = matches!(script, "never" | "denied" | "html404").then_some(Duration::from_secs(6));
        requests
            .push((CancelRequest { timeout, ..CancelRequest::new(name, Some(format!("demo-{number}"))) }, expected));
    }
    Ok(requests)
}

/// Publishes all and answers with them, by the id that their event must have.
async fn publish_all(
    publisher: &Publisher,
    requests: &[(CancelRequest, &'static str)],
) -> anyhow::Result<HashMap<String, Sent>> {
    let mut sent = HashMap::with_capacity(requests.len());
    let mut confirmed = futures_util::stream::iter(requests)
        .map(|(request, expected)| async move {
            let at = Instant::now();
            let published = publisher.publish(&Target::Request, request.to_message(now())).await;
            published.map(|_| (request, *expected, at))
        })
        .buffer_unordered(256);
    while let Some(published) = confirmed.next().await {
        let (request, expected, at) = published.context("failed to publish")?;
        let request_id = request.identity.as_str().to_owned();
        sent.insert(request.key().to_string(), Sent { request_id, expected, at });
    }
    Ok(sent)
}

async fn receive_all(
    mut events: EventSubscription,
    sent: HashMap<String, Sent>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let progress = Progress::new(sent.len());
    let mut missing = sent;
    let mut answered: HashMap<String, String> = HashMap::new();
    let end = Instant::now() + PATIENCE;
    while !missing.is_empty() {
        let Ok(content) = tokio::time::timeout_at(end, events.next()).await else { break };
        let content = content.context("failed to watch for events")?;
        let event = ReceivedEvent::read(&content.envelope())?;
        let got = answer(&event);
        if let Some(sent) = missing.remove(&event.request_key) {
            report.latencies.push(sent.at.elapsed());
            if got == sent.expected {
                report.answers.entry(sent.expected).or_default().1 += 1;
            } else {
                report.problems.push(format!("{}: expected {}, got {got}", sent.request_id, sent.expected));
            }
            answered.insert(event.request_key, got);
        } else if answered.get(&event.request_key) == Some(&got) {
            report.repeated += 1;
        } else {
            report
                .problems
                .push(format!("an event nobody waits for: {} {got} {:?}", event.request_key, event.data.request_id));
        }
        progress.at(answered.len());
    }
    progress.done();
    report
        .problems
        .extend(missing.values().map(|sent| format!("{}: no answer, expected {}", sent.request_id, sent.expected)));
    Ok(())
}

fn answer(event: &ReceivedEvent) -> String {
    let outcome = &event.data.outcome;
    match event.data.error.as_ref().and_then(|error| error.reason.as_deref()) {
        Some(reason) => format!("{outcome} ({reason})"),
        None => outcome.clone(),
    }
}

/// A bar on a terminal, a line for every tenth elsewhere.
struct Progress {
    bar: ProgressBar,
    terminal: bool,
    all: usize,
    said: std::cell::Cell<usize>,
}

impl Progress {
    fn new(all: usize) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if terminal { ProgressBar::new(all as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:50} {pos}/{len} answered, {elapsed}") {
            bar.set_style(style);
        }
        Self { bar, terminal, all, said: std::cell::Cell::new(0) }
    }

    fn at(&self, answered: usize) {
        self.bar.set_position(answered as u64);
        let tenths = answered * 10 / self.all.max(1);
        if !self.terminal && tenths > self.said.replace(tenths) {
            say(&format!("  {answered}/{} answered", self.all));
        }
    }

    fn done(&self) {
        self.bar.finish_and_clear();
    }
}

impl Report {
    /// Whether every answer came and is right.
    fn print(mut self) -> bool {
        say(&format!("\n{:<32} {:>9} {:>9}", "outcome", "expected", "received"));
        for (answer, (expected, received)) in &self.answers {
            let mark = if expected == received { "" } else { "  <-- wrong" };
            say(&format!("{answer:<32} {expected:>9} {received:>9}{mark}"));
        }
        self.latencies.sort();
        let percentile = |share: f64| {
            let index =
                ((self.latencies.len() as f64 * share).ceil() as usize).clamp(1, self.latencies.len().max(1)) - 1;
            self.latencies.get(index).copied().unwrap_or_default().as_secs_f64()
        };
        say(&format!(
            "\nfrom publish to event: p50 {:.2} s, p90 {:.2} s, p99 {:.2} s, longest {:.2} s; all within {:.1} s",
            percentile(0.50),
            percentile(0.90),
            percentile(0.99),
            percentile(1.0),
            self.took.as_secs_f64()
        ));
        say(&format!("repeated events (same request key, same answer): {}", self.repeated));
        for problem in self.problems.iter().take(20) {
            say(&format!("WRONG: {problem}"));
        }
        let right = self.problems.is_empty();
        say(if right {
            "every request was answered, each as its script says"
        } else {
            "NOT every request was answered as its script says"
        });
        right
    }
}
