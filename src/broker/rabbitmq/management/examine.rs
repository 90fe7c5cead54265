use serde_json::Value;

use super::api::{Answers, Overview, Queue};
use super::diagnosis::Diagnosis;
use super::policies::{for_regex, policies};
use crate::broker::error::for_shell;
use crate::broker::rabbitmq::inspection::MANY_RESULTS;
use crate::broker::rabbitmq::names::Names;
use crate::broker::rabbitmq::remedy::for_erlang;
use crate::broker::rabbitmq::topology;
use crate::broker::rabbitmq::topology_item::TopologyItem;
use crate::settings::Topology;

/// The oldest version that the worker is tested with.
const OLDEST: (u32, u32) = (3, 10);

/// Feature flags without which quorum queues do not dead-letter at least once.
const FLAGS: [&str; 2] = ["quorum_queue", "stream_queue"];

/// A delivery limit below this is reached by looking.
const SAFE_LIMIT: i64 = 1000;

/// What the answers mean.
pub(super) fn examine(answers: &Answers, names: &Names, topology: &Topology, vhost: &str) -> Vec<Diagnosis> {
    let overview = match &answers.overview {
        Ok(overview) => overview,
        Err(reason) => return vec![not_admitted(&answers.user, reason)],
    };
    let mut found = vec![version(overview)];
    found.extend(not_seen(answers, vhost));
    found.extend(nodes(answers));
    found.extend(flags(answers));
    found.extend(bindings(answers, names, topology, vhost));
    let own = own_queues(names);
    for name in &own {
        if let Some(queue) = queue(answers, name) {
            found.extend(of_queue(queue, names));
            found.extend(policies(queue, answers, names, &topology.prefix, vhost));
        }
    }
    found.extend(single_members(answers, &own, &topology.prefix, vhost));
    found.extend(old_wait_queues(answers, names, &topology.prefix, vhost));
    if answers.queues.is_ok() && found.iter().all(|diagnosis| diagnosis.part != "policy") {
        found.push(Diagnosis::good("policy", "no policy in force changes what the worker relies on"));
    }
    found
}

fn queue<'a>(answers: &'a Answers, name: &str) -> Option<&'a Queue> {
    answers.queues.iter().flatten().find(|queue| queue.name == name)
}

/// Without a tag a user may log in, and see nothing.
fn not_admitted(user: &str, reason: &str) -> Diagnosis {
    let user = for_shell(user);
    Diagnosis::fail(
        "management",
        format!("user {user} may not use the management API ({reason}): `rabbitmqctl set_user_tags {user} monitoring`"),
    )
}

/// What the user may not see, and which command would let it look without letting it change anything.
fn not_seen(answers: &Answers, vhost: &str) -> Vec<Diagnosis> {
    let (user, vhost_word) = (for_shell(&answers.user), for_shell(vhost));
    let mut found = Vec::new();
    if let Err(reason) = &answers.nodes {
        let what = format!(
            "user {user} may not see nodes and their alarms ({reason}): `rabbitmqctl set_user_tags {user} monitoring`"
        );
        found.push(Diagnosis::warn("management", what));
    }
    if let Err(reason) = answers.queues.as_ref().map(drop).and(answers.bindings.as_ref().map(drop)) {
        found.push(Diagnosis::warn(
            "management",
            format!("user {user} may not see the queues of vhost {vhost:?} ({reason}); this lets it look, and nothing more: `rabbitmqctl set_permissions -p {vhost_word} {user} '^$' '^$' '^$'`"),
        ));
    }
    found
}

fn own_queues(names: &Names) -> Vec<String> {
    let bound =
        [&names.requests, &names.followups, &names.quarantine, &names.dead].map(|binding| binding.queue.name.clone());
    let waits = names.levels.iter().map(|level| names.wait_queue(level).name);
    bound.into_iter().chain(names.results.iter().map(|results| results.name.clone())).chain(waits).collect()
}

