use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::time::{Instant, timeout, timeout_at};

use super::address::Address;
use super::dial::dial;
use super::refusal::{Refusal, connection_lost, problem, refusal};
use crate::broker::error::BrokerError;
use crate::broker::role::Role;

/// How long an orderly close may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// One connection, without lapin's recovery. Dropping it cuts it.
pub(super) struct BrokerConnection {
    lapin: Connection,
    role: Role,
    _socket_guard: SocketGuard,
}

impl BrokerConnection {
    /// Connects to the first of the nodes that answers, in random order, so that a fleet of workers spreads over them;
    /// `jitter` rolls from 0 to 1. Each node gets an equal share of the time.
    pub(super) async fn open_any<'a>(
        addresses: &'a [Address],
        role: Role,
        settings: &crate::settings::Amqp,
        worker: &str,
        jitter: impl FnMut() -> f64,
    ) -> Result<(Self, &'a Address), BrokerError> {
        let share = *settings.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut errors = Vec::new();
        for (place, address) in shuffled(addresses, jitter) {
            match Self::open(address, role, *settings.heartbeat, worker, share).await {
                Ok(connection) => return Ok((connection, address)),
                Err(error) => errors.push((place, error)),
            }
        }
        // As the settings list them: the same failure is to read the same.
        errors.sort_by_key(|(place, _)| *place);
        let mut errors: Vec<_> = errors.into_iter().map(|(_, error)| error).collect();
        Err(if errors.len() == 1 { errors.remove(0) } else { BrokerError::NoNode(errors) })
    }

    /// Connects within `limit`, to the end of the handshake. Once TCP is connected nothing is begun beside it: a broker that
    /// is slow is not helped by more connections.
    pub(super) async fn open(
        address: &Address,
        role: Role,
        heartbeat: Duration,
        worker: &str,
        limit: Duration,
    ) -> Result<Self, BrokerError> {
        let end = Instant::now() + limit;
        let node = || address.to_string();
        let unreachable = |problem: String| BrokerError::Unreachable { address: node(), problem };
        // The current tokio runtime: lapin's tokio feature.
        let runtime = lapin::runtime::default_runtime().map_err(|error| unreachable(problem(&error)))?;
        let (host, port) = (&address.uri().authority.host, address.uri().authority.port);
        let resolve = || resolve(host, port);
        let dialled = dial(resolve, |address| AsyncTcpStream::connect(&runtime, address), limit).await;
        let stream = dialled.map_err(|error| unreachable(error.to_string()))?;
        let AsyncTcpStream::Plain(plain) = &stream else {
            return Err(unreachable("it is encrypted already".to_owned()));
        };
        let socket = plain.get_ref().as_fd().try_clone_to_owned().map_err(|error| unreachable(error.to_string()))?;
        let socket_guard = SocketGuard::new(socket.into(), address.uri());

        let encrypted = Arc::clone(&socket_guard.encrypted);
        // lapin asks for it once: its recovery is off.
        let stream = Mutex::new(Some(stream));
        let connector = async move |uri: AMQPUri, _| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            let stream = stream.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted))?;
            if uri.scheme == AMQPScheme::AMQP {
                return Ok(stream);
            }
            let stream = stream.into_tls(&uri.authority.host, OwnedTLSConfig::default().as_ref()).await?;
            encrypted.store(true, Ordering::Relaxed);
            Ok(stream)
        };
        let (uri, properties) = (with_heartbeat(address.uri(), heartbeat), properties(worker, role));
        match timeout_at(end, Connection::connector(uri, runtime, connector, properties)).await {
            Ok(Ok(lapin)) => Ok(Self { lapin, role, _socket_guard: socket_guard }),
            Ok(Err(error)) => Err(explained(&error, address, socket_guard.stage())),
            Err(_) => Err(BrokerError::TimedOut { address: node(), stage: socket_guard.stage().as_str(), limit }),
        }
    }

    /// For its state and events.
    pub(super) const fn lapin(&self) -> &Connection {
        &self.lapin
    }

    pub(super) const fn role(&self) -> Role {
        self.role
    }

    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        self.lapin.create_channel().await.map_err(|error| connection_lost(self.role, &error))
    }

    /// The largest frame that may be sent, in bytes.
    pub(super) fn frame_max(&self) -> usize {
        usize::try_from(self.lapin.configuration().frame_max()).unwrap_or(usize::MAX)
    }

    /// Closes in order if the peer plays along, and cuts otherwise.
    pub(super) async fn close(&self) {
        let closing = self.lapin.close(200, "OK".into());
        if !matches!(timeout(CLOSE_TIMEOUT, closing).await, Ok(Ok(()))) {
            tracing::debug!(role = %self.role, "the connection did not close in order: cut");
        }
    }
}

/// The addresses with their places, in an order that chance decides.
fn shuffled(addresses: &[Address], mut jitter: impl FnMut() -> f64) -> impl Iterator<Item = (usize, &Address)> {
    let mut order: Vec<_> = addresses.iter().enumerate().map(|numbered| (jitter(), numbered)).collect();
    order.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    order.into_iter().map(|(_, numbered)| numbered)
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

fn with_heartbeat(uri: &AMQPUri, heartbeat: Duration) -> AMQPUri {
    let mut uri = uri.clone();
    let seconds = u16::try_from(heartbeat.as_secs().max(1)).unwrap_or(u16::MAX);
    uri.query.heartbeat.get_or_insert(seconds);
    uri
}

fn properties(worker: &str, role: Role) -> ConnectionProperties {
    ConnectionProperties::default()
        .with_connection_name(format!("cancel-worker {worker} {role}").into())
        .with_client_property("product".into(), env!("CARGO_PKG_NAME").into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into())
}

/// How far a connection has come on its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Tls,
    Handshake,
}

impl Stage {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "negotiating TLS",
            Self::Handshake => "opening the AMQP connection",
        }
    }
}

/// A hold on the socket. lapin runs each connection on a thread that waits for the peer for ever, even when the
/// connection has been given up: a silent server would cost a thread, a socket and buffers at each attempt.
/// Dropping this shuts the socket down, which ends that thread at any stage.
struct SocketGuard {
    socket: TcpStream,
    /// Whether TLS is done, or not asked for.
    encrypted: Arc<AtomicBool>,
}

impl SocketGuard {
    fn new(socket: TcpStream, uri: &AMQPUri) -> Self {
        Self { socket, encrypted: Arc::new(AtomicBool::new(uri.scheme == AMQPScheme::AMQP)) }
    }

    fn stage(&self) -> Stage {
        if self.encrypted.load(Ordering::Relaxed) { Stage::Handshake } else { Stage::Tls }
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        // It fails only where the connection has ended already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
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
            Stage::Tls => BrokerError::Tls { address: node, problem: problem(error) },
            Stage::Handshake => BrokerError::Handshake { address: node, problem: problem(error) },
        },
    }
}
