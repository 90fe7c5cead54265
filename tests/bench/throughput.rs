//! Both contenders in turns, over the same queues.

use std::time::Duration;

use anyhow::{bail, ensure};
use lapin::Channel;
use tokio::time::{Instant, sleep};

use crate::Measure;
use crate::answers;
use crate::contender::{Contender, Run};
use crate::process::{self, Process};
use crate::report::{self, Cost, Round};
use crate::requests::{Batch, Fate};
use crate::test_env::{TestEnv, depth};

/// Between two looks at the results queue.
const LOOK: Duration = Duration::from_millis(10);

/// A contender that gives no answer for so long is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// Measures, prints, and judges.
pub async fn run(env: &TestEnv, options: &Measure) -> anyhow::Result<()> {
    let run = Run { prefetch: options.prefetch, threads: options.threads, parks_at_once: false };
    declare(env, run).await?;
    report::print_heading();
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let thin = measure(env, options, run, Contender::Thin, number).await?;
        let worker = measure(env, options, run, Contender::Worker, number).await?;
        rounds.push(Round { thin, worker });
    }
    let rate = report::print_ratios(&rounds);
    match options.at_least {
        Some(least) if rate < least => bail!("the worker has {rate:.2} of the thin loop's rate, less than {least}"),
        _ => Ok(()),
    }
}

/// Has the worker declare its topology.
pub async fn declare(env: &TestEnv, run: Run) -> anyhow::Result<()> {
    let mut worker = Contender::Worker.start(env, run)?;
    env.declared(&mut worker).await?;
    worker.end().await
}

/// One round of one contender.
async fn measure(
    env: &TestEnv,
    options: &Measure,
    run: Run,
    contender: Contender,
    number: u16,
) -> anyhow::Result<Cost> {
    let count = options.warm_up + options.requests;
    let batch = Batch { label: format!("{contender}{number}"), count, fate: Fate::Done };
    env.purge().await?;
    batch.publish(env).await?;
    let calls = env.calls().await?;

    let mut process = contender.start(env, run)?;
    let mut results = Results::watch(env).await?;
    let from = results.reach(&mut process, options.warm_up.max(1)).await?;
    let to = results.reach(&mut process, count).await?;
    let cost = Cost::between(&from, &to, process::memory(process.id())?.peak);
    process.end().await?;

    check(env, &batch).await?;
    let made = env.calls().await?;
    let (cancels, gets) = (made.cancel - calls.cancel, made.get - calls.get);
    let once = u64::from(count);
    ensure!((cancels, gets) == (once, once), "{contender} made {cancels} cancels and {gets} gets for {once} requests");
    report::print(number, contender, &cost);
    Ok(cost)
}

/// Fails unless each request was answered once, and truthfully.
pub async fn check(env: &TestEnv, batch: &Batch) -> anyhow::Result<()> {
    let faults = answers::check(env, batch).await?;
    ensure!(faults.is_none(), "{}: {faults}", batch.label);
    Ok(())
}

/// One look: what has been done by now, and at what cost.
pub struct Look {
    pub at: Instant,
    pub answers: u32,
    pub contender: Duration,
    pub broker: Option<Duration>,
    pub simulator: Duration,
}

/// The results queue, watched.
pub struct Results<'a> {
    env: &'a TestEnv,
    channel: Channel,
    queue: String,
}

impl<'a> Results<'a> {
    pub async fn watch(env: &'a TestEnv) -> anyhow::Result<Self> {
        Ok(Self { env, channel: env.channel().await?, queue: env.topology.results_queue() })
    }

    /// Waits until at least so many answers stand in the queue.
    pub async fn reach(&mut self, process: &mut Process, count: u32) -> anyhow::Result<Look> {
        let mut last = (Instant::now(), 0);
        loop {
            let answers = depth(&self.channel, &self.queue).await?;
            let now = Instant::now();
            if answers >= count {
                return self.look(process, answers, now);
            }
            if answers > last.1 {
                last = (now, answers);
            } else if now - last.0 > STUCK {
                bail!(
                    "{answers} answers of {count}, and no more for {STUCK:?}; its log ends:\n{}",
                    process.last_words()
                );
            }
            process.check_alive()?;
            sleep(LOOK).await;
        }
    }

    fn look(&self, process: &Process, answers: u32, at: Instant) -> anyhow::Result<Look> {
        Ok(Look {
            at,
            answers,
            contender: process::cpu_time(process.id())?,
            broker: self.env.broker_id.map(process::cpu_time).transpose()?,
            simulator: process::cpu_time(self.env.simulator_id())?,
        })
    }
}