fn version(overview: &Overview) -> Diagnosis {
    let version = &overview.rabbitmq_version;
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
    let Ok(nodes) = &answers.nodes else { return found };
    for node in nodes {
        let name = &node.name;
        if !node.running {
            found.push(Diagnosis::fail("node", format!("{name} is down: start it")));
            continue;
        }
        let memory = "`rabbitmqctl set_vm_memory_high_watermark 0.6`";
        let disk = "`rabbitmqctl set_disk_free_limit 50MB`";
        for (on, what, raise) in [(node.mem_alarm, "memory", memory), (node.disk_free_alarm, "disk", disk)] {
            if on {
                found.push(Diagnosis::fail(
                    "node",
                    format!("an alarm for the {what} of {name} is on, and the broker takes no publishes: free some (`rabbitmq-diagnostics alarms`), or allow more there, such as {raise}"),
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
        found.push(Diagnosis::good("node", format!("{} running, no alarm", nodes.len())));
    }
    found
}

fn flags(answers: &Answers) -> Vec<Diagnosis> {
    let Ok(flags) = &answers.flags else {
        let told = "administrators alone are told of them: `rabbitmqctl list_feature_flags` is to say that quorum_queue and stream_queue are enabled";
        return vec![Diagnosis::good("feature flags", told)];
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
fn bindings(answers: &Answers, names: &Names, topology: &Topology, vhost: &str) -> Vec<Diagnosis> {
    let (Ok(bindings), Ok(_)) = (&answers.bindings, &answers.queues) else { return Vec::new() };
    let is_bound = |source: &str, queue: &str, key: &str| {
        bindings
            .iter()
            .any(|binding| binding.source == source && binding.destination == queue && binding.routing_key == key)
    };
    let mut found = Vec::new();
    for item in topology::plan(names, topology) {
        let TopologyItem::Binding { queue: name, exchange, key } = item else { continue };
        if queue(answers, &name).is_some() && !is_bound(&exchange, &name, &key) {
            found.push(Diagnosis::fail(
                "binding",
                format!(
                    "queue {name:?} is not bound to exchange {exchange:?} with the key {key:?}, so what goes there is stuck or lost: a worker that declares its topology binds it within a minute, and so does {}",
                    bind_command(&exchange, &key, &name, vhost)
                ),
            ));
        }
    }
    let events = &names.events_exchange.name;
    if bindings.iter().all(|binding| binding.source != *events) {
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

/// rabbitmqctl has no command of its own for it.
fn bind_command(exchange: &str, key: &str, queue: &str, vhost: &str) -> String {
    let resource =
        |kind: &str, name: &str| format!("rabbit_misc:r({}, {kind}, {})", for_erlang(vhost), for_erlang(name));
    let (exchange, key, queue) = (resource("exchange", exchange), for_erlang(key), resource("queue", queue));
    let bind = format!("rabbit_binding:add({{binding, {exchange}, {key}, {queue}, []}}, <<\"cancel-worker\">>).");
    format!("`rabbitmqctl eval {}`", for_shell(&bind))
}

fn of_queue(queue: &Queue, names: &Names) -> Vec<Diagnosis> {
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
        && queue.messages_ready > u64::from(MANY_RESULTS)
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
    let is_results = names.results.as_ref().is_some_and(|results| is(&results.name));
    let limit = queue.argument("x-delivery-limit").and_then(Value::as_i64);
    if (is(&names.dead.queue.name) || is_results) && limit.is_none_or(|limit| limit < SAFE_LIMIT) {
        let content = if is_results { "events" } else { "letters" };
        found.push(Diagnosis::warn(
            "queue",
            format!("{name:?} has a delivery limit that looking at it reaches, after which RabbitMQ 4 drops {content}: make it anew with x-delivery-limit 2147483647"),
        ));
    }
    found.extend(dead_lettering(queue, names));
    found
}

/// What expires or is redelivered too often goes on only where all of these are set. For the first three an argument goes
/// before a policy.
fn dead_lettering(queue: &Queue, names: &Names) -> Option<Diagnosis> {
    let name = &queue.name;
    let is_wait = names.levels.iter().any(|level| names.wait_queue(level).name == *name);
    if !is_wait && !names.is_consumed(name) {
        return None;
    }
    let set = queue.policies();
    let value =
        |key: &str| queue.argument(&format!("x-{key}")).or_else(|| set.get(key).copied()).and_then(Value::as_str);
    let target = match is_wait {
        true => "the follow-ups",
        false if *name == names.quarantine.queue.name => "the dead letters",
        false => "the quarantine",
    };
    if value("dead-letter-exchange").is_none() {
        let what = format!(
            "{name:?} has no x-dead-letter-exchange, and what leaves it is lost instead of going to {target}: make it anew with one"
        );
        return Some(Diagnosis::fail("queue", what));
    }
    let is_safe = value("dead-letter-strategy") == Some("at-least-once") && value("overflow") == Some("reject-publish");
    let what = format!(
        "{name:?} does not dead-letter at least once, so what goes to {target} can be lost on its way: make it anew with x-dead-letter-strategy at-least-once and x-overflow reject-publish"
    );
    (!is_safe).then(|| Diagnosis::warn("queue", what))
}

/// Queues that are lost with one node.
fn single_members(answers: &Answers, own: &[String], prefix: &str, vhost: &str) -> Option<Diagnosis> {
    let queues = own.iter().filter_map(|name| queue(answers, name));
    let single: Vec<&Queue> = queues.filter(|queue| queue.members.len() == 1).collect();
    let members = &single.first()?.members;
    let harm = format!(
        "{} queues have one member: while its node is down nothing works, and a lost disk loses them",
        single.len()
    );
    let is_other = |name: &&String| !members.contains(*name);
    let running = answers.nodes.iter().flatten().filter(|node| node.running).map(|node| &node.name);
    let what = match running.clone().find(is_other) {
        Some(node) => format!(
            "{harm}: on each other node, up to three in all, `rabbitmq-queues grow {} all --vhost-pattern {} --queue-pattern {}`",
            for_shell(node),
            for_shell(&format!("^{}$", for_regex(vhost))),
            for_shell(&format!("^{}\\.", for_regex(prefix)))
        ),
        None => format!("{harm}; in a cluster of three nodes each gets three when it is declared"),
    };
    Some(Diagnosis::warn("members", what))
}

/// Of settings of before.
fn old_wait_queues(answers: &Answers, names: &Names, prefix: &str, vhost: &str) -> Vec<Diagnosis> {
    let ours = own_queues(names);
    let begins = format!("{prefix}.wait.");
    let old =
        answers.queues.iter().flatten().filter(|queue| queue.name.starts_with(&begins) && !ours.contains(&queue.name));
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
