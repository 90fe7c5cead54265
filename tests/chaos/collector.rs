use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Connection, ConnectionProperties};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(100);

/// An event, as far as it is judged.
pub struct Answer {
    pub identity: String,
    pub name: String,
    /// The event's id.
    pub id: String,
    /// `cancelled`, or `failed: not_found`.
    pub verdict: String,
    /// When the worker made it.
    pub made: OffsetDateTime,
    /// From the request's publish until then.
    pub waited: Duration,
    pub arrived: Instant,
    /// It may have been taken before, by a connection that broke.
    redelivered: bool,
}

impl Answer {
    fn read(delivery: &Delivery) -> Self {
        let event: Value = serde_json::from_slice(&delivery.data).unwrap();
        let data = &event["data"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let verdict = match data["error"]["reason"].as_str() {
            Some(reason) => format!("{}: {reason}", text(&data["outcome"])),
            None => text(&data["outcome"]),
        };
        let time = |value: &Value| OffsetDateTime::parse(&text(value), &Rfc3339).unwrap();
        let made = time(&data["finished_at"]);
        Self {
            identity: text(&data["request_id"]),
            name: text(&data["name"]),
            id: delivery.properties.message_id().as_ref().map_or("", ShortString::as_str).to_owned(),
            verdict,
            made,
            waited: (made - time(&data["context"]["published"])).try_into().unwrap_or_default(),
            arrived: Instant::now(),
            redelivered: delivery.redelivered,
        }
    }
}

/// Takes every event as it comes, on a connection of its own that is built again whatever happens to it.
pub struct Collector {
    answers: watch::Sender<Vec<Answer>>,
    uris: Vec<String>,
    queue: String,
    task: Option<JoinHandle<()>>,
}

impl Collector {
    /// The nodes of one cluster are tried in turn.
    pub fn start(uris: Vec<String>, queue: String) -> Self {
        let mut collector = Self { answers: watch::Sender::new(Vec::new()), uris, queue, task: None };
        collector.resume();
        collector
    }

    /// Takes no more events until [`resume`](Self::resume).
    pub async fn pause(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
    }

    /// Takes events again.
    pub fn resume(&mut self) {
        let (uris, queue, sink) = (self.uris.clone(), self.queue.clone(), self.answers.clone());
        self.task = Some(tokio::spawn(async move {
            for uri in uris.iter().cycle() {
                if collect(uri, &queue, &sink).await.is_err() {
                    sleep(AGAIN).await;
                }
            }
        }));
    }

    pub fn count(&self) -> usize {
        self.answers.borrow().len()
    }

    /// Looks at all answers so far.
    pub fn look<T>(&self, judge: impl FnOnce(&[Answer]) -> T) -> T {
        judge(&self.answers.borrow())
    }

    /// Waits until this holds, and tells whether it did in time.
    pub async fn wait(&self, limit: Duration, mut holds: impl FnMut(&[Answer]) -> bool) -> bool {
        let mut answers = self.answers.subscribe();
        timeout(limit, answers.wait_for(|answers| holds(answers))).await.is_ok()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn collect(uri: &str, queue: &str, sink: &watch::Sender<Vec<Answer>>) -> lapin::Result<()> {
    let uri = format!("{uri}?heartbeat=2");
    let Ok(connection) =
        timeout(Duration::from_secs(5), Connection::connect(&uri, ConnectionProperties::default())).await
    else {
        return Ok(());
    };
    let channel = connection?.create_channel().await?;
    channel.basic_qos(1000, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let answer = Answer::read(&delivery);
        sink.send_if_modified(|answers| {
            let known =
                answer.redelivered && answers.iter().any(|other| other.id == answer.id && other.made == answer.made);
            if !known {
                answers.push(answer);
            }
            !known
        });
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}
