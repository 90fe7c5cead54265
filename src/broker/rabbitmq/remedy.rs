use super::address::Address;
use super::names::Name;
use super::refusal::{Refusal, problem, refusal};
use super::topology_item::TopologyItem;
use crate::broker::error::{BrokerError, for_shell};

/// What a refused declaration means, and what to do.
pub(super) fn fault(error: &lapin::Error, item: &TopologyItem, passive: bool, address: &Address) -> BrokerError {
    let what = item.what();
    let verb = match item {
        _ if passive => "verify",
        TopologyItem::Binding { .. } => "make",
        TopologyItem::Exchange { .. } | TopologyItem::Queue { .. } => "declare",
    };
    let action = format!("{verb} {what}");
    match refusal(error) {
        Some((Refusal::Access, reply)) => BrokerError::Forbidden {
            user: address.user().to_owned(),
            action,
            reply: reply.get_message().to_string(),
            vhost: address.vhost().to_owned(),
        },
        Some((Refusal::NotFound, _)) if passive => {
            BrokerError::Missing { remedy: missing_remedy(item).to_owned(), what }
        }
        Some((Refusal::Precondition, reply)) => match difference(reply.get_message().as_str()) {
            Some((argument, wanted, found)) => BrokerError::Inequivalent {
                remedy: remedy(item, &argument, address.vhost()),
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

fn missing_remedy(item: &TopologyItem) -> &'static str {
    if item.is_external() {
        "it is named in amqp.topology.external, so create it or correct the name there"
    } else {
        "create it, or set amqp.topology.declare = true to have it declared"
    }
}

/// RabbitMQ refuses to delete a quorum queue only if it is empty: so the operator has to look.
fn remedy(item: &TopologyItem, argument: &str, vhost: &str) -> String {
    let setting = match argument {
        "x-delivery-limit" => "set amqp.topology.delivery_limit to what it has, ",
        _ => "",
    };
    match item {
        TopologyItem::Queue { name, .. } => {
            let (vhost, name) = (for_shell(vhost), for_shell(&name.name));
            format!(
                "{setting}let workers with the old settings empty the queue, stop them, see that it holds no message (`rabbitmqctl list_queues -p {vhost} name messages`), and delete it (`rabbitmqctl delete_queue -p {vhost} {name}`), or choose another amqp.topology.prefix, or name a queue of your own in amqp.topology.external"
            )
        }
        TopologyItem::Exchange { name: Name { name, .. }, .. } | TopologyItem::Binding { exchange: name, .. } => {
            let (vhost, name) = (for_erlang(vhost), for_erlang(name));
            let delete = format!(
                "rabbit_exchange:delete(rabbit_misc:r({vhost}, exchange, {name}), false, <<\"cancel-worker\">>)."
            );
            format!(
                "delete the exchange, and its bindings with it (`rabbitmqctl eval {}`), choose another amqp.topology.prefix, or name an exchange of your own in amqp.topology.external",
                for_shell(&delete)
            )
        }
    }
}

/// As an Erlang term.
pub(super) fn for_erlang(text: &str) -> String {
    format!("<<\"{}\"/utf8>>", text.replace('\\', "\\\\").replace('"', "\\\""))
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
