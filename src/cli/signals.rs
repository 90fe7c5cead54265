use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::telemetry;

/// Cancels `stop` at the first SIGTERM or SIGINT, and ends the process at the second. What is in hand then is the matter of
/// `worker::dispatcher` (`stop`), which has `worker.shutdown_grace` for it.
///
/// # Errors
/// The system does not let signals be handled.
pub(super) fn stop_on_signals(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => 128 + 15,
                _ = interrupt.recv() => 128 + 2,
            }
        };
        next().await;
        stop.cancel();
        let code = next().await;
        warn!("a second signal: ending at once; what is in flight will be delivered again");
        telemetry::flush();
        std::process::exit(code);
    });
    Ok(())
}
