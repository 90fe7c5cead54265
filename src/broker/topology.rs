use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use super::BrokerError;
use super::address::Address;
use super::connection::Link;
use super::error::{Refusal, problem, refusal};
use super::names::{DEAD_KEY, FOLLOWUP_KEY, Lane, Name, Names};
use crate::settings;

/// For queues whose messages must outlast any number of redeliveries: without one, RabbitMQ 4 drops a message of a
/// quorum queue after 20, and looking at the dead letters would count. RabbitMQ 3 does not know -1 for "none".
const NO_DELIVERY_LIMIT: i64 = i32::MAX as i64;

/// One thing that has to be there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Exchange { name: Name, kind: ExchangeKind },
    Queue { name: Name, arguments: FieldTable },
    Binding { queue: String, exchange: String, key: String },
}

/// Everything, in the order in which it can be declared.
pub(super) fn plan(names: &Names, settings: &settings::Topology) -> Vec<Part> {
    let mut parts = Vec::new();
    let dead = names.dead.address(DEAD_KEY);
    let work = || quorum(&[("x-delivery-limit", i64::from(settings.delivery_limit).into())], Some(&dead));
    let kept = || quorum(&[("x-delivery-limit", NO_DELIVERY_LIMIT.into())], None);

    lane(&mut parts, &names.dead, ExchangeKind::Direct, DEAD_KEY, kept());
    lane(&mut parts, &names.requests, ExchangeKind::Topic, "#", work());
    lane(&mut parts, &names.followups, ExchangeKind::Direct, FOLLOWUP_KEY, work());

    let back = names.followups.address(FOLLOWUP_KEY);
    parts.push(Part::Exchange { name: names.wait_exchange.clone(), kind: ExchangeKind::Direct });
    for level in &names.levels {
        let queue = names.wait_queue(level);
        let ttl = i64::try_from(level.ttl().as_millis()).unwrap_or(i64::MAX);
        bound(
            &mut parts,
            &queue,
            &names.wait_exchange,
            level.label(),
            quorum(&[("x-message-ttl", ttl.into())], Some(&back)),
        );
    }

    parts.push(Part::Exchange { name: names.events_exchange.clone(), kind: ExchangeKind::Topic });
    if let Some(results) = &names.results {
        bound(&mut parts, results, &names.events_exchange, "operation.#", kept());
    }
    parts
}

fn lane(parts: &mut Vec<Part>, lane: &Lane, kind: ExchangeKind, key: &str, arguments: FieldTable) {
    match &lane.exchange {
        Some(exchange) => {
            parts.push(Part::Exchange { name: exchange.clone(), kind });
            bound(parts, &lane.queue, exchange, key, arguments);
        }
        None => parts.push(Part::Queue { name: lane.queue.clone(), arguments }),
    }
}

