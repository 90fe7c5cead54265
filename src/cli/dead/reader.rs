use anyhow::Context as _;
use futures_util::{Stream, StreamExt as _};

use crate::broker::BrokerError;
use crate::broker::rabbitmq::{DeadLetter, DeadQueue};
use crate::message::Letter;
use crate::settings::Settings;
use crate::telemetry;

/// A queue of the user's own may drop what was read so often as its delivery limit says, which on RabbitMQ 4 is 20.
const MAX_READS: u32 = 15;

/// What a dead queue is read with.
pub(super) struct Reader<'s> {
    pub(super) queue: DeadQueue,
    pub(super) settings: &'s Settings,
    force: bool,
}

/// A letter with its place in the queue.
pub(super) struct ReadLetter {
    /// 1 for the first.
    pub(super) place: u32,
    pub(super) raw: DeadLetter,
    pub(super) letter: Letter,
}

impl<'s> Reader<'s> {
    pub(super) async fn open(settings: &'s Settings, force: bool) -> anyhow::Result<Self> {
        let queue = DeadQueue::open(&settings.amqp, "dead", force).await.context("failed to open the dead queue")?;
        Ok(Self { queue, settings, force })
    }

    /// How many letters there are, at most `bound`, and those letters in their order: none that came after they were counted.
    pub(super) async fn letters(
        &self,
        bound: u32,
    ) -> anyhow::Result<(u32, impl Stream<Item = anyhow::Result<ReadLetter>>)> {
        let (count, letters) = self.queue.letters(bound).await.context("failed to read the dead queue")?;
        let letters = letters.enumerate().map(move |(index, read)| {
            let place = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
            let raw = read.map_err(|error| self.failed(place, error))?;
            if place == 1 {
                self.mind_limit(&raw)?;
            }
            Ok(self.read(place, raw))
        });
        Ok((count, letters))
    }

    fn read(&self, place: u32, raw: DeadLetter) -> ReadLetter {
        let (limit, names) = (self.settings.worker.request_limit(), &self.settings.api.names);
        let header = |name: &str| raw.content.header(name);
        let letter = Letter::read(&raw.content.envelope(), header, raw.moved.clone(), limit, names);
        ReadLetter { place, raw, letter }
    }

    fn failed(&self, place: u32, error: BrokerError) -> anyhow::Error {
        let hint = if matches!(error, BrokerError::Lost { .. }) {
            "; if it is the same letter each time, it is one that the AMQP client cannot parse: take it off with \"Get messages\" of RabbitMQ's management page, which takes the first"
        } else {
            ""
        };
        anyhow::Error::new(error).context(format!("failed to read letter {place} of {:?}{hint}", self.queue.name()))
    }

    /// Each look counts towards the limit of a queue whose limit is not known.
    fn mind_limit(&self, first: &DeadLetter) -> anyhow::Result<()> {
        if !self.queue.is_external() || self.force || first.reads < MAX_READS / 3 {
            return Ok(());
        }
        let (queue, reads) = (self.queue.name(), first.reads);
        anyhow::ensure!(
            reads < MAX_READS,
            "the first letter of {queue:?} was read {reads} times, and the delivery limit of such a queue is 20 unless it is set: the broker would soon drop its letters; raise the limit, or give --force"
        );
        telemetry::print_line(&format!(
            "cancel-worker: the first letter of {queue:?} was read {reads} times; each look counts towards the queue's delivery limit"
        ));
        Ok(())
    }
}
