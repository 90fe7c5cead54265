use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
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

/// For queues whose messages must outlast any number of redeliveries: without one, RabbitMQ 4 drops a message of a
/// quorum queue after 20, and looking at the dead letters would count. RabbitMQ 3 does not know -1 for "none".
const NO_DELIVERY_LIMIT: i64 = i32::MAX as i64;

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
/// is that it exists: AMQP tells neither type nor arguments nor bindings to those who may not declare. Answers with what
/// was missing and has been made; ends with the first item that is refused.
pub(super) async fn apply(
    connection: &BrokerConnection,
    address: &Address,
    names: &Names,
    settings: &settings::Topology,
) -> Result<Vec<TopologyItem>, BrokerError> {
    // A refusal closes the channel: this one is for nothing else.
    let mut channel = connection.channel().await?;
    let mut made = Vec::new();
    for item in plan(names, settings) {
        let missing = put(connection, &mut channel, &item, settings.declare, false, address).await?;
        if missing || item.is_binding_of(&made) {
            made.push(item);
        }
    }
    channel.close(200, "OK".into()).await.map_err(|error| connection_lost(connection.role(), &error))?;
    Ok(made)
}

/// What [`look_after`] found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Was missing, and has been made.
    pub(super) made: Vec<TopologyItem>,
    /// What is wrong with each of the others that are not as they have to be, and what to do.
    pub(super) problems: Vec<BrokerError>,
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
        let put = put(connection, &mut channel, &item, settings.declare, true, address);
        let done = match timeout(limit, put).await {
            Ok(done) => done,
            Err(_) => {
                // Its answer may still come: not on the channel of the others.
                channel = opened(connection, limit).await?;
                Err(unanswered(&item, limit))
            }
        };
        match done {
            Ok(missing) if missing || item.is_binding_of(&findings.made) => findings.made.push(item),
            Ok(_) => {}
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

/// Declares one item, or verifies it; tells whether it was missing. Of a binding that cannot be told. Where that is enough,
/// an item that is there need not be one that may be declared.
async fn put(
    connection: &BrokerConnection,
    channel: &mut Channel,
    item: &TopologyItem,
    declare: bool,
    there_is_enough: bool,
    address: &Address,
) -> Result<bool, BrokerError> {
    // The refusal of the item before has closed it.
    if !channel.status().connected() {
        *channel = connection.channel().await?;
    }
    let ours = declare && !item.is_external();
    let missing = match ensure(channel, item, true).await {
        Ok(_) => false,
        Err(error) if ours && matches!(refusal(&error), Some((Refusal::NotFound, _))) => {
            *channel = connection.channel().await?;
            true
        }
        Err(error) => return Err(fault(&error, item, true, address)),
    };
    if !ours {
        return Ok(false);
    }
    match ensure(channel, item, false).await {
        Ok(_) => Ok(missing),
        Err(error) if there_is_enough && !missing && matches!(refusal(&error), Some((Refusal::Access, _))) => Ok(false),
        Err(error) => Err(fault(&error, item, false, address)),
    }
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

/// How full a queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth {
    pub(super) messages: u32,
    pub(super) consumers: u32,
}

fn short(name: &str) -> lapin::Result<ShortString> {
    ShortString::try_new(name).map_err(|error| std::io::Error::other(error).into())
}
