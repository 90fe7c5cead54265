use std::io::Write as _;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::arguments::Simulate;
use super::exit::Exit;
use super::signals::stop_on_signals;
use super::startup::runtime;
use crate::simulator::{Simulator, SimulatorOptions};

/// `simulate`: serves until a signal. The base URL is printed once requests are taken.
pub(super) fn run(command: &Simulate) -> anyhow::Result<Exit> {
    runtime(1).context("failed to start the runtime")?.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signals(stop.clone()).context("failed to handle signals")?;
        let options = SimulatorOptions { listen: command.listen, ..SimulatorOptions::default() };
        let simulator = Simulator::bind(options).await.context("failed to start the simulator")?;
        let mut out = std::io::stdout();
        writeln!(out, "{}", simulator.base_url()).and_then(|()| out.flush()).context("failed to print the address")?;
        simulator.serve(stop.cancelled_owned()).await.context("failed to serve")?;
        Ok(Exit::Success)
    })
}
