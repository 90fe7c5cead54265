use std::process::ExitCode;

use clap::Parser as _;
use tokio::runtime::{Builder, Runtime};

use super::arguments::{Arguments, Command};
use super::exit::Exit;
use super::{cancel, check, request, run, simulate};
use crate::settings::{Log, LogFormat};
use crate::telemetry;

/// Parses the arguments and carries out the command.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Only fails where a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let result = match arguments.command {
        Command::Run(command) => run::run(command),
        Command::Cancel(command) => cancel::run(command),
        Command::Request(command) => request::run(command),
        Command::Check(command) => check::run(&command),
        Command::Simulate(command) => simulate::run(&command),
    };
    match result {
        Ok(exit) => exit.code(),
        Err(error) => {
            telemetry::print_line(&format!("cancel-worker: {error:#}"));
            Exit::of_error(&error).code()
        }
    }
}

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
    let layout = match log.format {
        LogFormat::Auto => telemetry::LogFormat::Auto,
        LogFormat::Pretty => telemetry::LogFormat::Pretty,
        LogFormat::Json => telemetry::LogFormat::Json,
    };
    telemetry::init(layout, &log.filter);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}
