use std::io::{IsTerminal as _, Write as _, stderr, stdin};
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Interval, timeout};

use super::action::{Action, Step};
use super::arguments::{Care, Filter};
use super::rate::Rate;
use super::reader::{ReadLetter, Reader};
use super::tally::Tally;
use crate::broker::PublishError;
use crate::cli::exit::Exit;
use crate::cli::output::print;
use crate::telemetry;
use crate::worker::now;

/// Letters that wait for their confirm at once.
const AT_ONCE: usize = 64;

/// How long a command that was broken off waits for what is on its way.
const LAST_CONFIRMS: Duration = Duration::from_secs(5);

/// `dead replay`, `dead answer`, `dead drop`. Touches nothing that came after it began.
pub(super) async fn change(
    mut reader: Reader<'_>,
    action: &Action,
    filter: &Filter,
    care: &Care,
    as_json: bool,
) -> anyhow::Result<Exit> {
    let is_asked = stdin().is_terminal() && stderr().is_terminal() && !care.yes && !care.dry_run;
    let needs_yes = matches!(action, Action::Drop) && !care.yes && !care.dry_run;
    anyhow::ensure!(is_asked || !needs_yes, "dead drop deletes letters: give --yes where nobody can be asked");
    if action.publishes() && !care.dry_run {
        reader.queue.ready_to_publish().await.context("failed to begin")?;
    }
    let mut bound = u32::MAX;
    if is_asked {
        let (count, chosen) = counted(&reader, filter, care).await?;
        // Nothing is held while the question waits.
        reader.queue.give_back().await.context("failed to give letters back")?;
        bound = count;
        if chosen > 0 && !confirmed(*action, chosen, count)? {
            reader.queue.close().await;
            return Ok(Exit::Interrupted);
        }
    }
    let tally = act_on_all(&reader, *action, filter, care, bound).await;
    reader.queue.close().await;
    let tally = tally?;
    if as_json {
        print(&format!("{}\n", tally.json()))?;
    } else {
        telemetry::print_line(&format!("cancel-worker: {tally}"));
    }
    Ok(tally.exit())
}

/// How many letters there are, and how many are meant.
async fn counted(reader: &Reader<'_>, filter: &Filter, care: &Care) -> anyhow::Result<(u32, u32)> {
    let (count, letters) = reader.letters(u32::MAX).await?;
    let (mut letters, mut chosen) = (pin!(letters), 0);
    while let Some(read) = letters.next().await.transpose()? {
        chosen += u32::from(filter.matches(&read.letter, now()));
    }
    Ok((count, chosen.min(care.limit.unwrap_or(u32::MAX))))
}

/// Asks a person.
fn confirmed(action: Action, chosen: u32, count: u32) -> anyhow::Result<bool> {
    let mut out = stderr();
    write!(out, "{} {chosen} of {count} letters? [y/N] ", action.words().0).context("failed to ask")?;
    out.flush().context("failed to ask")?;
    let mut answer = String::new();
    stdin().read_line(&mut answer).context("failed to read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn act_on_all(
    reader: &Reader<'_>,
    action: Action,
    filter: &Filter,
    care: &Care,
    bound: u32,
) -> anyhow::Result<Tally> {
    let (count, letters) = reader.letters(bound).await?;
    let mut tally = Tally::new(action, care.dry_run, count);
    let bar = progress_bar(count);
    let mut ticks = care.rate.map(Rate::ticks);
    let limit = care.limit.unwrap_or(u32::MAX);
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    let (mut letters, mut acting) = (pin!(letters), FuturesUnordered::new());
    // Its turn comes with the next tick.
    let mut waiting: Option<(Step, ReadLetter)> = None;
    let mut ended = false;
    loop {
        ended |= tally.chosen >= limit;
        if ended && waiting.is_none() && acting.is_empty() {
            break;
        }
        tokio::select! {
            biased;
            _ = &mut interrupt => {
                tally.interrupted = true;
                break;
            }
            Some(done) = acting.next(), if !acting.is_empty() => enter(done, &mut tally)?,
            () = tick(ticks.as_mut()), if waiting.is_some() => {
                let Some((step, read)) = waiting.take() else { continue };
                tally.rewritten += u32::from(matches!(step, Step::Rewrite(_)));
                if care.dry_run {
                    tally.done += 1;
                    print(&format!("{}\n", read.json()))?;
                } else {
                    acting.push(act(reader, step, read));
                }
            }
            read = letters.next(), if !ended && waiting.is_none() && acting.len() < AT_ONCE => {
                let Some(read) = read.transpose()? else {
                    ended = true;
                    continue;
                };
                bar.inc(1);
                if !filter.matches(&read.letter, now()) {
                    continue;
                }
                tally.chosen += 1;
                match action.step(&read, filter, reader) {
                    Step::Skip(why) => *tally.skipped.entry(why).or_default() += 1,
                    step => waiting = Some((step, read)),
                }
            }
        }
    }
    // The order of the rest stays only if all of it goes back.
    while !tally.interrupted && letters.next().await.transpose()?.is_some() {}
    // What is on its way is waited for, but not for ever: a letter whose publish is not confirmed stays.
    let last = async {
        while let Some(done) = acting.next().await {
            enter(done, &mut tally)?;
        }
        anyhow::Ok(())
    };
    if let Ok(ended) = timeout(LAST_CONFIRMS, last).await {
        ended?;
    }
    bar.finish_and_clear();
    Ok(tally)
}

/// When the next may go.
async fn tick(ticks: Option<&mut Interval>) {
    if let Some(ticks) = ticks {
        ticks.tick().await;
    }
}

/// Publishes what has to be, and only then takes the letter out.
async fn act(reader: &Reader<'_>, step: Step, read: ReadLetter) -> anyhow::Result<Option<String>> {
    let tag = read.raw.tag();
    let taken = match step.publish(&read, &reader.queue.publisher()).await {
        Ok(Some(proof)) => reader.queue.ack(tag, proof).await,
        Ok(None) => reader.queue.discard(tag).await,
        Err(PublishError::SessionOver(error)) => Err(error),
        Err(problem) => return Ok(Some(problem.to_string())),
    };
    taken.context("failed to go on")?;
    Ok(None)
}

fn enter(done: anyhow::Result<Option<String>>, tally: &mut Tally) -> anyhow::Result<()> {
    match done.with_context(|| format!("{} letters were {} so far", tally.done, tally.action.words().1))? {
        None => tally.done += 1,
        Some(problem) => *tally.refused.entry(problem).or_default() += 1,
    }
    Ok(())
}

/// Drawn on a terminal only.
fn progress_bar(count: u32) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(count.into());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} letters, {elapsed}, about {eta} left") {
        bar.set_style(style);
    }
    bar
}
