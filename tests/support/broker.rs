use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// Set by `tests/run.sh`, which starts one node for the whole run; any other broker will do as well.
const SHARED_URI: &str = "CANCEL_WORKER_TEST_AMQP";

/// Set beside it: the folder of that node, if `deploy/rabbitmq.sh` runs it.
const SHARED_NODE: &str = "CANCEL_WORKER_TEST_NODE";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rabbitmq.sh");

/// A RabbitMQ broker. A node that was started here ends with its value or, however that happens, with the test's process.
///
/// Starting one takes some 6 s, in which the calling thread is blocked.
pub struct Broker {
    uri: String,
    node: Option<Node>,
}

impl Broker {
    /// The broker that all tests share. They keep apart by [`Broker::unique_prefix`], and leave its connections,
    /// its users and the node itself alone.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var(SHARED_URI) {
            Ok(uri) => Self { uri, node: std::env::var_os(SHARED_NODE).map(Node::of_another) },
            Err(_) => Self::private(),
        })
    }

    /// A shared broker whose queues can be looked into with [`Broker::ctl`]: the one that all tests share if its node
    /// is known, else one more.
    pub fn observable() -> &'static Self {
        static OBSERVABLE: OnceLock<Broker> = OnceLock::new();
        if Self::shared().node.is_some() { Self::shared() } else { OBSERVABLE.get_or_init(Self::private) }
    }

    /// A node of the test's own, to be killed and restarted as it likes.
    pub fn private() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let owner = std::process::id().to_string();
        let node = Node { path: folder.path().join("node"), folder: Some(folder) };
        let uri = node.script("start", ["--owner", &owner]).trim().to_owned();
        Self { uri, node: Some(node) }
    }

    /// One more node, in a cluster with this one. It has to end before this one does. Only for [`Broker::private`].
    pub fn join(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (owner, first) = (std::process::id().to_string(), self.own_node().path.to_str().unwrap());
        let node = Node { path: folder.path().join("node"), folder: Some(folder) };
        let uri = node.script("start", ["--owner", &owner, "--join", first]).trim().to_owned();
        Self { uri, node: Some(node) }
    }

    /// A name that no other test and no earlier run uses: the topology prefix of one test.
    pub fn unique_prefix() -> String {
        format!("test-{:016x}", fastrand::u64(..))
    }

    /// `amqp://user:password@127.0.0.1:port/%2f`.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The node's folder. Only for [`Broker::private`].
    pub fn folder(&self) -> &Path {
        &self.own_node().path
    }

    /// Ends the node as a crash would. Only for [`Broker::private`].
    ///
    /// RabbitMQ keeps the names of new quorum queues in memory until nothing was declared for 0.5 s. A lone node
    /// that is killed before that begins such a queue anew, without its confirmed messages, and never elects its
    /// leader. That is not what tests are about, so the names are written first.
    pub fn kill9(&mut self) {
        self.ctl(["--silent", "eval", "lists:foreach(fun dets:sync/1, dets:all())."]);
        self.own_node().script("kill", []);
    }

    /// Starts the killed node again, with the same URI and data. Only for [`Broker::private`].
    pub fn restart(&mut self) {
        self.own_node().script("restart", []);
    }

    /// Runs `rabbitmqctl` on the node, and returns what it printed. On a shared broker only to look, and only if it is
    /// [`Broker::observable`].
    pub fn ctl<const N: usize>(&self, arguments: [&str; N]) -> String {
        let node = self.node.as_ref().unwrap_or_else(|| panic!("{SHARED_NODE} does not name the broker's folder"));
        node.script("ctl", arguments)
    }

    /// Runs a command line as whoever administers the node would type it, in a shell in which `rabbitmqctl` and
    /// its kin mean this node; returns what it printed. Only for nodes that may be changed.
    pub fn shell(&self, command: &str) -> String {
        let node = self.own_node().path.to_str().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let programs = [("rabbitmqctl", "ctl"), ("rabbitmq-diagnostics", "diagnostics"), ("rabbitmq-queues", "queues")];
        for (program, word) in programs {
            let path = folder.path().join(program);
            std::fs::write(&path, format!("#!/bin/sh\nexec '{SCRIPT}' {word} '{node}' \"$@\"\n")).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let output = Command::new("sh").args(["-c", command]).env("PATH", path).stdin(Stdio::null()).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command} ended with {}: {said}", output.status);
        said
    }

    fn own_node(&self) -> &Node {
        let own = self.node.as_ref().filter(|node| node.folder.is_some());
        own.unwrap_or_else(|| panic!("{SHARED_URI} names a broker that is not this test's own"))
    }
}

/// A node that `deploy/rabbitmq.sh` runs in a folder.
struct Node {
    path: PathBuf,
    /// Of a node that was started here, and ends here.
    folder: Option<TempDir>,
}

impl Node {
    fn of_another(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), folder: None }
    }

    /// Runs a command of the script, and returns what it printed.
    fn script<const N: usize>(&self, command: &str, arguments: [&str; N]) -> String {
        let output = Command::new(SCRIPT)
            .args([OsStr::new(command), self.path.as_os_str()])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("failed to run {SCRIPT}: {error}"));
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{SCRIPT} {command} failed ({}): {problem}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Node {
    /// Ends the node without ceremony, for its data goes with it. No panic here: a failing test may be unwinding.
    fn drop(&mut self) {
        if self.folder.is_none() {
            return;
        }
        for command in ["kill", "stop"] {
            let _ = Command::new(SCRIPT)
                .args([OsStr::new(command), self.path.as_os_str()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}