/// A queue, and its binding where both ends are ours.
fn bound(parts: &mut Vec<Part>, queue: &Name, exchange: &Name, key: &str, arguments: FieldTable) {
    parts.push(Part::Queue { name: queue.clone(), arguments });
    if !queue.own && !exchange.own {
        parts.push(Part::Binding { queue: queue.name.clone(), exchange: exchange.name.clone(), key: key.to_owned() });
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
/// is that it exists: AMQP tells neither type nor arguments nor bindings to those who may not declare.
pub(super) async fn apply(
    link: &Link,
    address: &Address,
    names: &Names,
    settings: &settings::Topology,
) -> Result<(), BrokerError> {
    // A refusal closes the channel: this one is for nothing else.
    let channel = link.channel().await?;
    for part in plan(names, settings) {
        let passive = !settings.declare || part.is_own();
        ensure(&channel, &part, passive).await.map_err(|error| fault(&error, &part, passive, address))?;
    }
    channel.close(200, "OK".into()).await.map_err(|error| BrokerError::lost(link.role(), &error))
}

/// Declares one part, or verifies it.
pub(super) async fn ensure(channel: &Channel, part: &Part, passive: bool) -> lapin::Result<Depth> {
    let mut depth = Depth::default();
    match part {
        Part::Exchange { name, kind } => {
            let options = ExchangeDeclareOptions { durable: true, passive, ..ExchangeDeclareOptions::default() };
            channel.exchange_declare(short(&name.name)?, kind.clone(), options, FieldTable::default()).await?;
        }
        Part::Queue { name, arguments } => {
            let options = QueueDeclareOptions { durable: true, passive, ..QueueDeclareOptions::default() };
            let queue = channel.queue_declare(short(&name.name)?, options, arguments.clone()).await?;
            depth = Depth { messages: queue.message_count(), consumers: queue.consumer_count() };
        }
        // There is no way to verify a binding.
        Part::Binding { .. } if passive => {}
        Part::Binding { queue, exchange, key } => {
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

impl Part {
    pub(super) const fn is_own(&self) -> bool {
        match self {
            Self::Exchange { name, .. } | Self::Queue { name, .. } => name.own,
            Self::Binding { .. } => false,
        }
    }

    /// Such as `queue "cancel-worker.requests"`.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Exchange { name, .. } => format!("exchange {:?}", name.name),
            Self::Queue { name, .. } => format!("queue {:?}", name.name),
            Self::Binding { queue, exchange, .. } => format!("the binding of queue {queue:?} to exchange {exchange:?}"),
        }
    }
}

/// What a refused declaration means, and what to do.
pub(super) fn fault(error: &lapin::Error, part: &Part, passive: bool, address: &Address) -> BrokerError {
    let what = part.what();
    let verb = match part {
        _ if passive => "verify",
        Part::Binding { .. } => "make",
        Part::Exchange { .. } | Part::Queue { .. } => "declare",
    };
    let action = format!("{verb} {what}");
    match refusal(error) {
        Some((Refusal::Access, reply)) => BrokerError::Forbidden {
            user: address.user().to_owned(),
            action,
            reply: reply.get_message().to_string(),
            vhost: address.vhost().to_owned(),
        },
        Some((Refusal::NotFound, _)) => BrokerError::Missing { remedy: missing_remedy(part).to_owned(), what },
        Some((Refusal::Precondition, reply)) => match difference(reply.get_message().as_str()) {
            Some((argument, wanted, found)) => BrokerError::Inequivalent {
                remedy: remedy(part, &argument, address.vhost()),
                what,
                argument,
                wanted,
                found,
            },
            None => BrokerError::Topology { action, problem: problem(error) },
        },
        Some(_) | None => BrokerError::Topology { action, problem: problem(error) },
    }
}

fn missing_remedy(part: &Part) -> &'static str {
    if part.is_own() {
        "it is named in amqp.topology.own, so create it or correct the name there"
    } else {
        "create it, or set amqp.topology.declare = true to have it declared"
    }
}

fn remedy(part: &Part, argument: &str, vhost: &str) -> String {
    let setting = match argument {
        "x-delivery-limit" => "set amqp.topology.delivery_limit to what it has, ",
        _ => "",
    };
    match part {
        Part::Queue { name, .. } => format!(
            "{setting}delete the queue when it is empty (`rabbitmqctl delete_queue -p {vhost} {} --if-empty`), choose another amqp.topology.prefix, or name a queue of your own in amqp.topology.own",
            name.name
        ),
        Part::Exchange { .. } | Part::Binding { .. } => {
            "delete the exchange, choose another amqp.topology.prefix, or name an exchange of your own in amqp.topology.own".to_owned()
        }
    }
}

/// Argument, wanted and found of "… inequivalent arg 'x' for queue 'q' in vhost '/': received 'a' but current is 'b'",
/// whose ends are also written "none" or "the value '5' of type 'long'".
fn difference(reply: &str) -> Option<(String, String, String)> {
    let (argument, rest) = reply.split_once("inequivalent arg '")?.1.split_once('\'')?;
    let (wanted, found) = rest.split_once("received ")?.1.split_once(" but current is ")?;
    Some((argument.to_owned(), plain(wanted), plain(found)))
}

/// The value without the broker's grammar around it.
fn plain(value: &str) -> String {
    let inner = value.strip_prefix("the value ").unwrap_or(value);
    match inner.strip_prefix('\'').and_then(|rest| rest.split_once('\'')) {
        Some((value, _)) => value.to_owned(),
        None => inner.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inequivalent_argument_is_read_from_every_wording() {
        for (reply, argument, wanted, found) in [
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': received '21' but current is '20'",
                "x-delivery-limit",
                "21",
                "20",
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received none but current is the value '5' of type 'signedint'",
                "x-message-ttl",
                "none",
                "5",
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x' in vhost '/': received 'topic' but current is 'direct'",
                "type",
                "topic",
                "direct",
            ),
        ] {
            let expected = (argument.to_owned(), wanted.to_owned(), found.to_owned());
            assert_eq!(difference(reply), Some(expected), "{reply}");
        }
        assert_eq!(difference("PRECONDITION_FAILED - something else"), None);
    }
}
