use std::io::Write as _;
use std::pin::pin;

use anyhow::Context as _;
use futures_util::StreamExt as _;

use super::arguments::Filter;
use super::reader::Reader;
use super::row::HEADINGS;
use crate::cli::exit::Exit;
use crate::cli::output::print;
use crate::cli::table::table;
use crate::telemetry;
use crate::worker::now;

/// `dead list`.
pub(super) async fn list(reader: Reader<'_>, filter: &Filter, limit: u32, as_json: bool) -> anyhow::Result<Exit> {
    let now = now();
    let (count, letters) = reader.letters(u32::MAX).await?;
    let mut rows = Vec::new();
    let (mut shown, mut read) = (0, 0);
    {
        let mut letters = pin!(letters);
        while shown < limit
            && let Some(letter) = letters.next().await.transpose()?
        {
            read += 1;
            if !filter.matches(&letter.letter, now) {
                continue;
            }
            shown += 1;
            if as_json {
                print(&format!("{}\n", letter.json()))?;
            } else {
                rows.push(letter.cells(now));
            }
        }
        // The order stays only if all of them go back.
        while letters.next().await.transpose()?.is_some() {}
    }
    if !rows.is_empty() {
        print(&table(HEADINGS, &rows))?;
    }
    let queue = reader.queue.name();
    telemetry::print_line(&match read {
        0 => format!("cancel-worker: {queue} is empty"),
        _ if read < count => format!("cancel-worker: {shown} letters shown, {read} of {count} looked at: see --limit"),
        _ => format!("cancel-worker: {shown} of {count} letters shown"),
    });
    reader.queue.close().await;
    Ok(Exit::Success)
}

/// `dead show`.
pub(super) async fn show(reader: Reader<'_>, id: &str, only_body: bool) -> anyhow::Result<Exit> {
    let filter = Filter { id: Some(id.to_owned()), ..Filter::default() };
    let (count, letters) = reader.letters(u32::MAX).await?;
    let mut shown = 0;
    {
        let mut letters = pin!(letters);
        while let Some(letter) = letters.next().await.transpose()? {
            if !filter.matches(&letter.letter, now()) {
                continue;
            }
            shown += 1;
            let content = &letter.raw.content;
            let body = content.envelope().body;
            if only_body {
                std::io::stdout().write_all(body).context("failed to print")?;
                continue;
            }
            let mut whole = letter.json();
            let properties = content.to_json().context("failed to show the letter's properties")?;
            whole["properties"] = properties["properties"].clone();
            match std::str::from_utf8(body) {
                Ok(text) => whole["body"] = text.into(),
                Err(_) => whole["body_base64"] = properties["body"].clone(),
            }
            print(&format!("{whole:#}\n"))?;
        }
    }
    let queue = reader.queue.name();
    anyhow::ensure!(
        shown > 0,
        "none of the {count} letters of {queue} has an id that begins with {id:?}: see `cancel-worker dead list`"
    );
    reader.queue.close().await;
    Ok(Exit::Success)
}
