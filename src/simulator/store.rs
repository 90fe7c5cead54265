use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

use super::operation::Operation;
use super::script::{Ending, Script};
use super::target::last_segment;

/// The operations known so far, at most `limit`: the oldest is forgotten for the newest.
#[derive(Debug)]
pub(super) struct Store {
    limit: usize,
    /// Boxed, so that a table of a million stays small.
    operations: HashMap<Arc<str>, Box<Operation>>,
    /// Names, the oldest first. A name's position is `forgotten` + its index, and never changes.
    order: VecDeque<Arc<str>>,
    forgotten: u64,
    /// By id, as the control endpoint set them.
    scripts: HashMap<String, Script>,
}

/// One page of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// Names, and how each operation is done, if it is.
    pub(super) operations: Vec<(Arc<str>, Option<Ending>)>,
    /// The position where the next page begins.
    pub(super) next: Option<u64>,
}

/// The scripts that the control endpoint set are as many as there may be operations.
#[derive(Debug, thiserror::Error)]
#[error("there are {0} scripts already, as many as there may be operations: reset with DELETE /control/operations")]
pub(super) struct TooManyScripts(usize);

/// How many names one page looks at: a page may be shorter than asked for, as AIP-158 permits.
const MAX_SCANNED: usize = 10_000;

impl Store {
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.max(1);
        // Reserved but not touched: no call has to wait while a big table grows.
        let reserved = limit.min(1_000_000);
        Self {
            limit,
            operations: HashMap::with_capacity(reserved),
            order: VecDeque::with_capacity(reserved),
            forgotten: 0,
            scripts: HashMap::new(),
        }
    }

    /// Does something with an operation, which exists from now on.
    pub(super) fn with<T>(&mut self, name: &str, act: impl FnOnce(&mut Operation) -> T) -> T {
        if let Some(operation) = self.operations.get_mut(name) {
            return act(operation);
        }
        if self.order.len() >= self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.operations.remove(&oldest);
            self.forgotten += 1;
        }
        let id = last_segment(name);
        let script = self.scripts.get(id).copied().unwrap_or_else(|| Script::of_id(id));
        let mut operation = Box::new(Operation::new(script));
        let done = act(&mut operation);
        let name: Arc<str> = name.into();
        self.order.push_back(Arc::clone(&name));
        self.operations.insert(name, operation);
        done
    }

    /// Scripts an id; an operation of that id begins anew.
    pub(super) fn set_script(&mut self, id: String, script: Script) -> Result<(), TooManyScripts> {
        if self.scripts.len() >= self.limit && !self.scripts.contains_key(&id) {
            return Err(TooManyScripts(self.scripts.len()));
        }
        for (name, operation) in &mut self.operations {
            if last_segment(name) == id {
                **operation = Operation::new(script);
            }
        }
        self.scripts.insert(id, script);
        Ok(())
    }

    /// The operations with this id, or the one with this full name.
    pub(super) fn find(&self, id_or_name: &str) -> Vec<(&str, &Operation)> {
        let named = self.operations.get_key_value(id_or_name);
        let with_id = || self.operations.iter().filter(|(name, _)| last_segment(name) == id_or_name);
        let found = named.into_iter().chain(named.is_none().then(with_id).into_iter().flatten());
        found.map(|(name, operation)| (name.as_ref(), operation.as_ref())).collect()
    }

    /// The operations of a parent from a position on, the oldest first.
    pub(super) fn list(&self, parent: &str, from: u64, max: usize, now: Instant) -> Listed {
        let skipped = usize::try_from(from.saturating_sub(self.forgotten)).unwrap_or(usize::MAX);
        let mut listed = Listed::default();
        let mut looked_at = skipped;
        for name in self.order.iter().skip(skipped).take(MAX_SCANNED) {
            if listed.operations.len() == max {
                break;
            }
            looked_at += 1;
            if is_child(name, parent) {
                let ending = self.operations.get(name).and_then(|operation| operation.ending(now));
                listed.operations.push((Arc::clone(name), ending));
            }
        }
        listed.next = (looked_at < self.order.len()).then_some(self.forgotten + looked_at as u64);
        listed
    }

    /// Forgets operations and scripts.
    pub(super) fn clear(&mut self) {
        self.operations.clear();
        self.order.clear();
        self.scripts.clear();
        self.forgotten = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.operations.len()
    }

    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

fn is_child(name: &str, parent: &str) -> bool {
    let id = name.strip_prefix(parent).and_then(|rest| rest.strip_prefix("/operations/"));
    id.is_some_and(|id| !id.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(store: &Store, from: u64, max: usize) -> (Vec<String>, Option<u64>) {
        let listed = store.list("projects/p", from, max, Instant::now());
        (listed.operations.iter().map(|(name, _)| last_segment(name).to_owned()).collect(), listed.next)
    }

    fn with_operations(limit: usize, names: &[&str]) -> Store {
        let mut store = Store::new(limit);
        for name in names {
            store.with(name, |_| ());
        }
        store
    }

    #[test]
    fn the_oldest_operation_is_forgotten_for_the_newest() {
        let store =
            with_operations(2, &["projects/p/operations/a", "projects/p/operations/b", "projects/p/operations/c"]);
        assert_eq!(listed(&store, 0, 10), (vec!["b".into(), "c".into()], None));
        assert_eq!((store.len(), store.forgotten()), (2, 1));
        assert!(store.find("a").is_empty());
    }

    #[test]
    fn pages_follow_each_other_even_while_operations_are_forgotten() {
        let mut store =
            with_operations(3, &["projects/p/operations/a", "projects/q/operations/x", "projects/p/operations/b"]);
        assert_eq!(listed(&store, 0, 1), (vec!["a".into()], Some(1)));
        store.with("projects/p/operations/c", |_| ());
        assert_eq!(listed(&store, 1, 5), (vec!["b".into(), "c".into()], None));
        assert_eq!(listed(&store, 99, 5), (vec![], None));
    }

    #[test]
    fn a_page_looks_at_so_many_names_and_no_more() {
        let mut store = Store::new(MAX_SCANNED + 10);
        for index in 0..MAX_SCANNED + 1 {
            store.with(&format!("projects/q/operations/{index}"), |_| ());
        }
        store.with("projects/p/operations/last", |_| ());
        let scanned = MAX_SCANNED as u64;
        assert_eq!(listed(&store, 0, 5), (vec![], Some(scanned)));
        assert_eq!(listed(&store, scanned, 5), (vec!["last".into()], None));
    }

    #[test]
    fn an_id_in_two_places_is_found_twice_and_a_name_once() {
        let store = with_operations(9, &["projects/p/operations/a", "projects/p/locations/l/operations/a"]);
        assert_eq!(store.find("a").len(), 2);
        assert_eq!(store.find("projects/p/locations/l/operations/a").len(), 1);
        assert_eq!(listed(&store, 0, 9), (vec!["a".into()], None));
    }

    #[test]
    fn a_script_set_for_an_id_begins_the_operation_anew() {
        let mut store = with_operations(1, &["projects/p/operations/a"]);
        store.set_script("a".into(), Script::Never).expect("room for one");
        assert_eq!(store.find("a")[0].1.script, Script::Never);
        store.set_script("a".into(), Script::OddBody).expect("the same id");
        assert!(store.set_script("b".into(), Script::Never).is_err());
    }
}
