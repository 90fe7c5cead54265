/// Proof that the broker has a message safe in a queue. Only the publisher makes one, and acknowledging takes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "it is the proof that acknowledging a delivery takes"]
pub struct Confirmed(());

impl Confirmed {
    /// For the ledger alone, which has seen the confirm.
    pub(super) const fn new() -> Self {
        Self(())
    }
}
