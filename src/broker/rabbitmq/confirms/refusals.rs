use std::collections::BTreeMap;
use std::time::Duration;

use lapin::types::ShortString;
use tokio::time::Instant;

/// Refusals that last so long, with nothing taken between them, may be the channel's: RabbitMQ 3.10 refuses whatever is
/// published to a queue on a channel from before the election of its leader, for as long as the lost node is away.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);

/// Where a new channel did not help, a queue is full: the next is tried ever more rarely.
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);

/// Since when the broker refuses what is published on a channel, by exchange and routing key. What is returned is not
/// refused.
#[derive(Debug)]
pub(super) struct Refusals {
    since: BTreeMap<(ShortString, ShortString), Instant>,
    patience: Duration,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { since: BTreeMap::new(), patience: FIRST_PATIENCE }
    }
}

impl Refusals {
    pub(super) fn refused(&mut self, exchange: &ShortString, routing_key: &ShortString, now: Instant) {
        self.since.entry((exchange.clone(), routing_key.clone())).or_insert(now);
    }

    pub(super) fn taken(&mut self, exchange: &ShortString, routing_key: &ShortString) {
        // Hardly ever is there anything.
        if !self.since.is_empty() && self.since.remove(&(exchange.clone(), routing_key.clone())).is_some() {
            self.patience = FIRST_PATIENCE;
        }
    }

    /// Whether it is time for a new channel.
    pub(super) fn last(&self, now: Instant) -> bool {
        self.since.values().any(|since| now.saturating_duration_since(*since) >= self.patience)
    }

    /// What the new channel begins with.
    pub(super) fn handed_over(&self) -> Self {
        Self { since: BTreeMap::new(), patience: (self.patience * 2).min(LONGEST_PATIENCE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_last_when_nothing_is_taken_between_them_and_each_new_channel_is_given_longer() {
        let (exchange, key, other): (ShortString, ShortString, ShortString) = ("e".into(), "k".into(), "l".into());
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut refusals = Refusals::default();
        assert!(!refusals.last(after(100)));
        refusals.refused(&exchange, &key, began);
        refusals.refused(&exchange, &key, after(4));
        refusals.taken(&exchange, &other);
        assert!(!refusals.last(after(4)) && refusals.last(after(5)));

        let mut patience = Vec::new();
        for _ in 0..6 {
            refusals = refusals.handed_over();
            refusals.refused(&exchange, &key, began);
            patience.push((0..).find(|seconds| refusals.last(after(*seconds))).expect("in the end"));
        }
        assert_eq!(patience, [10, 20, 40, 60, 60, 60]);
        refusals.taken(&exchange, &key);
        refusals.refused(&exchange, &key, began);
        assert!(refusals.last(after(5)), "what was taken was not the channel's fault");
    }
}
