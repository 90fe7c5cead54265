use std::time::Duration;

use lapin::options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use tokio::time::timeout;

use super::address::Address;
use super::connection::BrokerConnection;
use super::names::{DEAD_KEY, FOLLOWUP_KEY, Name, Names, QUARANTINED_REQUEST_KEY, QueueBinding};
use super::refusal::{Refusal, connection_lost, refusal};
use super::remedy::fault;
use super::topology_item::TopologyItem;
use crate::broker::error::BrokerError;
use crate::settings;
use crate::telemetry::Meters;
use crate::telemetry::meters::Watched;

/// For queues whose messages must outlast any number of redeliveries: without one, RabbitMQ 4 drops a message of a
/// quorum queue after 20, and looking at the dead letters would count. RabbitMQ 3 does not know -1 for "none".
const NO_DELIVERY_LIMIT: i64 = i32::MAX as i64;

/// A queue that has a leader answers a get at once.
const GET_TIMEOUT: Duration = Duration::from_secs(1);

/// What is lost with so many sessions, although it was alone in each, cannot even be parsed.
const QUARANTINE_DELIVERY_LIMIT: i64 = 20;

/// Everything, in the order in which it can be declared.
pub(super) fn plan(names: &Names, settings: &settings::Topology) -> Vec<TopologyItem> {
    let mut items = Vec::new();
    let dead = names.dead.address(DEAD_KEY);
    let kept = || quorum(&[("x-delivery-limit", NO_DELIVERY_LIMIT.into())], None);
    queue_with_exchange(&mut items, &names.dead, ExchangeKind::Direct, DEAD_KEY, kept());

    let limit = quorum(&[("x-delivery-limit", QUARANTINE_DELIVERY_LIMIT.into())], Some(&dead));
    queue_with_exchange(&mut items, &names.quarantine, ExchangeKind::Direct, QUARANTINED_REQUEST_KEY, limit);
    items.extend(names.quarantine.exchange.as_ref().map(|exchange| TopologyItem::Binding {
        queue: names.quarantine.queue.name.clone(),
        exchange: exchange.name.clone(),
        key: FOLLOWUP_KEY.to_owned(),
    }));

    let work = |key| {
        let limit = ("x-delivery-limit", i64::from(settings.delivery_limit).into());
        quorum(&[limit], Some(&names.quarantine.address(key)))
    };
    let (requests, followups) = (work(QUARANTINED_REQUEST_KEY), work(FOLLOWUP_KEY));
    queue_with_exchange(&mut items, &names.requests, ExchangeKind::Topic, "#", requests);
    queue_with_exchange(&mut items, &names.followups, ExchangeKind::Direct, FOLLOWUP_KEY, followups);

    let back = names.followups.address(FOLLOWUP_KEY);
    items.push(TopologyItem::Exchange { name: names.wait_exchange.clone(), kind: ExchangeKind::Direct });
    for level in &names.levels {
        let queue = names.wait_queue(level);
        let ttl = i64::try_from(level.ttl().as_millis()).unwrap_or(i64::MAX);
        queue_and_binding(
            &mut items,
            &queue,
            &names.wait_exchange,
            level.label(),
            quorum(&[("x-message-ttl", ttl.into())], Some(&back)),
        );
    }

    items.push(TopologyItem::Exchange { name: names.events_exchange.clone(), kind: ExchangeKind::Topic });
    if let Some(results) = &names.results {
        queue_and_binding(&mut items, results, &names.events_exchange, "operation.#", kept());
    }
    items
}

fn queue_with_exchange(
    items: &mut Vec<TopologyItem>,
    binding: &QueueBinding,
    kind: ExchangeKind,
    key: &str,
    arguments: FieldTable,
) {
    match &binding.exchange {
        Some(exchange) => {
            items.push(TopologyItem::Exchange { name: exchange.clone(), kind });
            queue_and_binding(items, &binding.queue, exchange, key, arguments);
        }
        None => items.push(TopologyItem::Queue { name: binding.queue.clone(), arguments }),
    }
}

/// A queue, and its binding where both ends are ours.
fn queue_and_binding(items: &mut Vec<TopologyItem>, queue: &Name, exchange: &Name, key: &str, arguments: FieldTable) {
    items.push(TopologyItem::Queue { name: queue.clone(), arguments });
    if !queue.external && !exchange.external {
        items.push(TopologyItem::Binding {
            queue: queue.name.clone(),
            exchange: exchange.name.clone(),
            key: key.to_owned(),
        });
    }
}

/// Arguments of a quorum queue. With a dead-letter target its dead-lettering is at-least-once, which takes all of
/// these; without `reject-publish` the broker would quietly fall back to at-most-once.
fn quorum(arguments: &[(&str, AMQPValue)], dead_letters: Option<&(String, String)>) -> FieldTable {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut table = FieldTable::default();
    table.insert("x-queue-type".into(), text("quorum"));
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    if let Some((exchange, key)) = dead_letters {
        table.insert("x-dead-letter-exchange".into(), text(exchange));
        table.insert("x-dead-letter-routing-key".into(), text(key));
        table.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        table.insert("x-overflow".into(), text("reject-publish"));
    }
    table
}

