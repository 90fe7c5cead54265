use std::process::ExitCode;

use clap::Parser as _;

use super::arguments::{Arguments, Command};
use super::exit::Exit;
use super::{cancel, check, dead, probe, request, run, simulate, status};
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
        Command::Dead(command) => dead::run(&command),
        Command::Status(command) => status::run(&command),
        Command::Probe(command) => probe::run(&command),
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
