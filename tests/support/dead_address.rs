use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// How many connections may wait to be accepted.
const QUEUE: u32 = 8;

/// An address behind which nobody is: nothing is refused, and nothing answered.
pub struct DeadAddress {
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl DeadAddress {
    pub async fn on(address: SocketAddr) -> Self {
        let _listener = listen(address);
        Self { _queue: fill_queue(address).await, _listener }
    }
}

/// Listens with a queue that is soon full.
pub fn listen(address: SocketAddr) -> TcpListener {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(QUEUE).unwrap()
}

/// Fills the queue of a listener that accepts nothing: from then on the system drops what would connect, as a network does
/// that leads nowhere, until a connection has been accepted.
pub async fn fill_queue(address: SocketAddr) -> Vec<TcpStream> {
    let mut queue = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queue.push(stream.unwrap());
    }
    queue
}
