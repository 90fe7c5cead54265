use std::time::{Duration, Instant};

/// Moments handed out one after the other, so that those who wait come back one at a time.
///
/// Nobody is bound to a place: who comes back asks again, and who never comes back costs nobody anything.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlotSchedule {
    next: Option<Instant>,
}

impl SlotSchedule {
    /// The next free place from `earliest` on, and at least `spacing` after the one before. None if it is later than
    /// `latest`: the line is full.
    pub(super) fn reserve(&mut self, earliest: Instant, spacing: Duration, latest: Instant) -> Option<Instant> {
        let place = self.next.map_or(earliest, |next| next.max(earliest));
        if place > latest {
            return None;
        }
        self.next = Some(place + spacing);
        Some(place)
    }

    /// When the line ends. None: nobody was ever given a place.
    pub(super) const fn end(&self) -> Option<Instant> {
        self.next
    }
}