/// Declares what is ours and verifies what is not; with `amqp.topology.declare = false` verifies everything. Verified
/// is that it exists: AMQP tells neither type nor arguments nor bindings to those who may not declare. Answers without
/// problems: it ends with the first item that is refused.
pub(super) async fn apply(
    connection: &BrokerConnection,
    address: &Address,
    names: &Names,
    settings: &settings::Topology,
) -> Result<Findings, BrokerError> {
    // A refusal closes the channel: this one is for nothing else.
    let mut channel = connection.channel().await?;
    let mut findings = Findings::default();
    for item in plan(names, settings) {
        let found = put(connection, &mut channel, &item, settings.declare, None, address).await?;
        findings.enter(item, found);
    }
    channel.close(200, "OK".into()).await.map_err(|error| connection_lost(connection.role(), &error))?;
    Ok(findings)
}

/// What [`apply`] and [`look_after`] found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Was missing, and has been made.
    pub(super) made: Vec<TopologyItem>,
    /// What is wrong with each of the others that are not as they have to be, and what to do.
    pub(super) problems: Vec<BrokerError>,
    /// Of the queues.
    pub(super) depths: Depths,
}

impl Findings {
    fn enter(&mut self, item: TopologyItem, found: Found) {
        if let (TopologyItem::Queue { name, .. }, Some(depth)) = (&item, found.depth) {
            self.depths.enter(&name.name, depth);
        }
        if found.missing || item.is_binding_of(&self.made) {
            self.made.push(item);
        }
    }
}

/// One item that is as it has to be.
struct Found {
    /// It was missing, and has been made.
    missing: bool,
    /// Of a queue. None where the broker's answer is not to be believed.
    depth: Option<Depth>,
}

