use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::arguments::Run;
use super::exit::Exit;
use super::limits::OpenFiles;
use super::reload::Reloader;
use super::signals::{stop_on_signals, tell_hang_ups};
use super::startup::{runtime, start_logging};
use crate::admin::Admin;
use crate::broker::rabbitmq::start_io_runtime;
use crate::operations_api::Client;
use crate::settings::Loaded;
use crate::telemetry::Telemetry;
use crate::worker::{self, Control};

/// `run`: the worker itself.
pub(super) fn run(command: Run) -> anyhow::Result<Exit> {
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone()).context("failed to handle signals")?;
    let hang_ups = tell_hang_ups().context("failed to handle signals")?;
    let loaded = command.settings.load(&[]).context("failed to start")?;
    let (reloader, admission) = Reloader::new(command.settings, &loaded);
    let Loaded { settings, warnings, .. } = loaded;
    start_logging(&settings.log, &warnings);
    let name = command.name.unwrap_or_else(default_name);
    start_io_runtime();
    let runtime = runtime(settings.runtime.threads).context("failed to start the runtime")?;
    let ended = runtime.block_on(async {
        let client = Client::new(&settings.api).context("failed to build the API client")?;
        info!(version = env!("CARGO_PKG_VERSION"), worker = name, broker = %settings.amqp.uris, "starting");
        if let Some(files) = OpenFiles::of(&settings).filter(|files| !files.suffice()) {
            warn!("{files}");
        }
        let telemetry = Arc::new(Telemetry::new(stop.clone()));
        if let Some(listen) = settings.admin.listen {
            answer_probes(listen, Arc::clone(&telemetry)).await.context("failed to start")?;
        }
        tokio::spawn(reloader.run(hang_ups));
        let control = Control { stop, admission };
        worker::run(&settings, client, &name, control, telemetry).await.context("failed to start")?;
        info!("stopped");
        Ok(Exit::Success)
    });
    // Waits for nothing that is left, such as a file whose file system hangs.
    runtime.shutdown_background();
    ended
}

/// Serves the admin listener until the process ends.
async fn answer_probes(listen: SocketAddr, telemetry: Arc<Telemetry>) -> anyhow::Result<()> {
    let admin = Admin::bind(listen).await?;
    info!(address = %admin.address(), "answering probes at /livez and /readyz, and scrapes at /metrics");
    tokio::spawn(async move {
        if let Err(error) = admin.serve(telemetry).await {
            error!(%error, "the admin listener ended; probes get no answer any more");
        }
    });
    Ok(())
}

/// The host's name and the process id: tells workers apart, also several in one container's image.
fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}
