use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::meters::Meters;
use super::readiness::Readiness;
use super::unix_time::unix_time;

/// All that one worker tells probes and scrapes. The worker writes it.
#[derive(Debug)]
pub struct Telemetry {
    /// Whether it can do its work.
    pub readiness: Readiness,
    /// What it counts and measures.
    pub meters: Arc<Meters>,
    /// When it began, as Unix time in seconds.
    pub(super) started: u64,
}

impl Telemetry {
    /// Of a worker that ends with `stop`, from now on.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { readiness: Readiness::new(stop), meters: Arc::default(), started: unix_time() }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new(CancellationToken::new())
    }
}
