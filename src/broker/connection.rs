use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::BrokerError;
use super::address::Address;
use super::error::{Refusal, problem, refusal};

/// How long an orderly close may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection is for. An alarm blocks connections that publish, acknowledgements included, so consuming has
/// one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes deliveries and answers them.
    Consume,
    /// Publishes.
    Publish,
    /// Publishes direct replies.
    Reply,
    /// Looks at queues and exchanges.
    Inspect,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Consume => "consume",
            Self::Publish => "publish",
            Self::Reply => "reply",
            Self::Inspect => "inspect",
        })
    }
}

/// An attempt to connect without an answer for so long is not given up, but no longer relied on.
const NEXT_ATTEMPT: Duration = Duration::from_secs(2);

/// One connection, without lapin's recovery. Dropping it cuts it.
pub(super) struct Link {
    connection: Connection,
    role: Role,
    _wire: Wire,
}

impl Link {
    /// Connects to the first of the addresses that answers. Each gets an equal share of the time that is left.
    pub(super) async fn open_any<'a>(
        addresses: &'a [Address],
        role: Role,
        settings: &crate::settings::Amqp,
        worker: &str,
    ) -> Result<(Self, &'a Address), BrokerError> {
        let share = *settings.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut errors = Vec::new();
        for address in addresses {
            match Self::open(address, role, *settings.heartbeat, worker, share).await {
                Ok(link) => return Ok((link, address)),
                Err(error) => errors.push(error),
            }
        }
        Err(if errors.len() == 1 { errors.remove(0) } else { BrokerError::NoNode(errors) })
    }

    /// Connects within `limit`, to the end of the handshake. An attempt that the network has swallowed stays without an
    /// answer even when the network is well again: so, while there is none, another begins every [`NEXT_ATTEMPT`].
    pub(super) async fn open(
        address: &Address,
        role: Role,
        heartbeat: Duration,
        worker: &str,
        limit: Duration,
    ) -> Result<Self, BrokerError> {
        let attempt = || async {
            let wire = Wire::default();
            match timeout(limit, connect(address, role, heartbeat, worker, &wire)).await {
                Ok(Ok(connection)) => Ok(Self { connection, role, _wire: wire }),
                Ok(Err(error)) => Err(explained(&error, address, wire.stage())),
                Err(_) => {
                    let stage = wire.stage().as_str();
                    Err(BrokerError::TimedOut { address: address.to_string(), stage, limit })
                }
            }
        };
        let mut attempts = FuturesUnordered::from_iter([attempt()]);
        loop {
            tokio::select! {
                biased;
                // The first to end, well or not; the others are dropped, and their sockets with them.
                Some(opened) = attempts.next() => return opened,
                () = tokio::time::sleep(NEXT_ATTEMPT) => attempts.push(attempt()),
            }
        }
    }

    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) const fn role(&self) -> Role {
        self.role
    }

    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        self.connection.create_channel().await.map_err(|error| BrokerError::lost(self.role, &error))
    }

    /// The largest frame that may be sent, in bytes.
    pub(super) fn frame_max(&self) -> usize {
        usize::try_from(self.connection.configuration().frame_max()).unwrap_or(usize::MAX)
    }

    /// Closes in order if the peer plays along, and cuts otherwise.
    pub(super) async fn close(&self) {
        let closing = self.connection.close(200, "OK".into());
        if !matches!(timeout(CLOSE_TIMEOUT, closing).await, Ok(Ok(()))) {
            tracing::debug!(role = %self.role, "the connection did not close in order: cut");
        }
    }
}

