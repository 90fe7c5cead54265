//! Cancel requests as upstream publishes them.

use anyhow::ensure;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation};
use serde_json::json;

use crate::test_env::{TestEnv, depth};

/// Unconfirmed at once.
const WINDOW: u32 = 1_000;

/// One in so many operations completes in spite of the cancel.
const COMPLETES: u32 = 16;

/// Numbered requests, whose operations and identities no other batch has.
#[derive(Clone)]
pub struct Batch {
    /// Unique among the batches of a run; begins with a letter.
    pub label: String,
    pub count: u32,
    pub fate: Fate,
}

/// What becomes of a batch's operations.
#[derive(Clone, Copy)]
pub enum Fate {
    /// They are done as soon as they are asked to cancel: one in sixteen completed, the others cancelled.
    Done,
    /// They are never done.
    Never,
}

impl Batch {
    /// The request's `request_id`.
    pub fn identity(&self, number: u32) -> String {
        format!("{}-{number}", self.label)
    }

    /// The operation's name, whose last segment is its script.
    pub fn name(&self, number: u32) -> String {
        let script = match (self.fate, self.outcome(number)) {
            (Fate::Never, _) => "never",
            (Fate::Done, "completed") => "completes",
            (Fate::Done, _) => "cancels",
        };
        format!("projects/bench/locations/global/operations/{script}-{}-{number}", self.label)
    }

    /// The true answer, once the operation is done.
    pub fn outcome(&self, number: u32) -> &'static str {
        if number.is_multiple_of(COMPLETES) { "completed" } else { "cancelled" }
    }

    /// Which request has this identity.
    pub fn number(&self, identity: &str) -> Option<u32> {
        let number = identity.strip_prefix(&self.label)?.strip_prefix('-')?.parse().ok()?;
        (number < self.count).then_some(number)
    }

    /// Publishes all of them, and returns once they stand in the queue.
    pub async fn publish(&self, env: &TestEnv) -> anyhow::Result<()> {
        let channel = env.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into());
        let exchange = env.topology.requests_exchange();
        for first in (0..self.count).step_by(WINDOW as usize) {
            let mut unconfirmed = Vec::with_capacity(WINDOW as usize);
            for number in first..self.count.min(first + WINDOW) {
                let body = json!({
                    "name": self.name(number),
                    "request_id": self.identity(number),
                    "timeout": "24h",
                    "requested_by": "benchmark",
                });
                let (exchange, body) = (exchange.as_str().into(), serde_json::to_vec(&body)?);
                let publishing = channel.basic_publish(exchange, "cancel".into(), options, &body, properties.clone());
                unconfirmed.push(publishing.await?);
            }
            for confirm in unconfirmed {
                ensure!(confirm.await? == Confirmation::Ack(None), "the broker did not take a request");
            }
        }
        let ready = depth(&channel, &env.topology.requests_queue()).await?;
        ensure!(ready == self.count, "{ready} requests stand in the queue instead of {}", self.count);
        channel.close(200, "published".into()).await?;
        Ok(())
    }
}
