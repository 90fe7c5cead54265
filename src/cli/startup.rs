use tokio::runtime::{Builder, Runtime};

use crate::settings::Log;
use crate::telemetry;

/// The runtime of a command: with one thread, tasks run on the thread that waits for them, which is the cheapest.
pub(super) fn runtime(threads: usize) -> std::io::Result<Runtime> {
    if threads <= 1 {
        Builder::new_current_thread().enable_all().build()
    } else {
        Builder::new_multi_thread().worker_threads(threads).enable_all().build()
    }
}

/// Logs from here on, as the settings say; first, what is amiss with the settings.
pub(super) fn start_logging(log: &Log, warnings: &[String]) {
    telemetry::init(log.format, &log.filter);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}
