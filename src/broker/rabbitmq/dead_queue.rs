use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::time::{sleep, timeout};

use super::address::Address;
use super::confirms::Confirmed;
use super::connection_pair::ConnectionPair;
use super::content::{Content, number};
use super::delivery::DELIVERY_COUNT;
use super::publisher::Publisher;
use super::refusal::{Refusal, connection_lost, refusal};
use super::remedy::fault;
use super::topology::{self, Depth};
use super::topology_item::TopologyItem;
use crate::broker::error::BrokerError;
use crate::broker::port::Publisher as _;
use crate::broker::role::Role;
use crate::message::{DeadLetterHeaders, MovedByBroker};
use crate::settings;

/// How often the queue is asked whether it has got back what was read.
const BACK_INTERVAL: Duration = Duration::from_millis(20);

/// From the last letter to the look whether more are there, where not all have come.
const SILENCE: Duration = Duration::from_secs(1);

/// Up to so many letters are taken by one consumer, which gets all of them in one step of the queue. What is given back stands
/// behind whatever was given back before, and only before what was never read: so the order stays only if all letters are
/// taken, and a reader that is killed must have had none of them, or all.
const AT_ONCE: u32 = 1000;

/// More letters are taken by consumers one after the other, at most so many. When a channel ends, a quorum queue takes back
/// what its consumers held in the order in which they came; of more than 32 RabbitMQ 3.10 does so in no order.
const MAX_CONSUMERS: u32 = 30;

/// The dead queue, read by one alone, for the command line. What was read and is not acknowledged goes back to where it was,
/// in its order, when this is closed, dropped or killed. There is no looking without taking.
pub struct DeadQueue {
    pair: ConnectionPair,
    channel: Channel,
    /// How many letters there were when they were read last, but for those that have been taken out since.
    left: AtomicU32,
    /// The first tag of the consumer that reads, and how many of its letters have been taken out.
    consumer_began: AtomicU64,
    taken_out: AtomicU32,
    item: TopologyItem,
    quarantine: String,
    limit: Duration,
    /// Holds the lock that keeps others away.
    _lock: Option<Channel>,
}

/// A message of the dead queue.
#[derive(Debug)]
pub struct DeadLetter {
    /// Body and properties.
    pub content: Content,
    /// What the broker says of it, if it has moved it here itself.
    pub moved: Option<MovedByBroker>,
    /// How often it was read before.
    pub reads: u32,
    tag: u64,
}

/// A letter that has been read, and can be taken out of the queue.
#[derive(Clone, Copy, Debug)]
pub struct LetterTag(u64);

impl DeadLetter {
    /// For taking it out of the queue when its content is not needed any more.
    #[must_use]
    pub const fn tag(&self) -> LetterTag {
        LetterTag(self.tag)
    }
}

impl DeadQueue {
    /// Connects, within three times `amqp.connect_timeout`. The topology is not touched.
    ///
    /// # Errors
    /// There is no dead queue, or no broker; without `force` also where somebody else is at work on it.
    pub async fn open(settings: &settings::Amqp, worker: &str, force: bool) -> Result<Self, BrokerError> {
        let addresses = Address::all(&settings.uris).await;
        let limit = *settings.connect_timeout;
        match timeout(limit * 3, Self::build(settings, &addresses, worker, force)).await {
            Ok(built) => built,
            Err(_) => Err(BrokerError::TimedOut {
                address: addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                stage: "opening the dead queue",
                limit: limit * 3,
            }),
        }
    }

    async fn build(
        settings: &settings::Amqp,
        addresses: &[Address],
        worker: &str,
        force: bool,
    ) -> Result<Self, BrokerError> {
        let pair = ConnectionPair::open(settings, addresses, worker).await?;
        let item = TopologyItem::Queue { name: pair.names.dead.queue.clone(), arguments: FieldTable::default() };
        let queue = &pair.names.dead.queue.name;
        let channel = pair.consume.channel().await?;
        let depth =
            topology::ensure(&channel, &item, true).await.map_err(|error| fault(&error, &item, true, &pair.address))?;
        // It says more than the consumers of whoever holds it.
        let lock = if force { None } else { lock(&pair, queue).await? };
        if depth.consumers > 0 && !force {
            let by = format!("{} consumers take its messages", depth.consumers);
            return Err(BrokerError::InUse { queue: queue.clone(), by });
        }
        let quarantine = pair.names.quarantine.queue.name.clone();
        let limit = *settings.connect_timeout;
        let (left, consumer_began, taken_out) = (AtomicU32::new(0), AtomicU64::new(0), AtomicU32::new(0));
        Ok(Self { channel, left, consumer_began, taken_out, item, quarantine, limit, _lock: lock, pair })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.pair.names.dead.queue.name
    }