/// The same as [`apply`], but an item that is refused, or not answered within `limit`, keeps no other from being made, and
/// permissions that were withdrawn are no fault as long as everything is there.
///
/// # Errors
/// The connection has ended.
pub(super) async fn look_after(
    connection: &BrokerConnection,
    address: &Address,
    names: &Names,
    settings: &settings::Topology,
    limit: Duration,
) -> Result<Findings, BrokerError> {
    let mut channel = opened(connection, limit).await?;
    let mut findings = Findings::default();
    let mut refused = Vec::new();
    for item in plan(names, settings) {
        // Without one of its ends a binding cannot be made, which is said of that end already.
        if item.is_binding_of(&refused) {
            continue;
        }
        let put = put(connection, &mut channel, &item, settings.declare, Some(names), address);
        let done = match timeout(limit, put).await {
            Ok(done) => done,
            Err(_) => {
                // Its answer may still come: not on the channel of the others.
                channel = opened(connection, limit).await?;
                Err(unanswered(&item, limit))
            }
        };
        match done {
            Ok(found) => findings.enter(item, found),
            Err(error) if connection.lapin().status().connected() => {
                findings.problems.push(error);
                refused.push(item);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(findings)
}

/// A channel, unless the broker says nothing for so long.
async fn opened(connection: &BrokerConnection, limit: Duration) -> Result<Channel, BrokerError> {
    let late = |_| BrokerError::Topology {
        action: "open a channel".to_owned(),
        problem: format!("the broker did not answer within {}", humantime::format_duration(limit)),
    };
    timeout(limit, connection.channel()).await.map_err(late)?
}

/// The broker said nothing of an item: its leader may be lost.
fn unanswered(item: &TopologyItem, limit: Duration) -> BrokerError {
    let problem = format!("the broker did not answer within {}", humantime::format_duration(limit));
    BrokerError::Topology { action: format!("look at {}", item.what()), problem }
}

/// Declares one item, or verifies it. Whether a binding was missing cannot be told. In the upkeep, which has the names, an item
/// that is there need not be one that may be declared, and a queue that is told to be empty is asked again.
async fn put(
    connection: &BrokerConnection,
    channel: &mut Channel,
    item: &TopologyItem,
    declare: bool,
    upkeep: Option<&Names>,
    address: &Address,
) -> Result<Found, BrokerError> {
    // The refusal of the item before has closed it.
    if !channel.status().connected() {
        *channel = connection.channel().await?;
    }
    let ours = declare && !item.is_external();
    let found = match ensure(channel, item, true).await {
        Ok(depth) => {
            // A queue that the session consumes has a consumer.
            let is_consumed = |names: &Names| item.queue().is_some_and(|queue| names.is_consumed(queue));
            let asks = upkeep.is_some_and(|names| !is_consumed(names));
            Found { missing: false, depth: believed(connection, item, depth, asks).await? }
        }
        Err(error) if ours && matches!(refusal(&error), Some((Refusal::NotFound, _))) => {
            *channel = connection.channel().await?;
            Found { missing: true, depth: None }
        }
        Err(error) => return Err(fault(&error, item, true, address)),
    };
    if !ours {
        return Ok(found);
    }
    match ensure(channel, item, false).await {
        Ok(_) => Ok(found),
        Err(error) if upkeep.is_some() && !found.missing && matches!(refusal(&error), Some((Refusal::Access, _))) => {
            Ok(found)
        }
        Err(error) => Err(fault(&error, item, false, address)),
    }
}

/// A queue without a leader is told to have no messages and no consumers: then only a get, which goes through the leader, tells
/// that it is empty, and where `asks` says so it is made. Without the permission to read, nobody can tell.
pub(super) async fn believed(
    connection: &BrokerConnection,
    item: &TopologyItem,
    depth: Depth,
    asks: bool,
) -> Result<Option<Depth>, BrokerError> {
    let TopologyItem::Queue { name, .. } = item else { return Ok(None) };
    if depth != Depth::default() {
        return Ok(Some(depth));
    }
    if !asks {
        return Ok(None);
    }
    // A refusal closes it, and what was got goes back with it.
    let own = connection.channel().await?;
    let get = async { own.basic_get(short(&name.name)?, BasicGetOptions::default()).await };
    let is_empty = match timeout(GET_TIMEOUT, get).await {
        Ok(Ok(message)) => message.is_none(),
        Ok(Err(_)) | Err(_) => false,
    };
    if own.status().connected() {
        let _ = timeout(GET_TIMEOUT, own.close(200, "OK".into())).await;
    }
    Ok(is_empty.then_some(depth))
}

/// Declares one item, or verifies it.
pub(super) async fn ensure(channel: &Channel, item: &TopologyItem, passive: bool) -> lapin::Result<Depth> {
    let mut depth = Depth::default();
    match item {
        TopologyItem::Exchange { name, kind } => {
            let options = ExchangeDeclareOptions { durable: true, passive, ..ExchangeDeclareOptions::default() };
            channel.exchange_declare(short(&name.name)?, kind.clone(), options, FieldTable::default()).await?;
        }
        TopologyItem::Queue { name, arguments } => {
            let options = QueueDeclareOptions { durable: true, passive, ..QueueDeclareOptions::default() };
            let queue = channel.queue_declare(short(&name.name)?, options, arguments.clone()).await?;
            depth = Depth { messages: queue.message_count(), consumers: queue.consumer_count() };
        }
        // There is no way to verify a binding.
        TopologyItem::Binding { .. } if passive => {}
        TopologyItem::Binding { queue, exchange, key } => {
            let (queue, exchange, key) = (short(queue)?, short(exchange)?, short(key)?);
            channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default()).await?;
        }
    }
    Ok(depth)
}

/// How full queues are, by name.
#[derive(Debug, Default)]
pub(super) struct Depths(Vec<(String, Depth)>);

impl Depths {
    fn enter(&mut self, queue: &str, depth: Depth) {
        self.0.push((queue.to_owned(), depth));
    }

    /// Tells the depths that are known. Of the wait queues, if all are.
    pub(super) fn tell(&self, names: &Names, meters: &Meters) {
        let depth = |queue: &str| self.0.iter().find(|(name, _)| name == queue).map(|(_, depth)| *depth);
        let results = names.results.as_ref().map(|results| results.name.as_str());
        let one = [
            (Watched::Requests, Some(names.requests.queue.name.as_str())),
            (Watched::FollowUps, Some(names.followups.queue.name.as_str())),
            (Watched::Quarantine, Some(names.quarantine.queue.name.as_str())),
            (Watched::Results, results),
            (Watched::Dead, Some(names.dead.queue.name.as_str())),
        ];
        // Whoever looks after the dead letters holds them meanwhile.
        let is_held = |watched, depth: &Depth| watched == Watched::Dead && depth.consumers > 0;
        for (watched, queue) in one {
            if let Some(depth) = queue.and_then(depth).filter(|depth| !is_held(watched, depth)) {
                let Depth { messages, consumers } = depth;
                meters.depth(watched, messages.into(), consumers.into());
            }
        }
        let waiting: Option<Vec<Depth>> =
            names.levels.iter().map(|level| depth(&names.wait_queue(level).name)).collect();
        if let Some(waiting) = waiting {
            let sum = |of: fn(&Depth) -> u32| waiting.iter().map(|depth| u64::from(of(depth))).sum();
            meters.depth(Watched::Wait, sum(|depth| depth.messages), sum(|depth| depth.consumers));
        }
    }
}

/// How full a queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth {
    pub(super) messages: u32,
    pub(super) consumers: u32,
}

fn short(name: &str) -> lapin::Result<ShortString> {
    ShortString::try_new(name).map_err(|error| std::io::Error::other(error).into())
}
