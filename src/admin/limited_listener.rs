use std::fs::File;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Connections at once. Further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 64;

/// How long a connection lasts at most, whatever it is used for.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(2);

/// So many file descriptors are kept for connections: probes are answered also when the process has no other left.
const RESERVE: usize = 4;

/// Before a connection is taken again that could not be.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes few connections at once, and none for long: whoever reaches the address can keep neither the worker's memory nor
/// its file descriptors.
pub(super) struct LimitedListener {
    listener: TcpListener,
    free: Arc<Semaphore>,
    reserve: Arc<Reserve>,
}

impl LimitedListener {
    pub(super) fn new(listener: TcpListener) -> Self {
        let reserve = Arc::new(Reserve::default());
        reserve.fill();
        Self { listener, free: Arc::new(Semaphore::new(MAX_CONNECTIONS)), reserve }
    }

    /// The next connection, on a descriptor of the reserve if there is no other.
    async fn next(&self) -> (TcpStream, SocketAddr) {
        loop {
            match poll_fn(|context| self.poll_next(context)).await {
                Ok(connection) => return connection,
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Without a descriptor the system refuses even to look for a connection: so one is given up for the look, and taken
    /// back at once if there is none, before anybody else can get it.
    fn poll_next(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        loop {
            match self.listener.poll_accept(context) {
                Poll::Ready(Err(error)) if is_of_the_peer(&error) || self.reserve.give_up_one() => {}
                Poll::Ready(Ok(connection)) => return Poll::Ready(Ok(connection)),
                nothing => {
                    self.reserve.fill();
                    return nothing;
                }
            }
        }
    }
}

/// Whether the connection ended before it was taken.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// Open files that stand for nothing but their descriptors.
#[derive(Default)]
struct Reserve(Mutex<Vec<File>>);

impl Reserve {
    /// Takes back what was given up, as far as the system lets it.
    fn fill(&self) {
        let mut files = self.files();
        while files.len() < RESERVE
            && let Ok(file) = File::open("/dev/null")
        {
            files.push(file);
        }
    }

    /// Makes room for a connection; tells whether there was anything to give up.
    fn give_up_one(&self) -> bool {
        self.files().pop().is_some()
    }

    fn files(&self) -> MutexGuard<'_, Vec<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fills the reserve when a connection has ended.
struct Refill(Arc<Reserve>);

impl Drop for Refill {
    fn drop(&mut self) {
        self.0.fill();
    }
}

impl Listener for LimitedListener {
    type Io = LimitedConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LimitedConnection, SocketAddr) {
        let permit = loop {
            // It is never closed.
            if let Ok(permit) = Arc::clone(&self.free).acquire_owned().await {
                break permit;
            }
        };
        let (stream, address) = self.next().await;
        let refill = Refill(Arc::clone(&self.reserve));
        (
            LimitedConnection { stream, end: Box::pin(sleep(CONNECTION_TIMEOUT)), _refill: refill, _permit: permit },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection.
pub(super) struct LimitedConnection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    /// After the stream: its descriptor is what the reserve may be missing.
    _refill: Refill,
    _permit: OwnedSemaphorePermit,
}

impl LimitedConnection {
    /// The stream, as long as the connection lasts.
    fn stream(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(Pin::new(&mut self.stream))
    }
}

impl AsyncRead for LimitedConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(context)?.poll_read(context, buffer)
    }
}

impl AsyncWrite for LimitedConnection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream(context)?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(context)?.poll_shutdown(context)
    }
}