    /// Whether it is the settings' own, whose delivery limit is not known.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.item.is_external()
    }

    /// For what is published.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        self.pair.publisher.clone()
    }

    /// Waits, for `amqp.connect_timeout`, until the broker takes publishes.
    ///
    /// # Errors
    /// It does not.
    pub async fn ready_to_publish(&self) -> Result<(), BrokerError> {
        let late = BrokerError::TimedOut {
            address: self.pair.address.to_string(),
            stage: "waiting until it takes publishes; is there an alarm of memory or disk?",
            limit: self.limit,
        };
        match timeout(self.limit, self.pair.publisher.probe()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.pair.over.cause().unwrap_or(late)),
            Err(_) => Err(late),
        }
    }

    /// How many letters there are now, at most `bound`, and those letters in their order; fewer where others take some. To be read
    /// to its end, or the order of those that are left changes.
    ///
    /// # Errors
    /// The queue has no leader, may not be read, or the connection has ended.
    pub async fn letters(
        &self,
        bound: u32,
    ) -> Result<(u32, impl Stream<Item = Result<DeadLetter, BrokerError>>), BrokerError> {
        let mut count = self.depth().await?.messages;
        while count == 0 && !self.is_empty().await? {
            count = self.depth().await?.messages;
        }
        let count = count.min(bound);
        self.left.store(count, Relaxed);
        let held = if count <= AT_ONCE { count.max(1) } else { count / MAX_CONSUMERS + 1 };
        let held = u16::try_from(held).unwrap_or(u16::MAX);
        let reading =
            Reading { queue: self, consumer: None, consumers: 0, held, received: 0, is_cancelled: false, left: count };
        let letters = stream::try_unfold(reading, async |mut reading| {
            let next = reading.next().await?;
            Ok(next.map(|letter| (letter, reading)))
        });
        Ok((count, letters))
    }

    /// Of a queue without a leader, too, a declare says that it has no messages. But it takes no consumer.
    async fn is_empty(&self) -> Result<bool, BrokerError> {
        let channel = self.pair.consume.channel().await?;
        self.answered(channel.basic_qos(1, BasicQosOptions { global: false })).await?;
        let mut consumer = self.consume(&channel, "cancel-worker dead").await?;
        let is_empty = timeout(SILENCE, consumer.next()).await.is_err();
        // What came after all goes back.
        self.answered(channel.close(200, "OK".into())).await?;
        Ok(is_empty)
    }

    async fn consume(&self, channel: &Channel, tag: &str) -> Result<Consumer, BrokerError> {
        let (queue, tag) = [self.name(), tag].map(|name| ShortString::try_new(name).unwrap_or_default()).into();
        self.answered(channel.basic_consume(queue, tag, BasicConsumeOptions::default(), FieldTable::default())).await
    }

    async fn depth(&self) -> Result<Depth, BrokerError> {
        self.answered(topology::ensure(&self.channel, &self.item, true)).await
    }

    /// What the broker answers in time.
    async fn answered<T>(&self, call: impl Future<Output = lapin::Result<T>>) -> Result<T, BrokerError> {
        let answer = tokio::select! {
            biased;
            answer = timeout(self.limit, call) => answer,
            cause = self.pair.over.ended() => return Err(cause),
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if refusal(&error).is_some() && self.pair.over.cause().is_none() => {
                Err(fault(&error, &self.item, true, &self.pair.address))
            }
            Ok(Err(error)) => Err(self.lost(&error)),
            Err(_) => Err(BrokerError::NoLeader { queue: self.name().to_owned(), limit: self.limit }),
        }
    }

    fn lost(&self, error: &lapin::Error) -> BrokerError {
        self.pair.over.end(connection_lost(Role::Consume, error))
    }

    fn letter(&self, delivery: lapin::message::Delivery) -> DeadLetter {
        let lapin::message::Delivery { delivery_tag, properties, data, redelivered, .. } = delivery;
        let content = Content::new(data, properties);
        let count = content.headers().find(|(name, _)| *name == DELIVERY_COUNT).and_then(|(_, count)| number(count));
        let reads = count.map_or(u32::from(redelivered), |count| u32::try_from(count).unwrap_or(u32::MAX));
        let said = content.header(DeadLetterHeaders::REASON).is_some();
        let moved = match content.last_death() {
            Some((reason, queue, time)) if !said || queue == self.quarantine => {
                Some(MovedByBroker { reason: reason.to_owned(), time })
            }
            _ => None,
        };
        DeadLetter { content, moved, reads, tag: delivery_tag }
    }

    /// Takes a letter out: what became of it is safe, the proof says so.
    ///
    /// # Errors
    /// It could not be told; the letter stays.
    pub async fn ack(&self, letter: LetterTag, proof: Confirmed) -> Result<(), BrokerError> {
        let Confirmed { .. } = proof;
        self.discard(letter).await
    }

    /// Takes a letter out, for good.
    ///
    /// # Errors
    /// As for [`ack`](Self::ack).
    pub async fn discard(&self, LetterTag(tag): LetterTag) -> Result<(), BrokerError> {
        self.channel.basic_ack(tag, BasicAckOptions::default()).await.map_err(|error| self.lost(&error))?;
        self.left.fetch_sub(1, Relaxed);
        if tag >= self.consumer_began.load(Relaxed) {
            self.taken_out.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// Gives back what was read and not taken out, to be read again from the beginning.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn give_back(&mut self) -> Result<(), BrokerError> {
        self.channel.close(200, "OK".into()).await.map_err(|error| self.lost(&error))?;
        self.channel = self.pair.consume.channel().await?;
        // A quorum queue hears of it later. What is read before would come out of its order.
        let back = async {
            while self.depth().await?.messages < self.left.load(Relaxed) {
                sleep(BACK_INTERVAL).await;
            }
            Ok(())
        };
        // Somebody else may have taken some.
        timeout(self.limit, back).await.unwrap_or(Ok(()))
    }

    /// Ends it in order: what was taken out is out, and the rest is back.
    pub async fn close(mut self) {
        // The end of the connection gives it back, too.
        let _ = self.give_back().await;
        self.pair.close().await;
    }
}

