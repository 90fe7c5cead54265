use std::time::{Duration, Instant};

/// Moments handed out one after the other, so that those who wait ask again one at a time.
///
/// A slot binds to nothing: at its time one asks again, and a slot that is never used delays no one else.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlotSchedule {
    next: Option<Instant>,
}

impl SlotSchedule {
    /// The next free slot from `earliest` on, and at least `spacing` after the one before. None if that is later than
    /// `latest`: all slots until then are taken.
    pub(super) fn reserve(&mut self, earliest: Instant, spacing: Duration, latest: Instant) -> Option<Instant> {
        let slot = self.next.map_or(earliest, |next| next.max(earliest));
        if slot > latest {
            return None;
        }
        self.next = Some(slot + spacing);
        Some(slot)
    }

    /// The end of the last slot. None: none was ever reserved.
    pub(super) const fn end(&self) -> Option<Instant> {
        self.next
    }
}
