use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::pacing::AdmissionPolicy;

/// What tells a worker to stop, and what may change while it works.
#[derive(Clone, Debug)]
pub struct Control {
    /// Cancelled when it is to stop.
    pub stop: CancellationToken,
    /// Circuit breaker and rate limits, whenever they change.
    pub admission: watch::Receiver<AdmissionPolicy>,
}

/// Nothing changes.
impl From<CancellationToken> for Control {
    fn from(stop: CancellationToken) -> Self {
        Self { stop, admission: watch::channel(AdmissionPolicy::default()).1 }
    }
}
