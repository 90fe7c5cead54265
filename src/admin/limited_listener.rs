use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use super::descriptor_reserve::{DescriptorReserve, RefillOnDrop};

/// Connections at once. Further ones wait in the system's queue.
const MAX_CONNECTIONS: usize = 64;

/// A connection lasts no longer, whatever it is used for.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(2);

/// Between an accept that failed and the next.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Accepts few connections at once, and none for long: a client can take neither the worker's memory nor its file
/// descriptors.
pub(super) struct LimitedListener {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    reserve: Arc<DescriptorReserve>,
}

impl LimitedListener {
    pub(super) fn new(listener: TcpListener) -> Self {
        let reserve = Arc::new(DescriptorReserve::default());
        reserve.fill();
        Self { listener, permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)), reserve }
    }

    /// The next connection, on a descriptor of the reserve if there is no other.
    async fn next_connection(&self) -> (TcpStream, SocketAddr) {
        loop {
            match poll_fn(|context| self.poll_connection(context)).await {
                Ok(connection) => return connection,
                Err(_) => sleep(ACCEPT_RETRY_DELAY).await,
            }
        }
    }

    /// Without a free descriptor the system refuses to accept even if no connection waits. So a reserved one is released for
    /// the accept, and reserved again at once if no connection waits: nothing else of the process gets it in between.
    fn poll_connection(&self, context: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        loop {
            match self.listener.poll_accept(context) {
                Poll::Ready(Err(error)) if is_of_the_peer(&error) || self.reserve.release_one() => {}
                Poll::Ready(Ok(connection)) => return Poll::Ready(Ok(connection)),
                pending_or_failed => {
                    self.reserve.fill();
                    return pending_or_failed;
                }
            }
        }
    }
}

/// Whether the connection ended before it was accepted.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

impl Listener for LimitedListener {
    type Io = LimitedConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LimitedConnection, SocketAddr) {
        let permit = loop {
            // The semaphore is never closed.
            if let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await {
                break permit;
            }
        };
        let (stream, address) = self.next_connection().await;
        let refill = RefillOnDrop(Arc::clone(&self.reserve));
        (
            LimitedConnection {
                stream,
                timeout: Box::pin(sleep(CONNECTION_TIMEOUT)),
                _refill: refill,
                _permit: permit,
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends after [`CONNECTION_TIMEOUT`].
pub(super) struct LimitedConnection {
    stream: TcpStream,
    timeout: Pin<Box<Sleep>>,
    /// Below the stream, so that it is dropped after it: the reserve may lack just its descriptor.
    _refill: RefillOnDrop,
    _permit: OwnedSemaphorePermit,
}

impl LimitedConnection {
    /// The stream, until the connection has lasted too long.
    fn stream(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        if self.timeout.as_mut().poll(context).is_ready() {
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
