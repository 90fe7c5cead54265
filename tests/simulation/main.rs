//! The real worker over a simulated broker and a simulated API, on a paused clock: everything follows from a seed.
//!
//! At every edge (each call, publish, confirm, ack, take, consume, open) the worker may crash or lose its session;
//! confirms and acks get lost or come late, publishes are refused or returned, wait queues deliver twice, calls fail
//! before or after their effect, workers are stopped and started, queues are deleted, alarms block publishing, nobody takes
//! events, messages end sessions. Then the faults cease, and the checker wants: for every request an answer, all under one id, true of the simulated operation; nothing else published or dead-lettered;
//! empty queues.
//!
//! ```text
//! cargo test --test simulation                       2,000 seeds
//! cargo test --test simulation -- --seeds 100000
//! cargo test --test simulation -- --seed 4711        one seed, with its trace
//! ```
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test program, which simulates bugs too"
)]

mod api;
mod broker;
mod checker;
mod scenario;
mod test_env;

use std::collections::BTreeMap;
use std::process::ExitCode;

use test_env::Outage;

/// Every so many seeds one is run twice, to see that it replays.
const REPLAYED: u64 = 20;

struct Options {
    first: u64,
    count: u64,
    /// How often faults strike: a factor. None: of each seed's own.
    severity: Option<f64>,
    print: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options { first: 1, count: 2000, severity: None, print: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number =
            || arguments.next().and_then(|value| value.parse().ok()).ok_or(format!("{argument} needs a number"));
        match argument.as_str() {
            "--seeds" => options.count = number()?,
            "--from" => options.first = number()?,
            "--seed" => options = Options { first: number()?, count: 1, print: true, ..options },
            "--severity" => options.severity = Some(f64::from(u32::try_from(number()?).unwrap_or(u32::MAX))),
            _ => return Err(format!("{argument} is none of --seeds N, --from SEED, --severity N, --seed SEED")),
        }
    }
    Ok(options)
}

/// Their lines would bury the others.
fn silence_simulated_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some(api::PANIC) {
            usual(panic);
        }
    }));
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(problem) => {
            println!("{problem}");
            return ExitCode::from(2);
        }
    };
    #[expect(clippy::disallowed_methods, reason = "how long it really took")]
    let began = std::time::Instant::now();
    silence_simulated_panics();
    let (mut failed, mut requests, mut events, mut steps) = (0, 0, 0, 0);
    let mut struck: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in options.first..options.first + options.count {
        let mut report = scenario::run(seed, options.severity, options.print);
        if seed % REPLAYED == 0 || options.print {
            let again = scenario::run(seed, options.severity, false);
            if again.trace_hash != report.trace_hash {
                report.violations.push(format!("does not replay: {} steps, then {}", report.steps, again.steps));
            }
        }
        requests += report.requests;
        events += report.events;
        steps += report.steps;
        for (fault, times) in report.struck {
            *struck.entry(fault).or_default() += times;
        }
        if !report.violations.is_empty() {
            failed += 1;
            println!("seed {seed} failed; replay it with: cargo test --test simulation -- --seed {seed}");
            report.violations.iter().for_each(|violation| println!("    {violation}"));
        }
    }
    if options.count > 1 {
        for outage in [Outage::Unbound, Outage::Full, Outage::Alarm] {
            let report = scenario::weekend(outage, options.first, false);
            println!("three days of {outage:?}: {} events of {} requests", report.events, report.requests);
            failed += u64::from(!report.violations.is_empty());
            report.violations.iter().for_each(|violation| println!("    {violation}"));
        }
    }
    println!("\n{requests} requests, {events} events, {steps} steps; faults: {struck:?}");
    println!(
        "test result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        if failed == 0 { "ok" } else { "FAILED" },
        (options.count + 3).saturating_sub(failed),
        began.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(failed > 0))
}
