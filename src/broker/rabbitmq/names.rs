use crate::broker::target::Target;
use crate::broker::wait_levels::{WaitLevel, WaitLevels};
use crate::settings;

/// What binds the queue of follow-ups to its exchange; what a follow-up comes to the quarantine with.
pub(super) const FOLLOWUP_KEY: &str = "followup";
/// What binds the queue of dead letters to its exchange.
pub(super) const DEAD_KEY: &str = "dead";
/// What a request comes to the quarantine with.
pub(super) const QUARANTINED_REQUEST_KEY: &str = "request";
/// What a request is published with; its queue is bound with `#`.
const REQUEST_KEY: &str = "cancel";
/// What nobody binds to the exchange of the wait queues.
const PROBE_KEY: &str = "probe";
/// What a reply's address begins with. Nothing else is replied to: the default exchange reaches every queue.
const REPLY_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// A queue or exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) name: String,
    /// Named by the user's settings: verified, never declared or bound.
    pub(super) external: bool,
}

/// A queue and the exchange that leads to it. Without an exchange, where only the queue is external and so
/// cannot be bound, the default exchange leads there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QueueBinding {
    pub(super) exchange: Option<Name>,
    pub(super) queue: Name,
}

impl QueueBinding {
    fn new(ours: &str, exchange: Option<&String>, queue: Option<&String>) -> Self {
        let named = |external: Option<&String>| match external {
            Some(name) => Name { name: name.clone(), external: true },
            None => Name { name: ours.to_owned(), external: false },
        };
        let exchange = (exchange.is_some() || queue.is_none()).then(|| named(exchange));
        Self { exchange, queue: named(queue) }
    }

    /// Exchange and routing key that lead into the queue, where the exchange is bound with `key`.
    pub(super) fn address(&self, key: &str) -> (String, String) {
        match &self.exchange {
            Some(exchange) => (exchange.name.clone(), key.to_owned()),
            None => (String::new(), self.queue.name.clone()),
        }
    }
}

/// What everything is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    prefix: String,
    pub(super) requests: QueueBinding,
    pub(super) followups: QueueBinding,
    pub(super) quarantine: QueueBinding,
    pub(super) dead: QueueBinding,
    pub(super) wait_exchange: Name,
    pub(super) events_exchange: Name,
    /// None where it is switched off.
    pub(super) results: Option<Name>,
    /// Ascending.
    pub(super) levels: Vec<WaitLevel>,
}

impl Names {
    pub(super) fn new(topology: &settings::Topology) -> Self {
        let settings::Topology { prefix, external, .. } = topology;
        let ours = |name: &str| format!("{prefix}.{name}");
        let named = |external: Option<&String>, name: &str| match external {
            Some(name) => Name { name: name.clone(), external: true },
            None => Name { name: ours(name), external: false },
        };
        Self {
            requests: QueueBinding::new(
                &ours("requests"),
                external.requests_exchange.as_ref(),
                external.requests_queue.as_ref(),
            ),
            followups: QueueBinding::new(&ours("followups"), None, None),
            quarantine: QueueBinding::new(&ours("quarantine"), None, None),
            dead: QueueBinding::new(&ours("dead"), external.dead_exchange.as_ref(), external.dead_queue.as_ref()),
            wait_exchange: named(None, "wait"),
            events_exchange: named(external.events_exchange.as_ref(), "events"),
            results: topology.results.then(|| named(external.results_queue.as_ref(), "results")),
            levels: WaitLevels::of(topology)
                .map(|wait_levels| wait_levels.levels().cloned().collect())
                .unwrap_or_default(),
            prefix: prefix.clone(),
        }
    }

    /// The wait queue of a level.
    pub(super) fn wait_queue(&self, level: &WaitLevel) -> Name {
        Name { name: format!("{}.wait.{}", self.prefix, level.label()), external: false }
    }

