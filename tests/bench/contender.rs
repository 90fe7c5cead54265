//! The two that are compared, each as a process of its own.

use std::fmt;
use std::fs;

use serde_json::json;
use tokio::process::Command;

use crate::process::Process;
use crate::test_env::{TestEnv, WAIT_LEVELS};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    Thin,
    Worker,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Thin => "thin",
            Self::Worker => "worker",
        })
    }
}

/// How a contender is run.
#[derive(Clone, Copy)]
pub struct Run {
    pub prefetch: u16,
    /// The worker's.
    pub threads: u16,
    /// Whether the worker parks whatever is not done at once, and for longer than any run.
    pub parks_at_once: bool,
}

impl Contender {
    /// Starts it. It works at once on what stands in the queues.
    pub fn start(self, env: &TestEnv, run: Run) -> anyhow::Result<Process> {
        Process::start(self.command(env, run)?, env.folder().join(format!("{self}.log")))
    }

    /// What starts it.
    pub fn command(self, env: &TestEnv, run: Run) -> anyhow::Result<Command> {
        match self {
            Self::Thin => thin(env, run),
            Self::Worker => worker(env, run),
        }
    }
}

fn thin(env: &TestEnv, run: Run) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("thin").args(["--endpoint", &env.endpoint, "--prefix", &env.topology.prefix]);
    command.args(["--prefetch", &run.prefetch.to_string()]).env("THIN_AMQP", &env.broker_uri);
    Ok(command)
}

fn worker(env: &TestEnv, run: Run) -> anyhow::Result<Command> {
    let file = env.folder().join("worker.toml");
    fs::write(&file, settings(env, run))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_cancel-worker"));
    // Settings of the caller's environment are not what is measured.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CANCEL_WORKER_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").arg("run").arg("--config").arg(file);
    Ok(command)
}

/// The worker's settings: its defaults, but for what the run needs. A JSON string is a TOML string too.
fn settings(env: &TestEnv, run: Run) -> String {
    let (uri, prefix, endpoint) = (json!(env.broker_uri), json!(env.topology.prefix), json!(env.endpoint));
    let Run { prefetch, threads, parks_at_once } = run;
    let mut settings = format!(
        "[amqp]\nuri = {uri}\nprefetch = {prefetch}\n\
         [amqp.topology]\nprefix = {prefix}\nwait_levels = {levels}\n\
         [api]\nendpoint = {endpoint}\n\
         [admin]\nlisten = \"\"\n\
         [runtime]\nthreads = {threads}\n",
        levels = json!(WAIT_LEVELS),
    );
    if parks_at_once {
        settings.push_str("[worker]\ninline_wait = \"0s\"\n[polling]\ninitial = \"1h\"\nmax = \"1h\"\njitter = 0.0\n");
    }
    settings
}
