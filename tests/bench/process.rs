//! Processes that are measured: started, asked to end, and what the kernel says that they cost.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a process may take to end after it was asked to.
const END: Duration = Duration::from_secs(30);

/// `/proc` counts CPU time in these, on every architecture (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// A process that was started here. It is killed when the value is dropped.
pub struct Process {
    child: Child,
    id: u32,
    log: PathBuf,
}

impl Process {
    /// Starts a command. What it prints goes straight to the file `log`: reading it here would take CPU from those who are
    /// measured.
    pub fn start(mut command: Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&log).with_context(|| format!("write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let id = child.id().context("the process has ended at once")?;
        Ok(Self { child, id, log })
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    /// Everything that it has printed.
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails, with what it printed last, if it has ended.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the process ended by itself ({status}):\n{}", self.last_words()),
        }
    }

    /// Asks it to end, and waits until it has.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.check_alive()?;
        // The shell's own `kill`, since not every system has a program of that name.
        let asked = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.id)).status().await?;
        ensure!(asked.success(), "failed to send TERM to process {}", self.id);
        match timeout(END, self.child.wait()).await {
            Ok(status) => {
                let status = status?;
                ensure!(status.success(), "the process did not end well ({status}):\n{}", self.last_words());
                Ok(())
            }
            Err(_) => bail!("the process still runs {END:?} after SIGTERM:\n{}", self.last_words()),
        }
    }

    /// The last lines that it printed.
    pub fn last_words(&self) -> String {
        let printed = self.printed();
        let lines: Vec<&str> = printed.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// User and system time of a process and all its threads since its start.
pub fn cpu_time(id: u32) -> anyhow::Result<Duration> {
    let stat = read(id, "stat")?;
    // The second field, the name, may hold blanks and brackets: what follows begins with the third.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields.split_whitespace());
    let ticks =
        fields.and_then(|fields| fields.skip(11).take(2).map(|field| field.parse::<u32>().ok()).sum::<Option<u32>>());
    Ok(TICK * ticks.with_context(|| format!("read the times in {stat:?}"))?)
}

/// Physical memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// At most since its start.
    pub peak: u64,
}

/// What `/proc` says of a process's memory.
pub fn memory(id: u32) -> anyhow::Result<Memory> {
    let status = read(id, "status")?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kibibytes: Option<u64> = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
        kibibytes.map(|kibibytes| kibibytes * 1024).with_context(|| format!("read {name} of process {id}"))
    };
    Ok(Memory { resident: bytes("VmRSS")?, peak: bytes("VmHWM")? })
}

/// The short name of a process, or `None` if there is no such process.
pub fn command_name(id: u32) -> Option<String> {
    read(id, "comm").ok().map(|name| name.trim().to_owned())
}

fn read(id: u32, file: &str) -> anyhow::Result<String> {
    let path = Path::new("/proc").join(id.to_string()).join(file);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}
