//! What each contender's process executes and allocates for one request, as callgrind counts it: figures that neither noise
//! nor neighbours touch, and that show what each change costs.
//!
//! Each contender works off 400 requests in one process and 1,600 in another. What starting, connecting and ending take stands
//! in both totals, so the difference, divided by 1,200, is what one request takes. Only user-mode instructions are counted, and
//! only those of the contender: broker and simulator are other processes. Every answer is checked as in [`throughput`].

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use crate::Measure;
use crate::contender::{Contender, Run};
use crate::process::Process;
use crate::requests::{Batch, Fate};
use crate::test_env::TestEnv;
use crate::throughput::{self, Results};

const FEW: u32 = 400;
const MANY: u32 = 1_600;

/// What allocates, by the names that the C library exports: Rust's allocator calls nothing else.
const ALLOCATORS: [&str; 6] = ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign"];

/// As much as the worker asks for, so that it need not start itself again.
const MIN_STACK: u32 = 64 << 20;

/// Where the processor has it, glibc copies with one instruction that callgrind counts once for each byte: without it the
/// figures are the same on every machine, and nearer to the time that copying takes.
const TUNABLES: &str = "glibc.cpu.hwcaps=-ERMS";

/// What a process took from its start to its end.
#[derive(Clone, Copy, Debug)]
struct Totals {
    instructions: u64,
    allocations: u64,
}

/// What one request takes.
struct Cost {
    instructions: f64,
    allocations: f64,
}

/// Counts and prints.
pub async fn run(env: &TestEnv, options: &Measure) -> anyhow::Result<()> {
    let run = Run { prefetch: options.prefetch, threads: options.threads, parks_at_once: false };
    throughput::declare(env, run).await?;
    let worker = cost(env, run, Contender::Worker).await?;
    let thin = cost(env, run, Contender::Thin).await?;
    println!("a request      instructions  allocations");
    for (name, Cost { instructions, allocations }) in [("worker", &worker), ("thin", &thin)] {
        println!("{name:<13} {instructions:>13.0} {allocations:>12.1}");
    }
    let (instructions, allocations) = (worker.instructions / thin.instructions, worker.allocations / thin.allocations);
    println!("worker / thin {instructions:>13.2} {allocations:>12.2}");
    Ok(())
}

async fn cost(env: &TestEnv, run: Run, contender: Contender) -> anyhow::Result<Cost> {
    let few = totals(env, run, contender, FEW).await?;
    let many = totals(env, run, contender, MANY).await?;
    let each = |few: u64, many: u64| -> anyhow::Result<f64> {
        let more = many.checked_sub(few).with_context(|| format!("{MANY} requests took less than {FEW}"))?;
        Ok(f64::from(u32::try_from(more)?) / f64::from(MANY - FEW))
    };
    Ok(Cost {
        instructions: each(few.instructions, many.instructions)?,
        allocations: each(few.allocations, many.allocations)?,
    })
}

async fn totals(env: &TestEnv, run: Run, contender: Contender, count: u32) -> anyhow::Result<Totals> {
    let batch = Batch { label: format!("{contender}{count}"), count, fate: Fate::Done };
    env.purge().await?;
    batch.publish(env).await?;
    let counts = env.folder().join(format!("{}.callgrind", batch.label));
    let command = counted(&contender.command(env, run)?, &counts);
    let mut process = Process::start(command, env.folder().join(format!("{}.log", batch.label)))?;
    Results::watch(env).await?.reach(&mut process, count).await?;
    process.end().await?;
    throughput::check(env, &batch).await?;
    let profile = fs::read_to_string(&counts).with_context(|| format!("read {}", counts.display()))?;
    read(&profile)
}

/// The same command, with its instructions and calls counted into a file.
fn counted(command: &Command, counts: &Path) -> Command {
    let command = command.as_std();
    let mut counted = Command::new("valgrind");
    let mut file = OsString::from("--callgrind-out-file=");
    file.push(counts);
    counted.args(["--quiet", "--tool=callgrind"]).arg(file).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => counted.env(name, value),
            None => counted.env_remove(name),
        };
    }
    counted.env("RUST_MIN_STACK", MIN_STACK.to_string()).env("GLIBC_TUNABLES", TUNABLES);
    counted
}

/// Reads callgrind's file: the total, and the calls of whatever allocates. A function is named where it comes first, as
/// `cfn=(12) malloc`, and later by its number, `cfn=(12)`; the line after that of a called function is `calls=3 …`.
fn read(profile: &str) -> anyhow::Result<Totals> {
    let mut instructions = None;
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut called, mut allocations) = ("", 0);
    for line in profile.lines() {
        let Some((key, value)) = line.split_once(['=', ':']) else { continue };
        match key {
            "fn" | "cfn" => {
                let (number, name) = value.split_once(' ').unwrap_or((value, ""));
                if !name.is_empty() {
                    names.insert(number, name);
                }
                called = number;
            }
            "calls" if names.get(called).is_some_and(|name| ALLOCATORS.contains(name)) => {
                let count = value.split(' ').next().unwrap_or_default();
                allocations += count.parse::<u64>().with_context(|| format!("read the calls in {line:?}"))?;
            }
            "totals" => instructions = Some(value.trim().parse()?),
            _ => {}
        }
    }
    ensure!(allocations > 0, "callgrind saw no allocation: are the C library's names stripped?");
    Ok(Totals { instructions: instructions.context("callgrind told no total")?, allocations })
}
