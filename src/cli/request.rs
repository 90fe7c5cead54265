use std::collections::HashSet;
use std::io::Write as _;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::arguments::Request;
use super::exit::Exit;
use super::startup::{runtime, start_logging};
use crate::broker::rabbitmq::{EventSubscription, Publisher, Session};
use crate::broker::{Publisher as _, Session as _, Target};
use crate::message::{CancelRequest, Envelope, JsonText, ReceivedEvent};
use crate::settings::{Loaded, Settings};
use crate::worker::now;

/// Requests that wait for their confirm at once.
const UNCONFIRMED: usize = 256;

/// `request`: publishes requests as an upstream service would and, with `--wait`, prints their events.
pub(super) fn run(command: Request) -> anyhow::Result<Exit> {
    let Loaded { settings, warnings, .. } = command.settings.load(&[]).context("failed to start")?;
    start_logging(&settings.log, &warnings);
    let requests = requests(&command, &settings)?;
    let wait_for = command.wait.then_some(command.wait_for);
    runtime(1).context("failed to start the runtime")?.block_on(publish_all(&settings, &requests, wait_for))
}

fn requests(command: &Request, settings: &Settings) -> anyhow::Result<Vec<CancelRequest>> {
    let names = command.names.read(&settings.api.names)?;
    anyhow::ensure!(
        command.request_id.is_none() || names.len() == 1,
        "--request-id is the identity of one request, and there are {} operations",
        names.len()
    );
    let context = command.context.as_deref().map(context).transpose().context("failed to use --context")?;
    let with_the_rest = |name| {
        let mut request = CancelRequest::new(name, command.request_id.clone());
        request.timeout = command.timeout;
        request.details.reason.clone_from(&command.reason);
        request.details.requested_by.clone_from(&command.requested_by);
        request.details.context.clone_from(&context);
        request
    };
    let requests: Vec<CancelRequest> = names.into_iter().map(with_the_rest).collect();
    requests.iter().try_for_each(|request| usable(request, settings))?;
    Ok(requests)
}

/// Refuses what the worker would refuse, in its words.
fn usable(request: &CancelRequest, settings: &Settings) -> anyhow::Result<()> {
    let message = request.to_message(now());
    let envelope = Envelope {
        body: &message.body,
        content_type: Some(message.content_type),
        message_id: message.message_id.as_deref(),
        ..Envelope::default()
    };
    match CancelRequest::read(&envelope, settings.worker.request_limit(), &settings.api.names) {
        Ok(_) => Ok(()),
        Err(unusable) => {
            anyhow::bail!("the worker could not use the request for {}: {}", request.name, unusable.problem)
        }
    }
}

/// A JSON object, or `@` and the name of a file that holds one.
fn context(argument: &str) -> anyhow::Result<JsonText> {
    match argument.strip_prefix('@') {
        Some(file) => json_object(&std::fs::read_to_string(file).with_context(|| format!("file {file:?}"))?),
        None => json_object(argument),
    }
}

fn json_object(text: &str) -> anyhow::Result<JsonText> {
    let value: Box<RawValue> = serde_json::from_str(text)?;
    anyhow::ensure!(value.get().starts_with('{'), "it must be a JSON object such as {{\"key\":\"value\"}}");
    Ok(value.into())
}

async fn publish_all(
    settings: &Settings,
    requests: &[CancelRequest],
    wait_for: Option<std::time::Duration>,
) -> anyhow::Result<Exit> {
    let session = Session::open(&settings.amqp, "request").await.context("failed to reach the broker")?;
    // Before anything is published: an answer may come before the confirm.
    let events = match wait_for {
        Some(_) => Some(session.subscribe_to_events().await.context("failed to watch for events")?),
        None => None,
    };
    let publisher = session.publisher();
    let published = futures_util::stream::iter(requests)
        .map(|request| publish(&publisher, request, wait_for.is_none()))
        .buffer_unordered(UNCONFIRMED)
        .collect::<Vec<_>>()
        .await;
    published.into_iter().collect::<anyhow::Result<()>>()?;
    let exit = match (events, wait_for) {
        (Some(events), Some(wait_for)) => {
            let mut missing: HashSet<String> = requests.iter().map(request_key).collect();
            let all = missing.len();
            match timeout(wait_for, answers(events, &mut missing)).await {
                Ok(worst) => worst?,
                Err(_) => anyhow::bail!(
                    "{} of {all} events did not come within {}; the requests are in the broker and will be answered when a worker runs",
                    missing.len(),
                    humantime::format_duration(wait_for)
                ),
            }
        }
        _ => Exit::Success,
    };
    session.close().await;
    Ok(exit)
}

async fn publish(publisher: &Publisher, request: &CancelRequest, announce: bool) -> anyhow::Result<()> {
    let name = &request.name;
    publisher
        .publish(&Target::Request, request.to_message(now()))
        .await
        .map(drop)
        .with_context(|| format!("failed to publish the request for {name}"))?;
    if announce {
        let (identity, key) = (request.identity.as_str(), request_key(request));
        let line = serde_json::json!({ "name": name, "identity": identity, "request_key": key });
        writeln!(std::io::stdout(), "{line}").context("failed to print")?;
    }
    Ok(())
}

fn request_key(request: &CancelRequest) -> String {
    request.key().to_string()
}

/// Prints events until none is missing, and answers with the worst outcome.
async fn answers(mut events: EventSubscription, missing: &mut HashSet<String>) -> anyhow::Result<Exit> {
    let mut worst = Exit::Success;
    while !missing.is_empty() {
        let content = events.next().await.context("failed to watch for events")?;
        let envelope = content.envelope();
        // An event that is none of ours need not be one that this version reads.
        let Ok(event) = ReceivedEvent::read(&envelope) else { continue };
        if missing.remove(&event.request_key) {
            worst = worst.max(Exit::of_outcome(&event.data.outcome));
            let mut out = std::io::stdout().lock();
            out.write_all(envelope.body).and_then(|()| out.write_all(b"\n")).context("failed to print an event")?;
        }
    }
    Ok(worst)
}
