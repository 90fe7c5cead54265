//! Whether each request was answered once, and truthfully.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use serde_json::Value;

use crate::requests::Batch;
use crate::test_env::{TestEnv, depth};

/// What is wrong with the answers to a batch.
#[derive(Debug, Default)]
pub struct Faults {
    missing: u32,
    repeated: u32,
    wrong: u32,
    /// The first of them.
    example: Option<String>,
}

impl Faults {
    pub fn is_none(&self) -> bool {
        self.missing + self.repeated + self.wrong == 0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missing, repeated, wrong, example } = self;
        write!(f, "{missing} answers are missing, {repeated} repeated, {wrong} wrong")?;
        example.iter().try_for_each(|example| write!(f, "; such as: {example}"))
    }
}

/// Takes all answers out of the results queue, and compares them with what is true.
pub async fn check(env: &TestEnv, batch: &Batch) -> anyhow::Result<Faults> {
    let channel = env.channel().await?;
    let queue = env.topology.results_queue();
    let count = depth(&channel, &queue).await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut consumer = channel.basic_consume(queue.as_str().into(), "".into(), options, FieldTable::default()).await?;
    let mut faults = Faults::default();
    let mut times = BTreeMap::<u32, u32>::new();
    for _ in 0..count {
        let answer = consumer.next().await.context("the broker ended the consumer")??;
        match read(batch, &answer.data) {
            Ok(number) => *times.entry(number).or_default() += 1,
            Err(fault) => {
                faults.wrong += 1;
                faults.example.get_or_insert(fault);
            }
        }
    }
    channel.close(200, "checked".into()).await?;
    faults.repeated = times.values().map(|times| times - 1).sum();
    let missing = |number: &u32| !times.contains_key(number);
    faults.missing = batch.count - u32::try_from(times.len())?;
    if let Some(number) = (0..batch.count).find(missing) {
        faults.example.get_or_insert(format!("no answer to {}", batch.identity(number)));
    }
    Ok(faults)
}

/// The request that a true answer belongs to, or what is wrong with the answer. The worker's event has its data in
/// `data`, the thin loop's result has nothing around it.
fn read(batch: &Batch, body: &[u8]) -> Result<u32, String> {
    let fault = || String::from_utf8_lossy(body).into_owned();
    let event: Value = serde_json::from_slice(body).map_err(|_| fault())?;
    let data = event.get("data").unwrap_or(&event);
    let text = |field: &str| data.get(field).and_then(Value::as_str);
    let number = text("request_id").and_then(|identity| batch.number(identity)).ok_or_else(fault)?;
    let true_answer = (Some(batch.name(number)), Some(batch.outcome(number)));
    let answer = (text("name").map(ToOwned::to_owned), text("outcome"));
    if answer == true_answer { Ok(number) } else { Err(fault()) }
}
