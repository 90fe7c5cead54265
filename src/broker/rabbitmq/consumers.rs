use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{Stream as _, StreamExt as _};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};

use super::delivery::{Delivery, Queue};
use super::names::Names;
use super::refusal::connection_lost;
use super::session_end::SessionEnd;
use crate::broker::error::BrokerError;
use crate::broker::role::Role;
use crate::broker::session_kind::SessionKind;

/// The consumers of one session.
pub(super) struct Consumers {
    channel: Channel,
    worker: String,
    queues: Vec<(Queue, String)>,
    consumers: Vec<ActiveConsumer>,
    /// How often consumers have been started.
    starts: u32,
    /// Which consumer is looked at first: the one after the one that delivered last.
    turn: usize,
    /// The queue whose consumer the broker has cancelled.
    cancelled: Option<String>,
    over: SessionEnd,
}

struct ActiveConsumer {
    consumer: Consumer,
    queue: Queue,
    name: String,
}

impl Consumers {
    pub(super) fn new(channel: Channel, names: &Names, kind: SessionKind, worker: &str, over: SessionEnd) -> Self {
        let queues = match kind {
            SessionKind::Work => vec![
                (Queue::Requests, names.requests.queue.name.clone()),
                (Queue::Followups, names.followups.queue.name.clone()),
            ],
            SessionKind::Quarantine => vec![(Queue::Quarantine, names.quarantine.queue.name.clone())],
        };
        Self {
            channel,
            worker: worker.to_owned(),
            queues,
            consumers: Vec::new(),
            starts: 0,
            turn: 0,
            cancelled: None,
            over,
        }
    }

    /// Starts a consumer for each queue.
    pub(super) async fn start(&mut self, prefetch: u16) -> Result<(), BrokerError> {
        let lost = |error: lapin::Error| self.over.end(connection_lost(Role::Consume, &error));
        // Per consumer; RabbitMQ 4.3 refuses the other kind.
        self.channel.basic_qos(prefetch, BasicQosOptions { global: false }).await.map_err(lost)?;
        self.starts += 1;
        let mut consumers = Vec::new();
        for (queue, name) in &self.queues {
            let tag = tag(&self.worker, *queue, self.starts);
            let options = BasicConsumeOptions::default();
            let short = ShortString::try_new(name.as_str()).unwrap_or_default();
            let consumer =
                self.channel.basic_consume(short, tag, options, FieldTable::default()).await.map_err(lost)?;
            consumers.push(ActiveConsumer { consumer, queue: *queue, name: name.clone() });
        }
        self.consumers = consumers;
        self.cancelled = None;
        Ok(())
    }

    /// Stops all consumers. What the broker had sent already and was not taken is handed back as deliveries.
    pub(super) async fn stop(&mut self) -> Result<Vec<Delivery>, BrokerError> {
        let lost = |error: lapin::Error| self.over.end(connection_lost(Role::Consume, &error));
        let mut left = Vec::new();
        for mut live in std::mem::take(&mut self.consumers) {
            // After the broker's answer there are no more deliveries, and the stream ends.
            self.channel.basic_cancel(live.consumer.tag(), BasicCancelOptions::default()).await.map_err(lost)?;
            while let Some(delivery) = live.consumer.next().await {
                left.push(Delivery::new(delivery.map_err(lost)?, live.queue, self.over.clone()));
            }
        }
        Ok(left)
    }

    /// The next delivery, from its queues in turn. Once the broker has cancelled a consumer there is none: that is the answer
    /// then, again and again, while everything else goes on.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Delivery, BrokerError>> {
        if let Some(queue) = &self.cancelled {
            return Poll::Ready(Err(BrokerError::ConsumerCancelled { queue: queue.clone() }));
        }
        let count = self.consumers.len();
        for offset in 0..count {
            let index = (self.turn + offset) % count;
            let live = &mut self.consumers[index];
            match Pin::new(&mut live.consumer).poll_next(context) {
                Poll::Pending => {}
                Poll::Ready(Some(Ok(delivery))) => {
                    self.turn = index + 1;
                    return Poll::Ready(Ok(Delivery::new(delivery, live.queue, self.over.clone())));
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(self.over.end(connection_lost(Role::Consume, &error))));
                }
                // On a live channel: the broker cancelled this consumer alone, and nothing else tells of it.
                Poll::Ready(None) if self.channel.status().connected() => {
                    let ActiveConsumer { name, .. } = self.consumers.remove(index);
                    self.cancelled = Some(name.clone());
                    return Poll::Ready(Err(BrokerError::ConsumerCancelled { queue: name }));
                }
                Poll::Ready(None) => {
                    let cause = BrokerError::Lost { role: Role::Consume, problem: "it was closed".to_owned() };
                    return Poll::Ready(Err(self.over.end(cause)));
                }
            }
        }
        Poll::Pending
    }
}

/// Names the worker where operators look; cut to what a short string holds. Never the same twice on a channel: a quorum
/// queue of RabbitMQ 3.10 takes a tag that still has unanswered deliveries for the old consumer, and the channel crashes.
fn tag(worker: &str, queue: Queue, start: u32) -> ShortString {
    let mut name = format!("cancel-worker {} {start} {worker}", queue.as_str());
    name.truncate(name.floor_char_boundary(255));
    ShortString::try_new(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_tag_names_the_worker_and_is_cut_between_characters() {
        assert_eq!(tag("w1", Queue::Followups, 2).as_str(), "cancel-worker followups 2 w1");
        let long = tag(&"ü".repeat(200), Queue::Requests, 1);
        assert!(long.as_str().len() >= 254 && long.as_str().ends_with('ü'));
    }
}