/// The letters as one consumer after the other takes them. Each holds so many that the broker need not be asked for every
/// one, and is cancelled when it holds as many as it may: what is taken out afterwards brings it no more, so that each holds
/// what lies together.
struct Reading<'q> {
    queue: &'q DeadQueue,
    consumer: Option<Consumer>,
    /// So far.
    consumers: u32,
    /// Most letters that one holds.
    held: u16,
    /// By the consumer that reads.
    received: u32,
    /// Whether that was told to take no more.
    is_cancelled: bool,
    /// Letters that are still to come.
    left: u32,
}

impl Reading<'_> {
    async fn next(&mut self) -> Result<Option<DeadLetter>, BrokerError> {
        while self.left > 0 {
            if self.consumer.is_none() {
                self.consumer = Some(self.begin().await?);
            }
            let Some(consumer) = &mut self.consumer else { continue };
            if !self.is_cancelled && self.received >= self.queue.taken_out.load(Relaxed) + u32::from(self.held) {
                let cancel = self.queue.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
                self.queue.answered(cancel).await?;
                self.is_cancelled = true;
            }
            let next = tokio::select! {
                biased;
                next = timeout(SILENCE, consumer.next()) => next,
                cause = self.queue.pair.over.ended() => return Err(cause),
            };
            match next {
                Ok(Some(Ok(delivery))) => {
                    if self.received == 0 {
                        self.queue.taken_out.store(0, Relaxed);
                        self.queue.consumer_began.store(delivery.delivery_tag, Relaxed);
                    }
                    self.received += 1;
                    self.left -= 1;
                    if self.left == 0 && !self.is_cancelled {
                        // What came later is none of these.
                        let cancel = self.queue.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
                        self.queue.answered(cancel).await?;
                    }
                    return Ok(Some(self.queue.letter(delivery)));
                }
                Ok(Some(Err(error))) => return Err(self.queue.lost(&error)),
                // It has handed over what it was sent.
                Ok(None) if self.is_cancelled => self.consumer = None,
                Ok(None) => {
                    let queue = self.queue.name().to_owned();
                    return Err(self.queue.pair.over.end(BrokerError::ConsumerCancelled { queue }));
                }
                Err(_) => match self.queue.depth().await? {
                    // Of a queue without a leader that is said, too, but then of this consumer as well.
                    Depth { consumers: 0, .. } => {
                        let queue = self.queue.name().to_owned();
                        return Err(BrokerError::NoLeader { queue, limit: SILENCE });
                    }
                    // Others have taken the rest.
                    Depth { messages: 0, .. } => return Ok(None),
                    _ => {}
                },
            }
        }
        Ok(None)
    }

    /// Starts the next consumer.
    async fn begin(&mut self) -> Result<Consumer, BrokerError> {
        let DeadQueue { channel, .. } = self.queue;
        (self.received, self.is_cancelled, self.consumers) = (0, false, self.consumers + 1);
        self.queue.answered(channel.basic_qos(self.held, BasicQosOptions { global: false })).await?;
        self.queue.consume(channel, &format!("cancel-worker dead {:04}", self.consumers)).await
    }
}

/// A queue that only this connection may use, and that goes with it. Who may declare none goes without.
async fn lock(pair: &ConnectionPair, queue: &str) -> Result<Option<Channel>, BrokerError> {
    let channel = pair.consume.channel().await?;
    let name = ShortString::try_new(format!("{queue}.lock")).unwrap_or_default();
    let options = QueueDeclareOptions::exclusive().auto_delete();
    match channel.queue_declare(name, options, FieldTable::default()).await {
        Ok(_) => Ok(Some(channel)),
        Err(error) => match refusal(&error) {
            Some((Refusal::Locked, _)) => Err(BrokerError::InUse {
                queue: queue.to_owned(),
                by: "another cancel-worker dead command is at work on it".to_owned(),
            }),
            Some(_) => Ok(None),
            None => Err(pair.over.end(connection_lost(Role::Consume, &error))),
        },
    }
}
