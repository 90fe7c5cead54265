use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::pin::pin;

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::arguments::Filter;
use super::reader::Reader;
use crate::broker::Target;
use crate::broker::rabbitmq::Content;
use crate::cli::exit::Exit;
use crate::telemetry;
use crate::worker::now;

/// Letters that wait for their confirm at once.
const AT_ONCE: usize = 64;

/// `dead export`: a line for each letter, which has what `dead list --json` shows and, in `properties` and `body`, all of it.
pub(super) async fn export(reader: Reader<'_>, filter: &Filter, path: &Path) -> anyhow::Result<Exit> {
    let shown = path.display();
    let file = File::create_new(path).with_context(|| format!("failed to create {shown}"))?;
    let mut file = BufWriter::new(file);
    let (count, letters) = reader.letters(u32::MAX).await?;
    let mut written = 0_u32;
    {
        let mut letters = pin!(letters);
        while let Some(read) = letters.next().await.transpose()? {
            if !filter.matches(&read.letter, now()) {
                continue;
            }
            let mut line = read.json();
            let content = read.raw.content.to_json();
            let content = content.with_context(|| format!("failed to write letter {} as JSON", read.place))?;
            for part in ["properties", "body"] {
                line[part] = content[part].clone();
            }
            writeln!(file, "{line}").with_context(|| format!("failed to write {shown}"))?;
            written += 1;
        }
    }
    let file = file.into_inner().map_err(std::io::IntoInnerError::into_error);
    file.and_then(|file| file.sync_all()).with_context(|| format!("failed to write {shown}"))?;
    telemetry::print_line(&format!(
        "cancel-worker: {written} of {count} letters were copied to {shown}; all are still in {}",
        reader.queue.name()
    ));
    reader.queue.close().await;
    Ok(Exit::Success)
}

/// `dead import`: first reads the whole file, so that one with a fault changes nothing.
pub(super) async fn import(reader: Reader<'_>, path: &Path) -> anyhow::Result<Exit> {
    let shown = path.display();
    for content in contents(path)? {
        content?;
    }
    reader.queue.ready_to_publish().await.context("failed to begin")?;
    let publisher = &reader.queue.publisher();
    let publishing = futures_util::stream::iter(contents(path)?).map(|content| async move {
        let content = content?;
        let published = publisher.forward_content(&Target::Dead, &content, Vec::new()).await;
        published.map(drop).context("failed to publish a letter; those before it are in the queue")
    });
    let published: Vec<()> = publishing.buffered(AT_ONCE).try_collect().await?;
    telemetry::print_line(&format!(
        "cancel-worker: {} letters of {shown} were put into {}",
        published.len(),
        reader.queue.name()
    ));
    reader.queue.close().await;
    Ok(Exit::Success)
}

/// The letters of a file, one after the other.
fn contents(path: &Path) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Content>>> {
    let shown = path.display().to_string();
    let file = File::open(path).with_context(|| format!("failed to open {shown}"))?;
    Ok(BufReader::new(file).lines().enumerate().map(move |(index, line)| {
        let place = || format!("failed to read line {} of {shown}", index + 1);
        let json = serde_json::from_str(&line.with_context(place)?).with_context(place)?;
        Content::from_json(&json).map_err(anyhow::Error::msg).with_context(place)
    }))
}
