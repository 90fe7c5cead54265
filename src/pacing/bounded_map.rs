use std::num::NonZeroUsize;

use lru::LruCache;

use super::key::Key;

/// What is known of many keys, in bounded memory: names come from messages, and a sender can make up a million of them.
///
/// When it is full, the entry that was used least recently makes room. An entry that is in use all the time stays.
#[derive(Debug)]
pub(super) struct BoundedMap<T> {
    entries: LruCache<Key, Entry<T>>,
    inserted: u64,
}

#[derive(Debug)]
struct Entry<T> {
    number: u64,
    value: T,
}

/// One entry of a map. When the entry was evicted and its key inserted anew, that is another entry: what was counted in
/// the old one is never subtracted from the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryId {
    key: Key,
    number: u64,
}

impl<T> BoundedMap<T> {
    pub(super) fn new(max_entries: NonZeroUsize) -> Self {
        // `LruCache::new` would reserve memory for all entries at once.
        let mut entries = LruCache::unbounded();
        entries.resize(max_entries);
        Self { entries, inserted: 0 }
    }

    /// A map whose entries may [move](Self::move_to) to `other`.
    pub(super) fn new_before(other: &Self, max_entries: NonZeroUsize) -> Self {
        Self { inserted: other.inserted + u64::MAX / 2, ..Self::new(max_entries) }
    }

    /// The entry of a key, inserted if there is none. It is the most recently used one now.
    pub(super) fn get_or_insert(&mut self, key: Key, new: impl FnOnce() -> T) -> (EntryId, &mut T) {
        let inserted = &mut self.inserted;
        let entry = self.entries.get_or_insert_mut(key, || {
            *inserted += 1;
            Entry { number: *inserted, value: new() }
        });
        (EntryId { key, number: entry.number }, &mut entry.value)
    }

    /// All of them. Does not count as use.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| &entry.value)
    }

    /// All of them, to be changed. Does not count as use.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().map(|(_, entry)| &mut entry.value)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Whether the key has an entry. Does not count as use.
    pub(super) fn contains(&self, key: Key) -> bool {
        self.entries.contains(&key)
    }

    /// The entry of a key. Does not count as use.
    pub(super) fn peek(&self, key: Key) -> Option<&T> {
        self.entries.peek(&key).map(|entry| &entry.value)
    }

    /// The entry of a key. Does not count as use.
    pub(super) fn peek_mut(&mut self, key: Key) -> Option<&mut T> {
        self.entries.peek_mut(&key).map(|entry| &mut entry.value)
    }

    /// Moves an entry to another map, which was there before; it stays the same entry.
    pub(super) fn move_to(&mut self, other: &mut Self, id: EntryId) {
        if self.get(id).is_some()
            && let Some(entry) = self.entries.pop(&id.key)
        {
            other.entries.push(id.key, entry);
        }
    }

    /// An entry that was got before; `None` if it was evicted since. It is the most recently used one now.
    pub(super) fn get(&mut self, id: EntryId) -> Option<&mut T> {
        self.entries.get_mut(&id.key).filter(|entry| entry.number == id.number).map(|entry| &mut entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(max_entries: usize) -> BoundedMap<u32> {
        BoundedMap::new(NonZeroUsize::new(max_entries).expect("not zero"))
    }

    fn insert(map: &mut BoundedMap<u32>, key: &str, value: u32) -> EntryId {
        map.get_or_insert(Key::of(key), || value).0
    }

    #[test]
    fn when_it_is_full_the_least_recently_used_entry_goes() {
        let mut map = map(2);
        let [a, b] = [("a", 1), ("b", 2)].map(|(key, value)| insert(&mut map, key, value));
        assert_eq!(map.get(a), Some(&mut 1));
        let c = insert(&mut map, "c", 3);
        assert_eq!([a, b, c].map(|id| map.get(id).copied()), [Some(1), None, Some(3)]);
        assert_eq!(map.entries.len(), 2);
    }

    #[test]
    fn an_entry_stays_the_same_for_as_long_as_it_is_used() {
        let mut map = map(8);
        let used = insert(&mut map, "used", 7);
        for number in 0..10_000 {
            insert(&mut map, &number.to_string(), number);
            assert_eq!(map.get(used), Some(&mut 7));
            assert!(map.entries.len() <= 8, "bounded");
        }
        assert_eq!(insert(&mut map, "used", 8), used);
    }

    #[test]
    fn a_key_that_was_evicted_and_inserted_anew_is_another_entry() {
        let mut map = map(1);
        let old = insert(&mut map, "a", 1);
        insert(&mut map, "b", 2);
        let new = insert(&mut map, "a", 3);
        assert_eq!([old, new].map(|id| map.get(id).copied()), [None, Some(3)]);
    }
}
