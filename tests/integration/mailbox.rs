use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::event::Event;
use crate::support::Amqp;

/// Takes every event out of a queue as it comes, and keeps it.
pub struct Mailbox {
    events: watch::Sender<Vec<Event>>,
    /// Ends with its connection.
    collecting: JoinHandle<()>,
}

impl Mailbox {
    pub async fn open(uri: &str, queue: &str) -> Self {
        let events = watch::Sender::new(Vec::new());
        let collecting = collect(uri, queue, events.clone()).await;
        Self { events, collecting }
    }

    /// Goes on with a new connection.
    pub async fn reopen(&mut self, uri: &str, queue: &str) {
        self.collecting.abort();
        self.collecting = collect(uri, queue, self.events.clone()).await;
    }

    /// All events so far, as soon as this holds of them, or when the time is over.
    pub async fn when(&self, limit: Duration, holds: impl FnMut(&Vec<Event>) -> bool) -> Vec<Event> {
        let mut events = self.events.subscribe();
        let _ = timeout(limit, events.wait_for(holds)).await;
        self.events.borrow().clone()
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.collecting.abort();
    }
}

async fn collect(uri: &str, queue: &str, events: watch::Sender<Vec<Event>>) -> JoinHandle<()> {
    let amqp = Amqp::connect(uri).await;
    let channel = amqp.channel().await;
    channel.basic_qos(1000, BasicQosOptions::default()).await.unwrap();
    let (queue, options) = (queue.into(), BasicConsumeOptions::default());
    let mut consumer = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await.unwrap();
    tokio::spawn(async move {
        // Kept: it ends with its last handle.
        let _connection = amqp;
        while let Some(Ok(delivery)) = consumer.next().await {
            events.send_modify(|events| events.push(Event::read(&delivery)));
            if delivery.ack(BasicAckOptions::default()).await.is_err() {
                return;
            }
        }
    })
}
