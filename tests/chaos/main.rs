//! Faults of the real parts, one after the other: RabbitMQ and the worker as processes, requests flowing. Whatever breaks,
//! each request that the broker confirmed to upstream has to be answered, truthfully, under one id.
//!
//! ```text
//! cargo test --test chaos                           a short form of each fault
//! cargo test --test chaos -- --only worker-kill
//! tests/chaos.sh                                    20,000 requests for each fault, in release
//! ```
//!
//! It ends with a table. A row passes with nothing lost, nothing wrong, no good request dead-lettered, and events flowing
//! again within 5 s (in the short form 15 s) of the fault's end. *Doubled* events have the same id and outcome as the first: delivery is at least once.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]
#![expect(clippy::print_stdout, reason = "a test program")]
#![expect(dead_code, unused_imports, reason = "the stage is shared with the integration tests, which use all of it")]

#[path = "../integration/event.rs"]
mod event;
#[path = "../integration/mailbox.rs"]
mod mailbox;
#[path = "../integration/scene.rs"]
mod scene;
#[path = "../integration/simulated.rs"]
mod simulated;
#[path = "../support/mod.rs"]
mod support;

mod broker_faults;
mod stage;
mod worker_faults;

use std::process::ExitCode;
use std::time::Duration;

use stage::{Row, Size, Stage};
use tokio::time::Instant;

/// From the fault's end until events flow again. The short form runs a debug build, on machines that may be busy.
const RECOVERY: Duration = Duration::from_secs(5);
const RECOVERY_SHORT: Duration = Duration::from_secs(15);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let long = arguments.iter().any(|argument| argument == "--long");
    let only = arguments.iter().position(|argument| argument == "--only").and_then(|at| arguments.get(at + 1));
    let (size, recovery) = if long { (Size::LONG, RECOVERY) } else { (Size::SHORT, RECOVERY_SHORT) };
    let began = Instant::now();
    let mut rows: Vec<Row> = Vec::new();
    macro_rules! fault {
        ($name:literal, $fault:path) => {
            if only.is_none_or(|only| only == $name) {
                println!("{} …", $name);
                rows.push($fault(Stage::new($name, size).await).await);
            }
        };
    }
    fault!("worker-kill", worker_faults::kill);
    fault!("worker-restart", worker_faults::restart);
    fault!("broker-kill", broker_faults::kill);
    fault!("connections-closed", broker_faults::connections_closed);
    fault!("disk-alarm", broker_faults::disk_alarm);
    fault!("no-binding", broker_faults::no_binding);
    fault!("queue-deleted", broker_faults::queue_deleted);

    println!(
        "\n{:<20}{:>7}{:>10}{:>7}{:>7}{:>9}{:>7}{:>18}",
        "fault", "times", "requests", "lost", "wrong", "doubled", "dead", "slowest recovery"
    );
    rows.iter().for_each(|row| println!("{row}"));
    let failed = rows.iter().filter(|row| !row.passes(recovery)).count();
    let passed = rows.len() - failed;
    println!(
        "test result: {}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.0}s",
        if failed == 0 { "ok" } else { "FAILED" },
        began.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(failed > 0 || rows.is_empty()))
}