    /// Whether the worker consumes the queue.
    pub(super) fn is_consumed(&self, queue: &str) -> bool {
        [&self.requests, &self.followups, &self.quarantine].into_iter().any(|consumed| consumed.queue.name == queue)
    }

    /// Whether it is one of the exchanges that the worker declares and binds itself.
    pub(super) fn is_ours(&self, exchange: &str) -> bool {
        let bindings = [&self.requests, &self.followups, &self.quarantine, &self.dead]
            .into_iter()
            .filter_map(|binding| binding.exchange.as_ref());
        bindings.chain([&self.wait_exchange, &self.events_exchange]).any(|name| !name.external && name.name == exchange)
    }

    /// Exchange and routing key of a publish that no queue takes.
    pub(super) fn probe_route(&self) -> (String, String) {
        (self.wait_exchange.name.clone(), PROBE_KEY.to_owned())
    }

    /// Exchange and routing key.
    pub(super) fn route(&self, target: &Target) -> (String, String) {
        match target {
            Target::Request => self.requests.address(REQUEST_KEY),
            Target::Event(outcome) => (self.events_exchange.name.clone(), format!("operation.{}", outcome.as_str())),
            Target::Wait(level) => (self.wait_exchange.name.clone(), level.label().to_owned()),
            Target::Dead => self.dead.address(DEAD_KEY),
        }
    }
}

/// Exchange and routing key of a reply. None for anything but a direct reply-to address.
pub(super) fn reply_route(address: &str) -> Option<(String, String)> {
    address.starts_with(REPLY_PREFIX).then(|| (String::new(), address.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cancellation::{Outcome, Reason};
    use crate::settings::{ExternalNames, HumanDuration, HumanDurations, Topology};

    fn names(external: ExternalNames) -> Names {
        Names::new(&Topology {
            prefix: "p".to_owned(),
            declare: true,
            results: true,
            delivery_limit: 20,
            wait_levels: HumanDurations(vec![
                HumanDuration(Duration::from_secs(60)),
                HumanDuration(Duration::from_secs(1)),
            ]),
            external,
        })
    }

    #[test]
    fn every_target_has_an_exchange_and_a_routing_key() {
        let names = names(ExternalNames::default());
        let minute = WaitLevel::new(Duration::from_secs(60));
        for (target, exchange, key) in [
            (Target::Request, "p.requests", "cancel"),
            (Target::Event(Outcome::Completed), "p.events", "operation.completed"),
            (Target::Event(Outcome::Failed(Reason::NotFound)), "p.events", "operation.failed"),
            (Target::Wait(minute.clone()), "p.wait", "1m"),
            (Target::Dead, "p.dead", "dead"),
        ] {
            assert_eq!(names.route(&target), (exchange.to_owned(), key.to_owned()));
        }
        assert_eq!(names.wait_queue(&minute).name, "p.wait.1m");
    }

    #[test]
    fn a_reply_goes_to_direct_reply_to_addresses_only() {
        let direct = "amq.rabbitmq.reply-to.abc".to_owned();
        assert_eq!(reply_route(&direct), Some((String::new(), direct)));
        for address in ["amq.rabbitmq.reply-to", "p.dead", ""] {
            assert_eq!(reply_route(address), None, "{address:?}");
        }
    }

    #[test]
    fn a_queue_of_the_users_own_without_its_exchange_is_reached_by_the_default_exchange() {
        let names = names(ExternalNames {
            requests_queue: Some("jobs".to_owned()),
            dead_exchange: Some("graveyard".to_owned()),
            ..ExternalNames::default()
        });
        assert_eq!(names.route(&Target::Request), (String::new(), "jobs".to_owned()));
        assert_eq!(names.route(&Target::Dead), ("graveyard".to_owned(), "dead".to_owned()));
        assert!(names.requests.queue.external && !names.dead.queue.external);
        assert!(names.is_ours("p.wait") && names.is_ours("p.events") && names.is_ours("p.followups"));
        assert!(!names.is_ours("graveyard") && !names.is_ours("p.dead") && !names.is_ours(""));
    }
}
