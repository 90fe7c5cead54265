use serde_json::Value;

use super::api::{Answers, Queue};
use super::diagnosis::Diagnosis;
use crate::broker::error::for_shell;
use crate::broker::rabbitmq::names::Names;
use crate::broker::rabbitmq::topology;
use crate::broker::rabbitmq::topology_item::TopologyItem;
use crate::settings::Topology;

/// So many events that nobody takes are worth a word: `results` is bounded by nothing but the broker's disk.
const MANY_RESULTS: u64 = 100_000;

/// The oldest version that the worker is tested with.
const OLDEST: (u32, u32) = (3, 10);

/// Feature flags without which quorum queues do not dead-letter at least once.
const FLAGS: [&str; 2] = ["quorum_queue", "stream_queue"];

/// A delivery limit below this is reached by looking.
const SAFE_LIMIT: i64 = 1000;

/// What the answers mean.
pub(super) fn examine(answers: &Answers, names: &Names, topology: &Topology, vhost: &str) -> Vec<Diagnosis> {
    let mut found = vec![version(answers)];
    found.extend(nodes(answers));
    found.extend(flags(answers));
    found.extend(bindings(answers, names, topology));
    let own = own_queues(names);
    let single = own.iter().filter(|name| queue(answers, name).is_some_and(|queue| queue.members.len() == 1)).count();
    for name in &own {
        if let Some(queue) = queue(answers, name) {
            found.extend(of_queue(queue, names, vhost));
        }
    }
    if single > 0 {
        found.push(Diagnosis::warn(
            "members",
            format!("{single} queues have one member: while its node is down nothing works, and a lost disk loses them; in a cluster of three nodes each gets three when it is declared"),
        ));
    }
    found.extend(old_wait_queues(answers, names, &topology.prefix, vhost));
    if found.iter().all(|diagnosis| diagnosis.part != "policy") {
        found.push(Diagnosis::good("policy", "no policy in force changes what the worker relies on"));
    }
    found
}

fn queue<'a>(answers: &'a Answers, name: &str) -> Option<&'a Queue> {
    answers.queues.iter().find(|queue| queue.name == name)
}

fn own_queues(names: &Names) -> Vec<String> {
    let bound =
        [&names.requests, &names.followups, &names.quarantine, &names.dead].map(|binding| binding.queue.name.clone());
    let waits = names.levels.iter().map(|level| names.wait_queue(level).name);
    bound.into_iter().chain(names.results.iter().map(|results| results.name.clone())).chain(waits).collect()
}

fn version(answers: &Answers) -> Diagnosis {
    let version = &answers.overview.rabbitmq_version;
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if (major, minor) < OLDEST {
        return Diagnosis::fail(
            "version",
            format!("RabbitMQ {version} has no dead-lettering at least once: upgrade it to 3.10 or later"),
        );
    }
    Diagnosis::good("version", format!("RabbitMQ {version}"))
}

fn nodes(answers: &Answers) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    for node in &answers.nodes {
        let name = &node.name;
        if !node.running {
            found.push(Diagnosis::fail("node", format!("{name} is down: start it")));
            continue;
        }
        for (on, what) in [(node.mem_alarm, "memory"), (node.disk_free_alarm, "disk")] {
            if on {
                found.push(Diagnosis::fail(
                    "node",
                    format!("an alarm for the {what} of {name} is on, and the broker takes no publishes: free some (`rabbitmq-diagnostics alarms`)"),
                ));
            }
        }
        if node.fd_total > 0 && node.fd_used * 5 > node.fd_total * 4 {
            let (used, total) = (node.fd_used, node.fd_total);
            found.push(Diagnosis::warn(
                "node",
                format!("{name} has {used} of {total} file descriptors open, and refuses connections when none is left: raise its limit"),
            ));
        }
    }
    if found.is_empty() {
        found.push(Diagnosis::good("node", format!("{} running, no alarm", answers.nodes.len())));
    }
    found
}

fn flags(answers: &Answers) -> Vec<Diagnosis> {
    let Some(flags) = &answers.flags else {
        return vec![Diagnosis::warn("feature flags", "they cannot be seen by this user: give it the tag monitoring")];
    };
    let disabled = flags.iter().filter(|flag| FLAGS.contains(&flag.name.as_str()) && flag.state == "disabled");
    disabled
        .map(|flag| {
            let name = &flag.name;
            Diagnosis::fail(
                "feature flags",
                format!("{name} is disabled, and without it quorum queues do not dead-letter at least once: `rabbitmqctl enable_feature_flag {name}`"),
            )
        })
        .collect()
}

/// What leads into the queues. AMQP cannot tell.
fn bindings(answers: &Answers, names: &Names, topology: &Topology) -> Vec<Diagnosis> {
    let is_bound = |source: &str, queue: &str, key: &str| {
        answers
            .bindings
            .iter()
            .any(|binding| binding.source == source && binding.destination == queue && binding.routing_key == key)
    };
    let mut found = Vec::new();
    for item in topology::plan(names, topology) {
        let TopologyItem::Binding { queue: name, exchange, key } = item else { continue };
        if queue(answers, &name).is_some() && !is_bound(&exchange, &name, &key) {
            found.push(Diagnosis::fail(
                "binding",
                format!("queue {name:?} is not bound to exchange {exchange:?} with the key {key:?}, so what goes there is stuck or lost: a worker that declares its topology binds it within a minute"),
            ));
        }
    }
    let events = &names.events_exchange.name;
    if answers.bindings.iter().all(|binding| binding.source != *events) {
        found.push(Diagnosis::fail(
            "binding",
            format!("nobody is bound to exchange {events:?}: answers cannot be published; bind a queue with the key \"operation.#\", or set amqp.topology.results = true"),
        ));
    }
    if found.is_empty() {
        found.push(Diagnosis::good("binding", "every queue is bound"));
    }
    found
}

