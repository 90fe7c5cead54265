use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::pin;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::rate::Rate;
use crate::cancellation::{FailureKind, Operation, Reply};
use crate::google_rpc::Code;
use crate::message::OperationName;
use crate::operations_api::{Client, Operations as _};
use crate::settings::Settings;

/// Operations that are asked for at once.
const AT_ONCE: usize = 8;

/// What a replay would find, by operations.
#[derive(Debug, Default)]
pub(super) struct Explained {
    cancelled: u64,
    completed: u64,
    running: u64,
    not_found: u64,
    /// What kept the API from telling, with an example.
    untold: BTreeMap<String, u64>,
}

/// Asks the API for each operation, which changes nothing; no faster than `rate_limit.per_second`.
pub(super) async fn explain(settings: &Settings, names: BTreeSet<OperationName>) -> anyhow::Result<Explained> {
    let client = Client::new(&settings.api).context("failed to build the API client")?;
    let ticks = Rate::per_second(settings.rate_limit.per_second).map(|rate| Mutex::new(rate.ticks()));
    let (client, ticks) = (&client, ticks.as_ref());
    let asking = futures_util::stream::iter(names).map(|name| async move {
        if let Some(ticks) = ticks {
            ticks.lock().await.tick().await;
        }
        client.get(&name).await
    });
    let mut replies = pin!(asking.buffer_unordered(AT_ONCE));
    let mut explained = Explained::default();
    while let Some(reply) = replies.next().await {
        explained.enter(reply);
    }
    Ok(explained)
}

impl Explained {
    fn enter(&mut self, reply: Reply) {
        match reply {
            Reply::Operation(operation) if !operation.done => self.running += 1,
            Reply::Operation(Operation { error: Some(error), .. }) if error.code == Code::Cancelled.number() => {
                self.cancelled += 1;
            }
            Reply::Operation(_) => self.completed += 1,
            Reply::Failure(failure) if failure.kind == FailureKind::NotFound => self.not_found += 1,
            Reply::Failure(failure) | Reply::NotMade(failure) => {
                *self.untold.entry(failure.error.message).or_default() += 1;
            }
            Reply::Undecodable { detail } => *self.untold.entry(detail).or_default() += 1,
            // Of a get there is no such answer.
            Reply::Accepted => {}
        }
    }

    pub(super) fn json(&self) -> Value {
        let Self { cancelled, completed, running, not_found, untold } = self;
        json!({ "cancelled": cancelled, "completed": completed, "running": running, "not_found": not_found, "untold": untold })
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cancelled, completed, running, not_found, untold } = self;
        write!(
            f,
            "If they were replayed now: of the operations {} are done already ({cancelled} cancelled, {completed} completed), {running} still run, {not_found} are not known to the API",
            cancelled + completed
        )?;
        untold.iter().try_for_each(|(why, count)| write!(f, ", {count} could not be asked for ({why})"))?;
        f.write_str(".")
    }
}
