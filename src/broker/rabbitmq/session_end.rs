use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::broker::error::BrokerError;

/// The end of a session, shared by all its parts. The first cause stays.
#[derive(Clone, Debug, Default)]
pub struct SessionEnd(Arc<State>);

#[derive(Debug, Default)]
struct State {
    token: CancellationToken,
    cause: OnceLock<BrokerError>,
}

impl SessionEnd {
    /// Ends the session; answers with the cause that counts, which is the first.
    pub(super) fn end(&self, cause: BrokerError) -> BrokerError {
        let first = self.0.cause.get_or_init(|| cause).clone();
        self.0.token.cancel();
        first
    }

    /// Why the session is over, if it is.
    #[must_use]
    pub fn cause(&self) -> Option<BrokerError> {
        self.0.cause.get().cloned()
    }

    /// Resolves when the session is over, with the cause. Can be dropped and called again.
    pub async fn ended(&self) -> BrokerError {
        self.0.token.cancelled().await;
        self.cause().unwrap_or(BrokerError::Closed)
    }
}

/// Ends the session when dropped, for the parts of it that are still held.
pub(super) struct EndOnDrop(pub(super) SessionEnd);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(BrokerError::Closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_cause_is_the_cause() {
        let over = SessionEnd::default();
        assert!(over.cause().is_none());
        let first = over.end(BrokerError::ConsumerCancelled { queue: "q".to_owned() });
        assert_eq!(over.end(BrokerError::Closed), first);
        assert_eq!(over.ended().await, first);
    }
}
