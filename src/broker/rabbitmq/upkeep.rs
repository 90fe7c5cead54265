use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::address::Address;
use super::connection::BrokerConnection;
use super::names::Names;
use super::session_end::SessionEnd;
use super::topology::{self, Findings};
use super::topology_item::TopologyItem;
use crate::broker::error::BrokerError;
use crate::settings;
use crate::telemetry::Meters;

/// How often the topology is looked at, where nothing hints at a fault.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// How often while something is not as it has to be, so that the worker is ready soon after the repair; and no more often
/// than this, however many publishes find no queue.
const MIN_CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// At most this many problems are told in full.
const MAX_TOLD_PROBLEMS: usize = 3;

/// Looks after queues, exchanges and bindings while a session lasts: what a person or a policy deleted is declared again,
/// or said. Until then nothing else would tell of it, and what goes there would be stuck.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    asked: Notify,
    /// What is not as it has to be, in sentences.
    problem: Mutex<Option<String>>,
}

/// What one round of the upkeep needs.
pub(super) struct TopologyChecker {
    /// Consuming: an alarm never blocks it. Channels are opened and closed on it, and disturb nothing.
    pub(super) connection: Arc<BrokerConnection>,
    pub(super) address: Address,
    pub(super) names: Arc<Names>,
    pub(super) settings: settings::Topology,
    /// For each item.
    pub(super) timeout: Duration,
    /// Told the depths of the queues.
    pub(super) meters: Arc<Meters>,
}

impl TopologyChecker {
    /// One round. None where there was no answer.
    async fn check(&self) -> Option<Findings> {
        let Self { connection, address, names, settings, timeout, .. } = self;
        let looked = topology::look_after(connection, address, names, settings, *timeout).await;
        // The session ends of itself where that is what it means.
        looked.inspect_err(|error| tracing::debug!(%error, "the topology could not be looked at")).ok()
    }
}

impl Upkeep {
    /// Looks at once, not in a minute: a publish has found no queue.
    pub(super) fn look_now(&self) {
        self.asked.notify_one();
    }

    /// What is not as it has to be, and what to do about it.
    pub(super) fn problem(&self) -> Option<String> {
        self.state().clone()
    }

    /// Looks, again and again, until the session is over.
    pub(super) async fn run(self: Arc<Self>, checker: TopologyChecker, over: SessionEnd) {
        let looking = async {
            // Opening the session was the first look.
            let mut last = Instant::now();
            loop {
                let asked = async {
                    self.asked.notified().await;
                    sleep_until(last + MIN_CHECK_INTERVAL).await;
                };
                let interval = if self.problem().is_some() { MIN_CHECK_INTERVAL } else { CHECK_INTERVAL };
                tokio::select! {
                    () = sleep_until(last + interval) => {}
                    () = asked => {}
                }
                self.look(&checker).await;
                last = Instant::now();
            }
        };
        tokio::select! {
            biased;
            _ = over.ended() => {}
            () = looking => {}
        }
    }

    async fn look(&self, checker: &TopologyChecker) {
        if let Some(Findings { made, problems, depths }) = checker.check().await {
            depths.tell(&checker.names, &checker.meters);
            checker.meters.topology_problems(problems.len());
            tell_made(&made);
            self.enter(told(&problems));
        }
    }

    /// Says what begins and what ends, once.
    fn enter(&self, problem: Option<String>) {
        let mut state = self.state();
        match (&*state, &problem) {
            (before, Some(problem)) if before.as_ref() != Some(problem) => {
                tracing::error!(
                    problem,
                    "the topology is not as it has to be; the worker is not ready until it is mended"
                );
            }
            (Some(_), None) => tracing::info!("the topology is as it has to be again"),
            _ => {}
        }
        *state = problem;
    }

    fn state(&self) -> MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says what was missing and has been made again, in one line.
pub(super) fn tell_made(items: &[TopologyItem]) {
    if !items.is_empty() {
        tracing::warn!(
            parts = named(items),
            "parts of the topology were missing and have been made anew; what was in a queue that was deleted is lost"
        );
    }
}

/// All in one text.
pub(super) fn named(items: &[TopologyItem]) -> String {
    items.iter().map(TopologyItem::what).collect::<Vec<_>>().join(", ")
}

fn told(problems: &[BrokerError]) -> Option<String> {
    let shown = problems.iter().take(MAX_TOLD_PROBLEMS).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match problems.len().saturating_sub(MAX_TOLD_PROBLEMS) {
        0 => (!shown.is_empty()).then_some(shown),
        more => Some(format!("{shown}; and {more} more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(what: &str) -> BrokerError {
        BrokerError::Missing { what: what.to_owned(), remedy: "create it".to_owned() }
    }

    #[test]
    fn few_problems_are_told_in_full_and_many_are_counted() {
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[missing("a")]).as_deref(), Some("a does not exist: create it"));
        let many = told(&["a", "b", "c", "d", "e"].map(missing)).expect("told");
        assert!(many.contains("c does not exist") && many.ends_with("; and 2 more"), "{many}");
    }

    #[test]
    fn what_is_wrong_is_known_for_as_long_as_it_lasts() {
        let upkeep = Upkeep::default();
        upkeep.enter(told(&[missing("a")]));
        assert!(upkeep.problem().is_some_and(|problem| problem.starts_with("a does not exist")));
        upkeep.enter(None);
        assert_eq!(upkeep.problem(), None);
    }
}
