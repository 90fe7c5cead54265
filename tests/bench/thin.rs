//! The thinnest honest loop with the worker's crates: what no worker could undercut without other crates.
//!
//! It takes a request, cancels the operation, reads it once, publishes the outcome, waits for the confirm, acknowledges.
//! Honest, since it does that much: a result that is not confirmed, or comes back, is not acknowledged, and an HTTP error is
//! no outcome. Thin, since it ends at the first fault, and knows no deadline, retry, parking or reconnecting.

use anyhow::{Context as _, ensure};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use reqwest::header::CONTENT_LENGTH;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::test_env::Topology;

/// What the loop has to be told.
#[derive(Args)]
pub struct Options {
    /// It may hold a password, so it comes by the environment.
    #[arg(long, env = "THIN_AMQP", hide_env_values = true)]
    amqp: String,
    /// Base URL of the API.
    #[arg(long)]
    endpoint: String,
    /// What the names of the queues and exchanges begin with.
    #[arg(long)]
    prefix: String,
    #[arg(long)]
    prefetch: u16,
}

/// Works until SIGTERM, then finishes what it has begun.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let topology = Topology::new(&options.prefix);
    let incoming = Connection::connect(&options.amqp, ConnectionProperties::default()).await?;
    let outgoing = Connection::connect(&options.amqp, ConnectionProperties::default()).await?;
    let publishing = outgoing.create_channel().await?;
    publishing.confirm_select(ConfirmSelectOptions::default()).await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let thin = Thin { http, endpoint: options.endpoint, publishing, events: topology.events_exchange() };

    let consuming = incoming.create_channel().await?;
    consuming.basic_qos(options.prefetch, BasicQosOptions::default()).await?;
    let queue = topology.requests_queue().into();
    let consumer =
        consuming.basic_consume(queue, "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
    let deliveries = consumer.take_until(terminate.recv()).map_err(anyhow::Error::from);
    // As many at once as the prefetch lets in.
    deliveries.try_for_each_concurrent(None, |delivery| thin.answer(delivery)).await?;

    incoming.close(200, "done".into()).await?;
    outgoing.close(200, "done".into()).await?;
    Ok(())
}

struct Thin {
    http: reqwest::Client,
    endpoint: String,
    publishing: Channel,
    events: String,
}

#[derive(Deserialize)]
struct Request<'a> {
    name: &'a str,
    request_id: &'a str,
}

#[derive(Deserialize)]
struct Operation {
    #[serde(default)]
    done: bool,
    error: Option<Status>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: i32,
}

/// Understood by [`crate::answers`], as is the worker's event.
#[derive(Serialize)]
struct Answer<'a> {
    request_id: &'a str,
    name: &'a str,
    outcome: &'a str,
}

impl Thin {
    async fn answer(&self, delivery: Delivery) -> anyhow::Result<()> {
        let request: Request<'_> = serde_json::from_slice(&delivery.data).context("read a request")?;
        let outcome = self.cancel(request.name).await?;
        let Request { name, request_id } = request;
        self.publish(outcome, &serde_json::to_vec(&Answer { request_id, name, outcome })?).await?;
        ensure!(delivery.ack(BasicAckOptions::default()).await?, "the acknowledgement was not sent");
        Ok(())
    }

    async fn cancel(&self, name: &str) -> anyhow::Result<&'static str> {
        let url = format!("{}/v2beta1/{name}", self.endpoint);
        let cancelling = self.http.post(format!("{url}:cancel")).header(CONTENT_LENGTH, 0).send();
        // The connection can be used again once its answer has been read.
        cancelling.await?.error_for_status()?.bytes().await?;
        let answer = self.http.get(url).send().await?.error_for_status()?.bytes().await?;
        let operation: Operation = serde_json::from_slice(&answer).context("read an operation")?;
        ensure!(operation.done, "{name} is not done, and this loop cannot wait");
        Ok(if operation.error.is_some_and(|error| error.code == 1) { "cancelled" } else { "completed" })
    }

    async fn publish(&self, outcome: &str, body: &[u8]) -> anyhow::Result<()> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = BasicProperties::default().with_delivery_mode(2);
        let key = format!("operation.{outcome}");
        let published =
            self.publishing.basic_publish(self.events.as_str().into(), key.into(), options, body, properties);
        let confirmation = published.await?.await?;
        // Which of several unroutable publishes came back does not matter here: the first one ends the loop.
        ensure!(confirmation == Confirmation::Ack(None), "a result was not taken: {confirmation:?}");
        Ok(())
    }
}
