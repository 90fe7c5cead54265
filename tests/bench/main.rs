//! What the worker costs, beside the thinnest loop that does the same work with the same crates, in one run.
//!
//! ```text
//! cargo bench --bench throughput                              worker and thin loop in turns, three rounds of 10,000 requests
//! cargo bench --bench throughput -- --at-least 0.7            the same, and it fails below 0.7 of the thin loop's rate
//! cargo bench --bench throughput -- --parked 1000,200000      memory while so many operations are being waited for
//! tests/bench/instructions.sh                                 instructions and allocations a request, of both
//! cargo bench --bench throughput -- --help                    all options
//! ```
//!
//! # The parts
//!
//! Each is a process of its own, so that each one's cost can be told: a private RabbitMQ node (or the broker that
//! `CANCEL_WORKER_TEST_AMQP` names), the scripted API (`cancel-worker simulate`), and in turns the two contenders:
//!
//! - **worker**: `cancel-worker run` with its defaults, its log going to a file;
//! - **thin**: see [`thin`]. It reads the same queue and publishes to the same exchange, but knows neither failure nor
//!   waiting nor shutdown. No worker could undercut it without other crates.
//!
//! # A round
//!
//! The queues are empty, all requests are published, and only then the contender starts: nobody publishes while it
//! is measured. Of the requests, one in sixteen is for an operation that completes in spite of the cancel, the others
//! are for operations that are cancelled at once. The first `--warm-up` answers are not measured: they pay for connecting,
//! filling connection pools and reaching the full prefetch.
//! **From the first look at the results queue that shows them** to the first look that shows all answers, it takes:
//!
//! - *requests/s*: answers that arrived in between, by the time in between (one look every 10 ms; the two ends are
//!   counted as they were seen);
//! - *CPU*: user and system time of the contender's process in between, for each of these answers; likewise the broker's
//!   (looks and all) and the simulator's, as context;
//! - *peak RSS*: the contender's `VmHWM` since its start.
//!
//! Then the contender is asked to end, and everything is checked: each request answered once, and truthfully; each
//! operation asked once to cancel and once for its state. Any fault makes the run fail. (That requests are acknowledged
//! needs no check: without it nobody gets beyond the prefetch.)
//!
//! The figures of one machine at one hour say little, two cores shared by all parts even less. What counts are the ratios
//! of neighbouring rounds.
//!
//! Linux only: the costs are read from `/proc`.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod answers;
mod contender;
mod instructions;
mod parked;
mod process;
mod report;
mod requests;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the integration tests, which need more of it")]
#[expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's helpers end where something is wrong"
)]
mod support;
mod test_env;
mod thin;
mod throughput;

use anyhow::{Context as _, anyhow};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::test_env::TestEnv;

/// Measures the worker beside the thinnest loop that does the same work.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    measure: Measure,
}

/// What is measured, and how.
#[derive(Args)]
struct Measure {
    /// How often each contender is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Measured requests in each round.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
    /// Requests before these, in each round.
    #[arg(long, default_value_t = 2_000)]
    warm_up: u32,
    /// Unacknowledged deliveries that each contender may hold.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    prefetch: u16,
    /// The worker's threads; the thin loop has one.
    #[arg(long, default_value_t = 1)]
    threads: u16,
    /// Fail if the worker's rate, as a share of the thin loop's and in the median of the rounds, is below this.
    #[arg(long, value_name = "RATIO")]
    at_least: Option<f64>,
    /// Instead: the worker's memory once so many operations are parked, and the time to park them.
    #[arg(long, value_name = "COUNT,COUNT…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    parked: Vec<u32>,
    /// Instead: the instructions and allocations that each contender takes for a request. Needs valgrind.
    #[arg(long, conflicts_with = "parked")]
    instructions: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Role {
    /// Be the thin loop.
    #[command(hide = true)]
    Thin(thin::Options),
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        match options.role {
            Some(Role::Thin(options)) => thin::run(options).await,
            None => measure(&options.measure).await,
        }
    })
}

/// Whatever happens to the measurement, what was set up for it is taken away again.
async fn measure(options: &Measure) -> anyhow::Result<()> {
    // From here on a signal no longer ends the process by itself.
    let interrupted = interrupted()?;
    let env = TestEnv::set().await?;
    let measured = tokio::select! {
        measured = run(&env, options) => measured,
        name = interrupted => Err(anyhow!("ended by {name}")),
    };
    env.clear().await;
    measured
}

async fn run(env: &TestEnv, options: &Measure) -> anyhow::Result<()> {
    if options.instructions {
        instructions::run(env, options).await
    } else if options.parked.is_empty() {
        throughput::run(env, options).await
    } else {
        parked::run(env, options).await
    }
}

/// Waits for SIGINT or SIGTERM, and tells which it was.
fn interrupted() -> anyhow::Result<impl Future<Output = &'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
