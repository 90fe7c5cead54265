use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::startup::runtime;
use crate::telemetry;

/// A supervisor that signals the process and its group sends the same wish twice: within this it is one.
const SAME_WISH: Duration = Duration::from_secs(1);

/// Tells of each SIGHUP from now on. At once, before the settings are read: without somebody who handles it, it ends the process.
///
/// # Errors
/// The system does not let signals be handled.
pub(super) fn tell_hang_ups() -> std::io::Result<Arc<Notify>> {
    let (told, telling) = (Arc::new(Notify::new()), runtime(1)?);
    let mut hang_up = {
        let _within = telling.enter();
        signal(SignalKind::hangup())?
    };
    let tell = Arc::clone(&told);
    let waiting = async move {
        while hang_up.recv().await.is_some() {
            tell.notify_one();
        }
    };
    thread::Builder::new().name("hang-ups".to_owned()).spawn(move || telling.block_on(waiting))?;
    Ok(told)
}

/// Cancels `stop` at the first SIGTERM or SIGINT, and ends the process at one that comes more than [`SAME_WISH`] later. What is
/// in hand then is the matter of `worker::dispatcher` (`stop`), which has `worker.shutdown_grace` for it.
///
/// To be called before anything else: the first process of a container loses a signal that nothing handles yet. A thread of
/// their own waits for signals, so that a second one ends the process whatever the others do.
///
/// # Errors
/// The system does not let signals be handled.
pub(super) fn stop_on_signals(stop: CancellationToken) -> std::io::Result<()> {
    let runtime = runtime(1)?;
    let (mut terminate, mut interrupt) = {
        let _within = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let waiting = async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => 128 + 15,
                _ = interrupt.recv() => 128 + 2,
            }
        };
        next().await;
        stop.cancel();
        let first = Instant::now();
        let code = loop {
            let code = next().await;
            if first.elapsed() > SAME_WISH {
                break code;
            }
        };
        warn!("a second signal: ending at once; what is in flight will be delivered again");
        telemetry::flush();
        std::process::exit(code);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(waiting))?;
    Ok(())
}
