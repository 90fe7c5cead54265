use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::key::Key;

/// What is known of many keys, in bounded memory: names come from messages, and anybody can make up a million.
///
/// What nothing is known of any more is forgotten to make room. Where there is none, the new ones share one place.
#[derive(Debug)]
pub(super) struct Crowd<T> {
    known: HashMap<Key, T>,
    shared: T,
    most: usize,
    swept: Option<Instant>,
}

/// Something that may be as good as new.
pub(super) trait Forgettable {
    /// Whether forgetting it changes nothing.
    fn is_as_new(&mut self, now: Instant) -> bool;
}

/// A place in a crowd. It stays the same place for as long as something there keeps it from being forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    Own(Key),
    Shared,
}

impl<T: Forgettable + Clone> Crowd<T> {
    pub(super) fn new(most: usize, shared: T) -> Self {
        Self { known: HashMap::new(), shared, most, swept: None }
    }

    /// The seat of a key, made if there is room.
    pub(super) fn seat(&mut self, key: Key, now: Instant, fresh: impl FnOnce() -> T) -> Seat {
        if self.known.contains_key(&key) {
            return Seat::Own(key);
        }
        if self.known.len() >= self.most {
            self.sweep(now);
        }
        if self.known.len() >= self.most {
            return Seat::Shared;
        }
        self.known.insert(key, fresh());
        Seat::Own(key)
    }

    /// Who sits there. A forgotten seat is the shared one.
    pub(super) fn at(&mut self, seat: Seat) -> &mut T {
        match seat {
            Seat::Own(key) => self.known.get_mut(&key).unwrap_or(&mut self.shared),
            Seat::Shared => &mut self.shared,
        }
    }

    /// Looks at everything, so not more than once a second.
    fn sweep(&mut self, now: Instant) {
        const EVERY: Duration = Duration::from_secs(1);
        if self.swept.is_some_and(|swept| now.saturating_duration_since(swept) < EVERY) {
            return;
        }
        self.swept = Some(now);
        self.known.retain(|_, one| !one.is_as_new(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, Default)]
    struct One(bool);

    impl Forgettable for One {
        fn is_as_new(&mut self, _now: Instant) -> bool {
            !self.0
        }
    }

    #[test]
    fn a_crowd_is_bounded_and_forgets_only_what_is_as_new() {
        let now = tokio::time::Instant::now().into_std();
        let mut crowd = Crowd::new(2, One::default());
        let [a, b, c, d] = ["a", "b", "c", "d"].map(Key::of);
        assert_eq!(crowd.seat(a, now, One::default), Seat::Own(a));
        crowd.at(Seat::Own(a)).0 = true;
        assert_eq!(crowd.seat(b, now, One::default), Seat::Own(b));
        assert_eq!(crowd.seat(c, now, One::default), Seat::Own(c), "b was as new");
        crowd.at(Seat::Own(c)).0 = true;
        assert_eq!(crowd.seat(d, now + Duration::from_secs(2), One::default), Seat::Shared);
        assert_eq!(crowd.seat(a, now, One::default), Seat::Own(a));
        assert_eq!(crowd.known.len(), 2);
    }
}
