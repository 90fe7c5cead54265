//! The worker's memory while many operations are being waited for.
//!
//! For each count: the queues are empty, so many requests for operations that are never done are published, and then a
//! worker starts that parks at once what is not done, for an hour. Once all of them stand in the wait queues and nothing is
//! unacknowledged any more (which only a private broker tells), its memory is read.

use std::time::Duration;

use anyhow::{bail, ensure};
use lapin::Channel;
use tokio::time::{Instant, sleep};

use crate::Measure;
use crate::contender::{Contender, Run};
use crate::process::{self, Memory, Process};
use crate::report::mebibytes;
use crate::requests::{Batch, Fate};
use crate::test_env::{COUNTED, TestEnv, depth};

/// Between two looks at the wait queues.
const LOOK: Duration = Duration::from_millis(50);

/// A worker that parks nothing for so long is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Measures and prints.
pub async fn run(env: &TestEnv, options: &Measure) -> anyhow::Result<()> {
    let run = Run { prefetch: options.prefetch, threads: options.threads, parks_at_once: true };
    let mut worker = Contender::Worker.start(env, run)?;
    env.declared(&mut worker).await?;
    worker.end().await?;

    println!(" parked   RSS, MiB  peak RSS, MiB  all parked in, s");
    let mut measured: Vec<Memory> = Vec::new();
    for &count in &options.parked {
        let (memory, took) = park(env, run, count).await?;
        let (resident, peak) = (mebibytes(memory.resident), mebibytes(memory.peak));
        println!("{count:>7} {resident:>10.1} {peak:>14.1} {:>17.1}", took.as_secs_f64());
        measured.push(memory);
    }
    if let [first, .., last] = measured.as_slice() {
        let ratio = |of: fn(&Memory) -> u64| mebibytes(of(last)) / mebibytes(of(first));
        let (resident, peak) = (ratio(|memory| memory.resident), ratio(|memory| memory.peak));
        println!("last / first: RSS {resident:.2}, peak RSS {peak:.2}");
    }
    Ok(())
}

async fn park(env: &TestEnv, run: Run, count: u32) -> anyhow::Result<(Memory, Duration)> {
    env.purge().await?;
    let batch = Batch { label: format!("parked{count}"), count, fate: Fate::Never };
    batch.publish(env).await?;

    let began = Instant::now();
    let mut worker = Contender::Worker.start(env, run)?;
    let channel = env.channel().await?;
    all_parked(env, &channel, &mut worker, count).await?;
    let took = began.elapsed();
    sleep(COUNTED).await;
    let unsettled = env.unsettled()?.unwrap_or_default();
    ensure!(unsettled == 0, "{count} are parked, but {unsettled} messages stand in the work queues");
    let memory = process::memory(worker.id())?;
    worker.end().await?;

    let answers = depth(&channel, &env.topology.results_queue()).await?;
    ensure!(answers == 0, "{answers} requests were answered though their operations are not done");
    let parked = waiting(env, &channel).await?;
    ensure!(parked == count, "{parked} messages are parked for {count} requests");
    Ok((memory, took))
}

/// Waits until so many messages stand in the wait queues.
async fn all_parked(env: &TestEnv, channel: &Channel, worker: &mut Process, count: u32) -> anyhow::Result<()> {
    let mut last = (Instant::now(), 0);
    loop {
        let parked = waiting(env, channel).await?;
        if parked >= count {
            return Ok(());
        }
        if parked > last.1 {
            last = (Instant::now(), parked);
        } else if last.0.elapsed() > STUCK {
            bail!("{parked} of {count} are parked, and no more for {STUCK:?}; its log ends:\n{}", worker.last_words());
        }
        worker.check_alive()?;
        sleep(LOOK).await;
    }
}

/// How many messages stand in the wait queues.
async fn waiting(env: &TestEnv, channel: &Channel) -> anyhow::Result<u32> {
    let mut waiting = 0;
    for queue in env.topology.wait_queues() {
        waiting += depth(channel, &queue).await?;
    }
    Ok(waiting)
}
