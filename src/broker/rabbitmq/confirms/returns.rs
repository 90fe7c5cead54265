use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, RandomState};

use lapin::message::BasicReturnMessage;
use lapin::types::ShortString;

/// Which open publishes were returned, for the ledger; what follows of it is the settler's to decide (`worker::settler`
/// publishes again until it is confirmed). A return names exchange, routing key and message id, which several publishes
/// may share (duplicates of one request have the same event id): it is entered against all of them that are open at
/// that moment. So none can be missed, and one that was routed after all is only published again. Publishes that are
/// opened later are not touched, or endless overlap would keep one return alive for ever.
#[derive(Default)]
pub(super) struct Returns {
    hasher: RandomState,
    /// By key, while any publish with that key is open.
    open: HashMap<u64, Open>,
    next_number: u64,
}

#[derive(Default)]
struct Open {
    publishes: usize,
    /// Publishes up to this number were returned, for this reason.
    returned: Option<(u64, String)>,
}

impl Returns {
    /// A hash: where two differ and collide, they are taken for the same, which is safe.
    pub(super) fn key(
        &self,
        exchange: &ShortString,
        routing_key: &ShortString,
        message_id: Option<&ShortString>,
    ) -> u64 {
        self.hasher.hash_one((exchange, routing_key, message_id))
    }

    /// Answers with the publish's number.
    pub(super) fn open(&mut self, key: u64) -> u64 {
        self.open.entry(key).or_default().publishes += 1;
        self.next_number += 1;
        self.next_number
    }

    /// A publish came back.
    pub(super) fn enter(&mut self, message: &BasicReturnMessage) {
        let delivery = &message.delivery;
        let key = self.key(&delivery.exchange, &delivery.routing_key, delivery.properties.message_id().as_ref());
        // None open: a duplicate's return has stood for this one, which is settled.
        if let Some(open) = self.open.get_mut(&key) {
            open.returned = Some((self.next_number, format!("{} {}", message.reply_code, message.reply_text)));
        }
    }

    /// Why the publish was returned, if it was.
    pub(super) fn of(&self, key: u64, number: u64) -> Option<&str> {
        let (last, reason) = self.open.get(&key)?.returned.as_ref()?;
        (number <= *last).then_some(reason.as_str())
    }

    /// One publish with this key is settled.
    pub(super) fn close(&mut self, key: u64) {
        if let Entry::Occupied(mut entry) = self.open.entry(key) {
            entry.get_mut().publishes -= 1;
            if entry.get().publishes == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(returns: &mut Returns, id: &str) -> (u64, u64) {
        let key = returns.key(&"x".into(), &"k".into(), Some(&id.into()));
        (key, returns.open(key))
    }

    /// As `enter` does, without a message, which only lapin can make.
    fn enter(returns: &mut Returns, id: &str) {
        let key = returns.key(&"x".into(), &"k".into(), Some(&id.into()));
        let last = returns.next_number;
        if let Some(open) = returns.open.get_mut(&key) {
            open.returned = Some((last, "312 NO_ROUTE".to_owned()));
        }
    }

    #[test]
    fn a_return_counts_against_all_open_publishes_of_its_id_and_no_later_ones() {
        let mut returns = Returns::default();
        let (key, first) = opened(&mut returns, "a");
        let (_, twin) = opened(&mut returns, "a");
        let (other, another) = opened(&mut returns, "b");
        enter(&mut returns, "a");
        let (_, later) = opened(&mut returns, "a");
        assert_eq!(returns.of(key, first), Some("312 NO_ROUTE"));
        assert_eq!(returns.of(key, twin), Some("312 NO_ROUTE"));
        assert_eq!(returns.of(key, later), None);
        assert_eq!(returns.of(other, another), None);
    }

    #[test]
    fn a_return_is_forgotten_with_the_last_publish_of_its_id() {
        let mut returns = Returns::default();
        let (key, _) = opened(&mut returns, "a");
        enter(&mut returns, "a");
        returns.close(key);
        assert!(returns.open.is_empty());
        enter(&mut returns, "a");
        let (key, number) = opened(&mut returns, "a");
        assert_eq!(returns.of(key, number), None);
    }
}