fn of_queue(queue: &Queue, names: &Names, vhost: &str) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    let name = &queue.name;
    if queue.kind.as_deref().is_some_and(|kind| kind != "quorum") {
        found.push(Diagnosis::fail(
            "queue",
            format!("{name:?} is no quorum queue: a lost node loses its messages, and nothing counts redeliveries; make it anew as one"),
        ));
    }
    let (online, members) = (queue.online.len(), queue.members.len());
    if members > 0 && online * 2 <= members {
        found.push(Diagnosis::fail(
            "queue",
            format!("{online} of {members} members of {name:?} are online: it has no leader, and nothing goes in or out; bring its nodes back"),
        ));
    } else if online < members {
        found.push(Diagnosis::warn("queue", format!("{online} of {members} members of {name:?} are online")));
    }
    let is = |other: &str| name == other;
    if names.results.as_ref().is_some_and(|results| is(&results.name))
        && queue.consumers == 0
        && queue.messages_ready > MANY_RESULTS
    {
        let ready = queue.messages_ready;
        found.push(Diagnosis::warn(
            "queue",
            format!("{ready} events wait in {name:?}, and nobody takes them: take them, or set amqp.topology.results = false and delete it"),
        ));
    }
    if is(&names.requests.queue.name) && queue.consumers == 0 {
        found.push(Diagnosis::warn(
            "queue",
            format!("no worker takes requests from {name:?}: start `cancel-worker run`"),
        ));
    }
    if is(&names.dead.queue.name) && names.dead.queue.external {
        let limit = queue.argument("x-delivery-limit").and_then(Value::as_i64);
        if limit.is_none_or(|limit| limit < SAFE_LIMIT) {
            found.push(Diagnosis::warn(
                "queue",
                format!("the dead queue {name:?} has a delivery limit that looking at it reaches, after which RabbitMQ 4 drops letters: make it anew with x-delivery-limit 2147483647"),
            ));
        }
    }
    found.extend(policies(queue, names, vhost));
    found
}

/// Policies that go before what the worker has asked for.
fn policies(queue: &Queue, names: &Names, vhost: &str) -> Vec<Diagnosis> {
    let (name, set) = (&queue.name, queue.policies());
    let remedy = {
        let policy = for_shell(queue.policy.as_deref().unwrap_or_default());
        let vhost = for_shell(vhost);
        format!(
            "`rabbitmqctl clear_policy -p {vhost} {policy}`, or give these queues a policy of their own with a higher priority"
        )
    };
    let mut found = Vec::new();
    let mut fail = |what: &str| found.push(Diagnosis::fail("policy", format!("{name:?} {what}: {remedy}")));
    if set.contains_key("expires") {
        fail(
            "is deleted with all its messages when it was not used for so long as a policy says, and no declaration counts as a use",
        );
    }
    let is_requests = *name == names.requests.queue.name;
    if set.contains_key("message-ttl") && !is_requests {
        fail("loses messages, or brings them back too early, by a policy with message-ttl");
    }
    let overflow = set.get("overflow").and_then(|overflow| overflow.as_str());
    let declared = queue.argument("x-overflow").and_then(Value::as_str);
    let is_rejecting = overflow.or(declared) == Some("reject-publish");
    let is_bounded = set.contains_key("max-length") || set.contains_key("max-length-bytes");
    if is_bounded && !is_rejecting {
        fail("drops messages by a policy with max-length");
    } else if overflow.is_some() && declared == Some("reject-publish") && !is_rejecting {
        fail("no longer dead-letters at least once, by a policy with overflow");
    } else if is_bounded {
        found.push(Diagnosis::warn(
            "policy",
            format!("{name:?} refuses what is more than a policy with max-length allows, and workers wait for room: {remedy}"),
        ));
    }
    let limit = set.get("delivery-limit").and_then(|limit| limit.as_i64());
    if let Some(limit) = limit
        && queue.argument("x-delivery-limit").and_then(Value::as_i64).is_none_or(|declared| limit < declared)
    {
        found.push(Diagnosis::warn(
            "policy",
            format!("{name:?} gives messages up after {limit} redeliveries, which is less than the worker asks for, by a policy: {remedy}"),
        ));
    }
    if set.keys().any(|key| key.starts_with("delayed-retry")) {
        found.push(Diagnosis::warn("policy", format!("{name:?} delays what comes back, by a policy: {remedy}")));
    }
    if is_requests && set.contains_key("message-ttl") {
        found.push(Diagnosis::warn(
            "policy",
            format!(
                "{name:?} expires requests by a policy with message-ttl: they are cancelled once and answered: {remedy}"
            ),
        ));
    }
    found
}

/// Of settings of before.
fn old_wait_queues(answers: &Answers, names: &Names, prefix: &str, vhost: &str) -> Vec<Diagnosis> {
    let ours = own_queues(names);
    let begins = format!("{prefix}.wait.");
    let old = answers.queues.iter().filter(|queue| queue.name.starts_with(&begins) && !ours.contains(&queue.name));
    old.map(|queue| {
        let (shown, ready) = (&queue.name, queue.messages_ready);
        let (vhost, name) = (for_shell(vhost), for_shell(shown));
        Diagnosis::warn(
            "queue",
            format!("wait queue {shown:?} is of other settings and has {ready} messages, which come back by themselves; when it is empty, delete it: `rabbitmqctl delete_queue -p {vhost} {name}`"),
        )
    })
    .collect()
}
