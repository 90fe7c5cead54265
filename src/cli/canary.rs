use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, timeout};

use crate::broker::rabbitmq::Session;
use crate::broker::{Publisher as _, Session as _, Target};
use crate::message::{CancelRequest, OperationName, ReceivedEvent};
use crate::settings::Settings;
use crate::worker::now;

/// How long the worker is to follow the operation, which does not exist.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How long the answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// One request for an operation that does not exist: its answer, whatever it is, has gone the whole way.
pub(super) struct Canary {
    request: CancelRequest,
}

impl Canary {
    pub(super) fn new(name: OperationName) -> Self {
        let id = format!("cancel-worker-check-{}-{}", std::process::id(), now().unix_timestamp_nanos());
        let mut request = CancelRequest::new(name, Some(id));
        request.timeout = Some(TIMEOUT);
        request.details.reason = Some("cancel-worker check --end-to-end".to_owned());
        Self { request }
    }

    /// Publishes it and waits for the event; tells how long that took, and what it says.
    pub(super) async fn fly(self, settings: &Settings) -> anyhow::Result<String> {
        let session = Session::open(&settings.amqp, "check").await.context("failed to reach the broker")?;
        // Before it is published: the answer may come before the confirm.
        let mut events = session.subscribe_to_events().await.context("failed to watch for events")?;
        let began = Instant::now();
        let message = self.request.to_message(now());
        drop(session.publisher().publish(&Target::Request, message).await.context("failed to publish the request")?);
        let confirmed = began.elapsed();
        let key = self.request.key().to_string();
        let answer = timeout(PATIENCE, async {
            loop {
                let content = events.next().await?;
                match ReceivedEvent::read(&content.envelope()) {
                    Ok(event) if event.request_key == key => return anyhow::Ok(event),
                    // Somebody else's.
                    Ok(_) | Err(_) => {}
                }
            }
        });
        let told = match answer.await {
            Ok(event) => {
                let event = event.context("failed to watch for the event")?;
                let reason = event.data.error.and_then(|error| error.reason).unwrap_or_default();
                let (confirmed, all) = (confirmed.as_secs_f64(), began.elapsed().as_secs_f64());
                Ok(format!(
                    "broker, worker, API and event: {all:.3} s, {confirmed:.3} s of them until the broker had the request; the answer is {} {reason}",
                    event.data.outcome
                ))
            }
            Err(_) => Err(anyhow::anyhow!(
                "no answer within {}: does a worker run with these settings, and does it say that it is ready?",
                humantime::format_duration(PATIENCE)
            )),
        };
        session.close().await;
        told
    }
}
