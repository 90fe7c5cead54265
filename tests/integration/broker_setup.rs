//! What the tests of `broker` share: settings, messages, and a node whose users and connections they may touch.

use std::future::Future;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cancel_worker::broker::rabbitmq::Session;
use cancel_worker::message::Outgoing;
use cancel_worker::settings::{self, Amqp};
use time::macros::datetime;
use tokio::time::timeout;

use crate::support::Broker;

/// The worker's name in these tests.
pub const WORKER: &str = "test-worker";

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The default settings with this broker and prefix, and further ones.
pub fn amqp(uri: &str, prefix: &str, others: &[(&str, &str)]) -> Amqp {
    let mut overrides = vec![("amqp.uri", uri.to_owned()), ("amqp.topology.prefix", prefix.to_owned())];
    overrides.extend(others.iter().map(|(key, value)| (*key, (*value).to_owned())));
    settings::load(&[], &overrides).unwrap().settings.amqp
}

/// A session on the shared broker with a topology of its own, whose prefix comes with it.
pub async fn session(others: &[(&str, &str)]) -> (Session, String) {
    let prefix = Broker::unique_prefix();
    let settings = amqp(Broker::shared().uri(), &prefix, others);
    (Session::open(&settings, WORKER).await.unwrap(), prefix)
}

/// A message with this id and a small body.
pub fn message(id: &str) -> Outgoing {
    Outgoing {
        body: format!("body of {id}").into(),
        content_type: "application/json",
        message_id: Some(id.to_owned()),
        correlation_id: None,
        kind: None,
        timestamp: datetime!(2026-01-02 03:04:05 UTC),
        headers: Vec::new(),
    }
}

/// Waits, but not for ever.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(LIMIT, what).await.expect("it did not happen in time")
}

/// A node whose users, vhosts and connections the tests of `broker` may change. Each takes a vhost of its own.
pub struct Administered;

impl Administered {
    /// Runs `rabbitmqctl`.
    pub fn ctl<const N: usize>(arguments: [&str; N]) -> String {
        node().lock().unwrap_or_else(PoisonError::into_inner).ctl(arguments)
    }

    /// Runs a command line in a shell, see [`Broker::shell`].
    pub fn shell(command: &str) -> String {
        node().lock().unwrap_or_else(PoisonError::into_inner).shell(command)
    }

    /// A new vhost and a new user, with all permissions there, of the same name; and the URI of both.
    pub fn vhost() -> (String, String) {
        let name = Broker::unique_prefix();
        Self::ctl(["add_vhost", &name]);
        Self::ctl(["add_user", &name, "secret"]);
        Self::ctl(["set_permissions", "-p", &name, &name, ".*", ".*", ".*"]);
        let uri = Self::uri(&format!("{name}:secret"), &name);
        (name, uri)
    }

    /// The node's URI with another login and vhost.
    pub fn uri(login: &str, vhost: &str) -> String {
        let node = node().lock().unwrap_or_else(PoisonError::into_inner);
        let host = node.uri().split_once('@').unwrap().1.split_once('/').unwrap().0;
        format!("amqp://{login}@{host}/{vhost}")
    }
}

fn node() -> &'static Mutex<Broker> {
    static NODE: OnceLock<Mutex<Broker>> = OnceLock::new();
    NODE.get_or_init(|| Mutex::new(Broker::private()))
}
