//! Real faults: a real RabbitMQ, real worker processes, and something that breaks while requests flow.
//!
//! ```text
//! cargo test --test chaos                      every scenario in its short form
//! cargo test --test chaos -- --only NAME       one of them
//! cargo test --test chaos -- --long            the long form; tests/chaos.sh does this with a release build
//! cargo test --test chaos -- --list            their names
//! ```
//!
//! # A scenario
//!
//! [`SCENARIOS`] has a line for each. It gets a [`TestEnv`]: a private broker, the scripted API, upstream (publishes requests
//! one by one, each again until it is confirmed), a collector of events, and the settings of workers. It starts workers,
//! breaks something and mends it, and ends with [`TestEnv::verdict`], the one checker:
//!
//! - *lost*: confirmed requests without an event;
//! - *wrong*: events with an outcome that is not true of the scripted operation, with an id that is not the request's, or
//!   for nothing that was asked;
//! - *doubled*: further events for a request, with the same id: delivery is at least once;
//! - *dead*: requests in the dead queue that are not there because their answer is *failed*;
//! - the *ledger* of each worker, scraped five times a second: deliveries are those that have ended and those in hand;
//! - *recovery*: from the fault's end until ten events have arrived that were made after it; the longest of all injections.
//!
//! A row fails with anything lost, wrong or dead, with a recovery of more than 5 s (in a debug build 15 s), if nothing was
//! injected, or if the scenario says what else was wrong.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod collector;
mod ledger;
mod options;
mod requests;
mod row;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the integration tests, which need more of it")]
mod support;
mod test_env;
mod upstream;
mod verdict;

mod broker;
mod cluster;
mod held;
mod network;
mod outage;
mod queues;
mod unsettled;
mod workers;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;

use options::Options;
use row::Row;
use test_env::{Size, TestEnv};

/// One fault, and how it is injected.
struct Scenario {
    name: &'static str,
    /// What breaks, for the table.
    fault: &'static str,
    run: for<'a> fn(&'a mut TestEnv) -> LocalBoxFuture<'a, Row>,
}

#[rustfmt::skip]
const SCENARIOS: &[Scenario] = &[
    Scenario { name: "worker-kill", fault: "worker: kill -9 again and again", run: |s| Box::pin(workers::kill(s)) },
    Scenario { name: "worker-restart", fault: "worker: one of two stopped, replaced", run: |s| Box::pin(workers::restart(s)) },
    Scenario { name: "broker-kill", fault: "broker: kill -9, and started again", run: |s| Box::pin(broker::kill(s)) },
    Scenario { name: "connections-closed", fault: "broker: all connections closed", run: |s| Box::pin(broker::connections_closed(s)) },
    Scenario { name: "disk-alarm", fault: "broker: disk full, publishers blocked", run: |s| Box::pin(broker::disk_alarm(s)) },
    Scenario { name: "network-cut", fault: "network: reset, then refused", run: |s| Box::pin(network::cut(s)) },
    Scenario { name: "network-silent", fault: "network: silent, then goes on", run: |s| Box::pin(network::silent(s)) },
    Scenario { name: "network-forgotten", fault: "network: silent, then only new connections", run: |s| Box::pin(network::forgotten(s)) },
    Scenario { name: "no-confirms", fault: "network: confirms never come", run: |s| Box::pin(network::no_confirms(s)) },
    Scenario { name: "consumer-timeout", fault: "broker: consumer_timeout 2 s, API hangs", run: |s| Box::pin(held::consumer_timeout(s)) },
    Scenario { name: "consumer-cancelled", fault: "broker: a consumed queue deleted", run: |s| Box::pin(queues::consumer_cancelled(s)) },
    Scenario { name: "no-binding", fault: "broker: results unbound", run: |s| Box::pin(queues::no_binding(s)) },
    Scenario { name: "results-recreated", fault: "broker: results deleted, made anew", run: |s| Box::pin(queues::results_recreated(s)) },
    Scenario { name: "results-full", fault: "broker: results full, refuses events", run: |s| Box::pin(queues::results_full(s)) },
    Scenario { name: "parts-deleted", fault: "broker: exchanges and queues deleted", run: |s| Box::pin(queues::parts_deleted(s)) },
    Scenario { name: "long-unbound", fault: "broker: results unbound for long", run: |s| Box::pin(unsettled::unbound(s)) },
    Scenario { name: "long-full", fault: "broker: results full for long", run: |s| Box::pin(unsettled::full(s)) },
    Scenario { name: "long-alarm", fault: "broker: disk full for long", run: |s| Box::pin(unsettled::alarm(s)) },
    Scenario { name: "api-unavailable", fault: "API: one endpoint answers 503", run: |s| Box::pin(outage::unavailable(s)) },
    Scenario { name: "api-silent", fault: "API: one endpoint never answers", run: |s| Box::pin(outage::silent(s)) },
    Scenario { name: "api-refused", fault: "API: one endpoint refuses connections", run: |s| Box::pin(outage::refused(s)) },
    Scenario { name: "leader-kill", fault: "cluster of 3: kill -9 of the leader", run: |s| Box::pin(cluster::leader_kill(s)) },
];

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            println!("{problem}");
            return ExitCode::from(2);
        }
    };
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(|scenario| options.takes(scenario.name)).collect();
    if options.list {
        chosen.iter().for_each(|scenario| println!("{}: {}", scenario.name, scenario.fault));
        return ExitCode::SUCCESS;
    }
    if chosen.is_empty() {
        println!("there is no such scenario; --list names them");
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if runtime.block_on(run_all(&chosen, options.size)) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one after the other, prints the table, and tells whether all went well.
async fn run_all(chosen: &[&Scenario], size: Size) -> bool {
    let began = now();
    let mut broker = None;
    let mut rows = Vec::new();
    for scenario in chosen {
        println!("{} …", scenario.name);
        let mut env = TestEnv::set(broker.take(), size).await;
        let at = now();
        let row = match AssertUnwindSafe((scenario.run)(&mut env)).catch_unwind().await {
            // The same node for the next one; what panicked may have left it in any state.
            Ok(row) => {
                broker = Some(env.strike().await);
                row
            }
            Err(panic) => Row::broken(&words(panic.as_ref())),
        };
        let row = row.named(scenario.name, scenario.fault, at.elapsed());
        println!("{row}");
        rows.push(row);
    }
    let failed = rows.iter().filter(|row| !row.problems().is_empty()).count();
    row::print_table(&rows);
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        if failed == 0 { "ok" } else { "FAILED" },
        rows.len() - failed,
        began.elapsed().as_secs_f64()
    );
    failed == 0
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

#[expect(clippy::disallowed_methods, reason = "real faults take real time")]
fn now() -> Instant {
    Instant::now()
}
