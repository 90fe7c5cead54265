//! `dead`: looks after the dead queue.
//!
//! A letter that is read is taken from the queue, and given back at the end: there is no looking without taking. So whatever
//! ends a command, what it has not acknowledged is back in its place. What changes letters publishes first, waits for the
//! confirm, and only then takes the letter out; killed between the two, the same is published again, with the same ids.
//!
//! | file | subject |
//! |---|---|
//! | `arguments`, `filter`, `rate` | the command line; which letters are meant; how fast |
//! | `reader` | reads the queue once, up to what was there at the beginning |
//! | `row` | a letter as a line, of JSON or of a table |
//! | `list` | `list` and `show` |
//! | `summary`, `explain` | `summary`; what the API says of the letters' operations |
//! | `change`, `action`, `tally` | `replay`, `answer`, `drop`: the loop; what is done with one letter; what came of it |
//! | `transfer` | `export` and `import` |

mod action;
mod arguments;
mod change;
mod explain;
mod filter;
mod list;
mod rate;
mod reader;
mod row;
mod summary;
mod tally;
mod transfer;

use std::io::IsTerminal as _;

use anyhow::Context as _;

use self::action::Action;
pub(super) use self::arguments::Dead;
use self::arguments::Verb;
use self::reader::Reader;
use super::exit::Exit;
use super::startup::{runtime, start_logging};
use crate::settings::{Loaded, Settings};

/// `dead`: looks after the dead queue.
pub(super) fn run(command: &Dead) -> anyhow::Result<Exit> {
    let Loaded { settings, warnings, .. } = command.settings.load(&[]).context("failed to start")?;
    start_logging(&settings.log, &warnings);
    runtime(1).context("failed to start the runtime")?.block_on(carry_out(command, &settings))
}

async fn carry_out(command: &Dead, settings: &Settings) -> anyhow::Result<Exit> {
    let reader = Reader::open(settings, command.force).await?;
    let as_json = command.json || !std::io::stdout().is_terminal();
    match &command.verb {
        Verb::List { filter, limit } => list::list(reader, filter, *limit, as_json).await,
        Verb::Show { id, body } => list::show(reader, id, *body).await,
        Verb::Summary { filter, explain } => summary::summary(reader, filter, *explain, as_json).await,
        Verb::Replay { filter, care, timeout } => {
            change::change(reader, &Action::Replay { timeout: *timeout }, filter, care, as_json).await
        }
        Verb::Answer { filter, care } => change::change(reader, &Action::Answer, filter, care, as_json).await,
        Verb::Drop { filter, care } => change::change(reader, &Action::Drop, filter, care, as_json).await,
        Verb::Export { filter, file } => transfer::export(reader, filter, file).await,
        Verb::Import { file } => transfer::import(reader, file).await,
    }
}
