use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{get, variable};

/// How long a process may take to end after it was asked to.
const END: Duration = Duration::from_secs(60);

/// A process under test. What it prints is kept, line by line and in the order of its arrival, in memory and in a
/// file below `target/tmp`, which stays for whoever looks into a failure. It is killed when the value is dropped.
pub struct Process {
    child: Child,
    printed: watch::Receiver<Vec<String>>,
    readers: Vec<JoinHandle<()>>,
    log: PathBuf,
}

impl Process {
    /// Starts `cancel-worker`; see [`worker_command`].
    pub fn worker(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::spawn(worker_command(arguments, environment))
    }

    /// Starts any command.
    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
        let log = log_path();
        let file = Arc::new(Mutex::new(File::create(&log).unwrap()));
        let (sender, printed) = watch::channel(Vec::new());
        let sender = Arc::new(sender);
        let readers = vec![
            tokio::spawn(keep_lines(child.stdout.take().unwrap(), Arc::clone(&sender), Arc::clone(&file))),
            tokio::spawn(keep_lines(child.stderr.take().unwrap(), sender, file)),
        ];
        Self { child, printed, readers, log }
    }

    /// All lines so far, of standard output and standard error.
    pub fn lines(&self) -> Vec<String> {
        self.printed.borrow().clone()
    }

    /// What the worker answers to `GET /readyz`: the status, and its reasons. It needs `admin.listen` set to `127.0.0.1:0`.
    pub async fn readyz(&self) -> (u16, Vec<String>) {
        let address = self.admin_address().await;
        let (status, body) = get(&format!("http://{address}/readyz")).await;
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["ready"], status == 200, "{body}");
        let reasons = answer["reasons"].as_array().unwrap();
        (status, reasons.iter().map(|reason| reason.as_str().unwrap().to_owned()).collect())
    }

    /// All lines as they come; it ends with the process.
    pub fn printed(&self) -> watch::Receiver<Vec<String>> {
        self.printed.clone()
    }

    /// Where it answers probes. It needs `admin.listen` set to `127.0.0.1:0`.
    pub async fn admin_address(&self) -> String {
        let line = self.line_with("answering probes", END).await;
        line.split(r#""address":""#).nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned()
    }

    /// The file that has these lines too.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until a line contains `text`, which may have been printed long ago, and returns that line.
    pub async fn line_with(&self, text: &str, limit: Duration) -> String {
        let mut printed = self.printed.clone();
        let find = |lines: &Vec<String>| lines.iter().any(|line| line.contains(text));
        let found = match timeout(limit, printed.wait_for(find)).await {
            Ok(Ok(lines)) => lines.iter().find(|line| line.contains(text)).cloned(),
            Ok(Err(_)) | Err(_) => None,
        };
        found.unwrap_or_else(|| panic!("no line with {text:?} within {limit:?}, but:\n{}", self.lines().join("\n")))
    }

    /// The system's number of the process, while it runs.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap_or_else(|| panic!("the process has ended"))
    }

    /// The most memory that it has ever held in RAM, in bytes. Only while it runs.
    pub fn peak_memory(&self) -> u64 {
        let id = self.child.id().unwrap_or_else(|| panic!("a process that has ended has no memory"));
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Processor time that it has used. Only while it runs.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        // Fields 14 and 15 of the whole line, in hundredths of a second.
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(10 * ticks)
    }

    /// Sends a signal by its name without `SIG`: `signal("TERM")`.
    pub fn signal(&self, name: &str) {
        let id = self.id();
        // The shell's own `kill`, since not every system has a program of that name.
        let sent = std::process::Command::new("sh").arg("-c").arg(format!("kill -{name} {id}")).status().unwrap();
        assert!(sent.success(), "failed to send {name} to process {id}");
    }

    /// Ends the process as a crash would, and waits until it is gone.
    pub async fn kill9(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits until the process has ended by itself and everything that it printed is kept.
    pub async fn wait(&mut self) -> ExitStatus {
        let ended = timeout(END, self.child.wait()).await;
        let status =
            ended.unwrap_or_else(|_| panic!("still running after {END:?}:\n{}", self.lines().join("\n"))).unwrap();
        for reader in self.readers.drain(..) {
            reader.await.unwrap();
        }
        status
    }
}

/// The `cancel-worker` command. Settings of the caller's environment do not reach it, those of `environment` do. It answers
/// no probes unless it is told to: any number of them run side by side.
pub fn worker_command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cancel-worker"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CANCEL_WORKER_")) {
        command.env_remove(name);
    }
    command.args(arguments).env(variable("admin.listen"), "").envs(environment.iter().copied());
    command
}

async fn keep_lines(stream: impl AsyncRead + Unpin, printed: Arc<watch::Sender<Vec<String>>>, file: Arc<Mutex<File>>) {
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Some(line) = lines.next_segment().await.unwrap() {
        let line = String::from_utf8_lossy(&line).into_owned();
        writeln!(file.lock().unwrap(), "{line}").unwrap();
        printed.send_modify(|lines| lines.push(line));
    }
}

/// `target/tmp/<test>-<n>.log`: the next run writes the same files again.
fn log_path() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("test").replace("::", ".");
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{number}.log"))
}
