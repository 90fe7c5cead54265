use serde_json::Value;

use super::api::{Answers, Policy, Queue, Told};
use super::diagnosis::Diagnosis;
use crate::broker::error::for_shell;
use crate::broker::rabbitmq::names::Names;

/// Changes nothing where it is all that a policy sets: of two delivery limits the smaller counts. RabbitMQ takes no policy
/// that sets nothing.
const HARMLESS: &str = r#"{"delivery-limit":2147483647}"#;

/// Policies that go before what the worker has asked for.
pub(super) fn policies(queue: &Queue, answers: &Answers, names: &Names, prefix: &str, vhost: &str) -> Vec<Diagnosis> {
    let (name, set) = (&queue.name, queue.policies());
    let remedy = |key: &str| policy_remedy(queue, key, answers, prefix, vhost);
    let mut found = Vec::new();
    let mut fail =
        |key: &str, what: &str| found.push(Diagnosis::fail("policy", format!("{name:?} {what}: {}", remedy(key))));
    if set.contains_key("expires") {
        fail(
            "expires",
            "is deleted with all its messages when it was not used for so long as a policy says, and no declaration counts as a use",
        );
    }
    let is_requests = *name == names.requests.queue.name;
    if set.contains_key("message-ttl") && !is_requests {
        fail("message-ttl", "loses messages, or brings them back too early, by a policy with message-ttl");
    }
    let overflow = set.get("overflow").and_then(|overflow| overflow.as_str());
    let declared = queue.argument("x-overflow").and_then(Value::as_str);
    let is_rejecting = overflow.or(declared) == Some("reject-publish");
    let limit_key = if set.contains_key("max-length") { "max-length" } else { "max-length-bytes" };
    let is_bounded = set.contains_key(limit_key);
    if is_bounded && !is_rejecting {
        fail(limit_key, "drops messages by a policy with max-length");
    } else if overflow.is_some() && declared == Some("reject-publish") && !is_rejecting {
        fail("overflow", "no longer dead-letters at least once, by a policy with overflow");
    } else if is_bounded {
        found.push(Diagnosis::warn(
            "policy",
            format!(
                "{name:?} refuses what is more than a policy with max-length allows, and workers wait for room: {}",
                remedy(limit_key)
            ),
        ));
    }
    let limit = set.get("delivery-limit").and_then(|limit| limit.as_i64());
    if let Some(limit) = limit
        && queue.argument("x-delivery-limit").and_then(Value::as_i64).is_none_or(|declared| limit < declared)
    {
        found.push(Diagnosis::warn(
            "policy",
            format!("{name:?} gives messages up after {limit} redeliveries, which is less than the worker asks for, by a policy: {}", remedy("delivery-limit")),
        ));
    }
    if let Some(key) = set.keys().find(|key| key.starts_with("delayed-retry")) {
        found.push(Diagnosis::warn("policy", format!("{name:?} delays what comes back, by a policy: {}", remedy(key))));
    }
    if is_requests && set.contains_key("message-ttl") {
        found.push(Diagnosis::warn(
            "policy",
            format!(
                "{name:?} expires requests by a policy with message-ttl: they are cancelled once and answered: {}",
                remedy("message-ttl")
            ),
        ));
    }
    found
}

/// Clears the policy that has set this key, the user's or the operator's. One policy applies to a queue, the one with the
/// highest priority: so a user's policy that others need is kept away by one of the worker's own.
fn policy_remedy(queue: &Queue, key: &str, answers: &Answers, prefix: &str, vhost: &str) -> String {
    let (policy, operator) = (queue.policy.as_deref().unwrap_or(""), queue.operator_policy.as_deref().unwrap_or(""));
    let in_force = queue.policies().get(key).copied();
    let sets = |policies: &Told<Vec<Policy>>, name: &str| {
        let named = policies.iter().flatten().find(|policy| policy.name == name);
        named.is_some_and(|policy| policy.definition.get(key) == in_force)
    };
    let vhost_word = for_shell(vhost);
    let by_operator = sets(&answers.operator_policies, operator) && !sets(&answers.policies, policy);
    if by_operator || policy.is_empty() {
        return format!("`rabbitmqctl clear_operator_policy -p {vhost_word} {}`", for_shell(operator));
    }
    let clear = format!("`rabbitmqctl clear_policy -p {vhost_word} {}`", for_shell(policy));
    if policy == prefix || !queue.name.starts_with(&format!("{prefix}.")) {
        return clear;
    }
    let found = answers.policies.iter().flatten().find(|known| known.name == policy);
    let priority = found.map_or(0, |known| known.priority).saturating_add(1);
    let pattern = format!("^{}\\.", for_regex(prefix));
    let (own, pattern, definition) = (for_shell(prefix), for_shell(&pattern), for_shell(HARMLESS));
    format!(
        "{clear}, or keep it away with one that goes before it: `rabbitmqctl set_policy -p {vhost_word} --priority {priority} --apply-to queues {own} {pattern} {definition}`"
    )
}

/// A text that a pattern matches as it stands.
pub(super) fn for_regex(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if "\\.+*?()[]{}^$|".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
