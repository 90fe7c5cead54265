use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::arguments::Cancel;
use super::exit::Exit;
use super::startup::{runtime, start_logging};
use crate::cancellation::{DeadlineTerms, Policy, Progress};
use crate::message::{CancelRequest, OperationName, ResultEvent};
use crate::operations_api::Client;
use crate::settings::Loaded;
use crate::telemetry;
use crate::worker::{CallPermits, Clock, Unlimited, drive, policy};

/// `cancel`: the worker's own pursuit, without a broker.
pub(super) fn run(command: Cancel) -> anyhow::Result<Exit> {
    let overrides: Vec<(&str, String)> =
        command.endpoint.iter().map(|endpoint| ("api.endpoint", endpoint.clone())).collect();
    let Loaded { settings, warnings, .. } = command.settings.load(&overrides).context("failed to start")?;
    start_logging(&settings.log, &warnings);
    let names = command.names.read(&settings.api.names)?;
    let job = Job {
        client: Client::new(&settings.api).context("failed to build the API client")?,
        call_permits: CallPermits::new(settings.admission(), Arc::default()),
        // Whoever waits at a terminal is told at once, and can ask again.
        policy: Policy { refusal_grace: Duration::ZERO, ..policy(&settings).context("failed to start")? },
        terms: DeadlineTerms { at: None, timeout: command.timeout.unwrap_or(*settings.worker.default_timeout) },
        clock: Clock::system(),
    };
    let concurrency = usize::from(command.concurrency);
    runtime(settings.runtime.threads).context("failed to start the runtime")?.block_on(cancel_all(
        Arc::new(job),
        names,
        concurrency,
    ))
}

/// What every operation's pursuit shares.
struct Job {
    client: Client,
    call_permits: CallPermits,
    policy: Policy,
    terms: DeadlineTerms,
    clock: Clock,
}

/// Pursues all, prints each as it finishes, and answers with the worst outcome. Where standard output takes no more, such as a
/// pipe to `head`, the rest goes to standard error: an operation whose cancel was asked for is cancelled all the same.
async fn cancel_all(job: Arc<Job>, names: Vec<OperationName>, concurrency: usize) -> anyhow::Result<Exit> {
    let bar = progress_bar(names.len());
    let mut finished = futures_util::stream::iter(names)
        .map(|name| {
            let job = Arc::clone(&job);
            async move { cancel_one(&job, &name).await }
        })
        .buffer_unordered(concurrency);
    let (mut worst, mut printing) = (Exit::Success, true);
    while let Some((exit, mut line)) = finished.next().await {
        line.push(b'\n');
        bar.suspend(|| {
            if printing && let Err(error) = std::io::stdout().write_all(&line) {
                printing = false;
                telemetry::print_line(&format!(
                    "cancel-worker: failed to print on standard output ({error}); the other outcomes follow here"
                ));
            }
            if !printing {
                telemetry::print_line(String::from_utf8_lossy(&line).trim_end());
            }
        });
        bar.inc(1);
        worst = worst.max(exit);
    }
    bar.finish_and_clear();
    Ok(if printing { worst } else { worst.max(Exit::Failure) })
}

async fn cancel_one(job: &Job, name: &OperationName) -> (Exit, Vec<u8>) {
    let Job { client, call_permits, policy, terms, clock } = job;
    let progress = Progress::begin(clock.now(), clock.correction(), *terms);
    let (progress, Ok(conclusion)) = drive(client, call_permits, name, progress, policy, Unlimited, clock).await;
    let request = CancelRequest::new(name.clone(), None);
    let line = ResultEvent::concluded(&request, &progress, &conclusion, clock.now()).data();
    (conclusion.outcome.into(), line)
}

/// Drawn on a terminal only, and for more than one operation.
fn progress_bar(count: usize) -> ProgressBar {
    if count < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} operations, {elapsed}, about {eta} left") {
        bar.set_style(style);
    }
    bar
}
