use std::borrow::Cow;
use std::time::Duration;

use super::role::Role;

/// Why there is no session, or no longer. Written to fit after "failed to …"; never holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// No TCP connection.
    #[error("{address} cannot be reached: {problem}")]
    Unreachable {
        /// Without the password.
        address: String,
        /// As the system says it.
        problem: String,
    },
    /// No TLS on the TCP connection.
    #[error("TLS with {address} failed: {problem}; {}", tls_remedy(.problem))]
    Tls {
        /// Without the password.
        address: String,
        /// As the TLS library says it.
        problem: String,
    },
    /// The server ended the connection before it was open, or is no AMQP server.
    #[error(
        "{address} did not open the connection: {problem}; does the port speak AMQP 0-9-1, with TLS for amqps:// only, and does the broker admit another connection?"
    )]
    Handshake {
        /// Without the password.
        address: String,
        /// What happened.
        problem: String,
    },
    /// It took longer than the settings allow.
    #[error("{address} did not answer within {} while {stage}", humantime::format_duration(*.limit))]
    TimedOut {
        /// Without the password.
        address: String,
        /// What was being waited for.
        stage: &'static str,
        /// How long that was waited for.
        limit: Duration,
    },
    /// User and password were refused.
    #[error("{address} refused the login of user {user:?}: check user and password in amqp.uri, or in the file of amqp.uri_file{}", guest_hint(.user))]
    LoginRefused {
        /// Without the password.
        address: String,
        /// Who wanted to log in.
        user: String,
    },
    /// There is no such vhost.
    #[error(
        "there is no vhost {vhost:?} at {address}: create it with `rabbitmqctl add_vhost {}`, or correct the path of amqp.uri (the vhost \"/\" is written %2f)",
        for_shell(.vhost)
    )]
    VhostMissing {
        /// Without the password.
        address: String,
        /// Its name.
        vhost: String,
    },
    /// The user has no permission at all on the vhost.
    #[error(
        "user {user:?} may not use the vhost {vhost:?} at {address}: grant it with `rabbitmqctl set_permissions -p {} {} '.*' '.*' '.*'`",
        for_shell(.vhost),
        for_shell(.user)
    )]
    VhostForbidden {
        /// Without the password.
        address: String,
        /// Who.
        user: String,
        /// Where.
        vhost: String,
    },
    /// An existing queue or exchange differs from what the settings ask for.
    #[error("{what} exists with another {argument}: the settings ask for {wanted}, it has {found}; {remedy}")]
    Inequivalent {
        /// Such as `queue "cancel-worker.requests"`.
        what: String,
        /// The argument's name.
        argument: String,
        /// As the settings would have it.
        wanted: String,
        /// As it is.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// A queue or exchange is not there, and is not to be declared.
    #[error("{what} does not exist: {remedy}")]
    Missing {
        /// Such as `queue "cancel-worker.requests"`.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// The user lacks a permission on a queue or exchange.
    #[error(
        "user {user:?} may not {action}, the broker says {reply:?}: grant it with `rabbitmqctl set_permissions -p {} {} '.*' '.*' '.*'` (or with narrower patterns that fit), or have the topology declared by somebody else and set amqp.topology.declare = false",
        for_shell(.vhost),
        for_shell(.user)
    )]
    Forbidden {
        /// Who.
        user: String,
        /// Such as `declare queue "cancel-worker.requests"`.
        action: String,
        /// Which resource it is about is in the broker's own words.
        reply: String,
        /// Where.
        vhost: String,
    },
    /// Another fault with one queue or exchange.
    #[error("{action} failed: {problem}")]
    Topology {
        /// Such as `declare queue "cancel-worker.requests"`.
        action: String,
        /// The broker's words.
        problem: String,
    },
    /// A queue that is there says nothing of its messages.
    #[error(
        "queue {queue:?} gave no answer within {}: it has no leader, so it cannot be read, which does not mean that it is empty; bring its nodes back",
        humantime::format_duration(*.limit)
    )]
    NoLeader {
        /// The queue's name.
        queue: String,
        /// How long that was waited for.
        limit: Duration,
    },
    /// Somebody else is at work on a queue that is to be changed by one alone.
    #[error("queue {queue:?} is in use: {by}; wait until that has ended, or give --force")]
    InUse {
        /// The queue's name.
        queue: String,
        /// By whom.
        by: String,
    },
    /// A connection or channel that worked has ended.
    #[error("the {role} connection ended: {problem}")]
    Lost {
        /// Which.
        role: Role,
        /// Why.
        problem: String,
    },
    /// The broker cancelled a consumer: its queue was deleted, or it took too long to acknowledge.
    #[error(
        "the broker cancelled the consumer of queue {queue:?}; was the queue deleted, or a delivery held too long?"
    )]
    ConsumerCancelled {
        /// The queue's name.
        queue: String,
    },
    /// The broker neither confirmed nor refused a publish.
    #[error("a publish was not confirmed within {}", humantime::format_duration(*.0))]
    ConfirmTimeout(Duration),
    /// The delivery's channel is gone: the broker delivers it again.
    #[error("the delivery can no longer be answered: its channel is gone")]
    Stale,
    /// The session was closed on this side.
    #[error("the session is closed")]
    Closed,
    /// None of several nodes can be used.
    #[error("none of the {} nodes can be used: {}", .0.len(), joined(.0))]
    NoNode(Vec<BrokerError>),
}