async fn connect(
    address: &Address,
    role: Role,
    heartbeat: Duration,
    worker: &str,
    wire: &Wire,
) -> lapin::Result<Connection> {
    let mut uri = address.uri().clone();
    let seconds = u16::try_from(heartbeat.as_secs().max(1)).unwrap_or(u16::MAX);
    uri.query.heartbeat.get_or_insert(seconds);
    let (host, port) = (uri.authority.host.clone(), uri.authority.port);
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), port)).await?.collect();
    let properties = ConnectionProperties::default()
        .with_connection_name(format!("cancel-worker {worker} {role}").into())
        .with_client_property("product".into(), env!("CARGO_PKG_NAME").into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    let state = Arc::clone(&wire.0);
    // The current tokio runtime: lapin's tokio feature.
    let runtime = lapin::runtime::default_runtime()?;
    let dialled = Connection::connector(
        uri,
        runtime,
        async move |uri: AMQPUri, runtime| {
            let stream = tokio::select! {
                biased;
                () = state.cut.cancelled() => return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
                stream = AsyncTcpStream::connect(&runtime, addresses.clone()) => stream?,
            };
            if let AsyncTcpStream::Plain(socket) = &stream {
                state.keep(socket.get_ref().as_fd().try_clone_to_owned()?.into());
            }
            if uri.scheme == AMQPScheme::AMQP {
                state.enter(Stage::Handshake);
                return Ok(stream);
            }
            state.enter(Stage::Tls);
            let stream = stream.into_tls(&uri.authority.host, OwnedTLSConfig::default().as_ref()).await?;
            state.enter(Stage::Handshake);
            Ok(stream)
        },
        properties,
    );
    dialled.await
}

/// How far connecting has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Tcp,
    Tls,
    Handshake,
}

impl Stage {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "connecting",
            Self::Tls => "negotiating TLS",
            Self::Handshake => "opening the AMQP connection",
        }
    }
}

/// A hold on the socket. lapin runs each connection on a thread that waits for the peer for ever, even when nobody
/// wants the connection any more: a silent server would cost a thread, a socket and buffers at each attempt.
/// Dropping this shuts the socket down, which ends that thread at any stage.
#[derive(Default)]
struct Wire(Arc<WireState>);

#[derive(Default)]
struct WireState {
    cut: CancellationToken,
    progress: Mutex<(Stage, Option<TcpStream>)>,
}

impl Wire {
    fn stage(&self) -> Stage {
        self.0.progress().0
    }
}

impl WireState {
    fn progress(&self) -> MutexGuard<'_, (Stage, Option<TcpStream>)> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, stage: Stage) {
        self.progress().0 = stage;
    }

    fn keep(&self, socket: TcpStream) {
        let mut progress = self.progress();
        // Cut between the connect and here.
        if self.cut.is_cancelled() {
            shut(&socket);
        }
        progress.1 = Some(socket);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Under the lock: `keep` either finds the cut or leaves the socket here to be shut.
        let mut progress = self.0.progress();
        self.0.cut.cancel();
        if let Some(socket) = progress.1.take() {
            shut(&socket);
        }
    }
}

fn shut(socket: &TcpStream) {
    // It fails only where the connection has ended already.
    let _ = socket.shutdown(Shutdown::Both);
}

/// What a failed attempt means.
fn explained(error: &lapin::Error, address: &Address, stage: Stage) -> BrokerError {
    let (node, user, vhost) = (address.to_string(), address.user().to_owned(), address.vhost().to_owned());
    match refusal(error) {
        Some((Refusal::Access, _)) => BrokerError::LoginRefused { address: node, user },
        // "… refused for user 'u': connection limit (1) is reached" passes; so does a vhost that is down.
        Some((Refusal::NotAllowed, reply)) if reply.get_message().as_str().contains("limit (") => {
            BrokerError::Handshake { address: node, problem: problem(error) }
        }
        Some((Refusal::NotAllowed, reply)) if reply.get_message().as_str().contains("refused for user") => {
            BrokerError::VhostForbidden { address: node, user, vhost }
        }
        Some((Refusal::NotAllowed, reply)) if reply.get_message().as_str().contains("not found") => {
            BrokerError::VhostMissing { address: node, vhost }
        }
        Some(_) => BrokerError::Handshake { address: node, problem: problem(error) },
        None => match stage {
            Stage::Tcp => BrokerError::Unreachable { address: node, problem: problem(error) },
            Stage::Tls => BrokerError::Tls { address: node, problem: problem(error) },
            Stage::Handshake => BrokerError::Handshake { address: node, problem: problem(error) },
        },
    }
}