impl BrokerError {
    /// Whether it is permanent: trying again is in vain until the settings or the broker are changed. All others are transient.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::LoginRefused { .. }
            | Self::VhostMissing { .. }
            | Self::VhostForbidden { .. }
            | Self::Inequivalent { .. }
            | Self::Missing { .. }
            | Self::Forbidden { .. } => true,
            Self::NoNode(errors) => errors.iter().all(Self::is_permanent),
            Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Handshake { .. }
            | Self::TimedOut { .. }
            | Self::Topology { .. }
            | Self::NoLeader { .. }
            | Self::InUse { .. }
            | Self::Lost { .. }
            | Self::ConsumerCancelled { .. }
            | Self::ConfirmTimeout(_)
            | Self::Stale
            | Self::Closed => false,
        }
    }
}

fn guest_hint(user: &str) -> &'static str {
    if user == "guest" {
        "; RabbitMQ accepts \"guest\" from its own machine only, so elsewhere another user is needed"
    } else {
        ""
    }
}

fn joined(errors: &[BrokerError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A word of a command that a remedy proposes.
pub(super) fn for_shell(word: &str) -> Cow<'_, str> {
    // It refuses nothing but NUL, which no name has that got so far.
    shlex::try_quote(word).unwrap_or_default()
}

/// What to do about a TLS connection that was not made.
fn tls_remedy(problem: &str) -> &'static str {
    if problem.contains("UnknownIssuer") {
        "a CA of your own has to be among those that the system trusts: add it with `update-ca-certificates`, or name its file in SSL_CERT_FILE"
    } else if problem.contains("No CA certificates") {
        "this system trusts no CA: install the package ca-certificates, or name a file of them in SSL_CERT_FILE"
    } else {
        "check the host's name, its certificate, and that the port speaks TLS"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_tls_decides_what_to_do_about_it() {
        for (problem, remedy) in [
            ("invalid peer certificate: UnknownIssuer", "update-ca-certificates"),
            ("No CA certificates were loaded from the system", "ca-certificates"),
            ("invalid peer certificate: NotValidForName", "the host's name"),
        ] {
            let (address, problem) = ("amqps://broker:5671".to_owned(), problem.to_owned());
            let told = BrokerError::Tls { address, problem }.to_string();
            assert!(told.contains(remedy), "{told}");
        }
    }
}
