use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::dead_address::{fill_queue, listen};

/// The network between a client and a broker, which can fail. Connections are numbered from 0.
pub struct AmqpProxy {
    address: SocketAddr,
    broker: String,
    /// `user:password`, and the vhost.
    login: (String, String),
    state: watch::Sender<State>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Default)]
struct State {
    /// Of the next connection.
    next: u64,
    /// Nothing passes, and nobody is told.
    silent: bool,
    /// Nor does any new connection come to be.
    swallowing: bool,
    /// Older connections carry nothing any more, and nobody is told.
    forgotten: u64,
    /// The broker's confirms do not pass on older connections.
    unconfirmed: u64,
}

impl AmqpProxy {
    /// To the broker with this URI, `amqp://user:password@host:port/vhost`.
    pub async fn start(uri: &str) -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap(), uri).await
    }

    /// The same, at this address.
    pub async fn start_on(address: SocketAddr, uri: &str) -> Self {
        let (login, rest) = uri.strip_prefix("amqp://").unwrap().rsplit_once('@').unwrap();
        let (broker, vhost) = rest.split_once('/').unwrap();
        let listener = listen(address);
        let (address, state) = (listener.local_addr().unwrap(), watch::Sender::new(State::default()));
        let login = (login.to_owned(), vhost.to_owned());
        let mut proxy = Self { address, broker: broker.to_owned(), login, state, accepting: None };
        proxy.accept(listener);
        proxy
    }

    /// The broker's URI by way of this proxy.
    pub fn uri(&self) -> String {
        format!("amqp://{}@{}/{}", self.login.0, self.address, self.login.1)
    }

    /// How many connections were made.
    pub fn connections(&self) -> u64 {
        self.state.borrow().next
    }

    /// Resets every connection, and refuses new ones.
    pub async fn cut(&mut self) {
        let accepting = self.accepting.take().unwrap();
        accepting.abort();
        assert!(accepting.await.unwrap_err().is_cancelled());
    }

    /// Takes connections again after [`cut`](Self::cut).
    pub async fn restore(&mut self) {
        self.accept(listen(self.address));
    }

    /// Nothing passes any more, in either direction, and no connection ends. New ones do not come to be.
    pub async fn silence(&self) {
        self.state.send_modify(|state| state.silent = true);
        self.state.subscribe().wait_for(|state| state.swallowing).await.unwrap();
    }

    /// After [`silence`](Self::silence): goes on where it stopped, as TCP's retransmissions would.
    pub fn resume(&self) {
        self.state.send_modify(|state| (state.silent, state.swallowing) = (false, false));
    }

    /// After [`silence`](Self::silence): new connections pass. Those that there are stay silent for ever, as behind a
    /// firewall that has forgotten them.
    pub fn forget(&self) {
        self.state.send_modify(|state| {
            (state.silent, state.swallowing) = (false, false);
            state.forgotten = state.next;
        });
    }

    /// On the connections that there are, everything passes but the broker's confirms.
    pub fn drop_confirms(&self) {
        self.state.send_modify(|state| state.unconfirmed = state.next);
    }

    fn accept(&mut self, listener: TcpListener) {
        let (broker, state) = (self.broker.clone(), self.state.clone());
        self.accepting = Some(tokio::spawn(async move {
            let mut silence = state.subscribe();
            // They end with this task.
            let mut connections = JoinSet::new();
            loop {
                let accepted = tokio::select! {
                    biased;
                    _ = silence.wait_for(|state| state.silent) => None,
                    accepted = listener.accept() => Some(accepted.unwrap()),
                };
                let Some((client, _)) = accepted else {
                    swallow(&listener, &state, &mut silence).await;
                    continue;
                };
                let mut number = 0;
                state.send_modify(|state| {
                    number = state.next;
                    state.next += 1;
                });
                connections.spawn(carry(client, broker.clone(), Line { number, state: state.subscribe() }));
            }
        }));
    }
}

/// While there is silence nobody connects: the queue is full.
async fn swallow(listener: &TcpListener, state: &watch::Sender<State>, silence: &mut watch::Receiver<State>) {
    let queue = fill_queue(listener.local_addr().unwrap()).await;
    state.send_modify(|state| state.swallowing = true);
    silence.wait_for(|state| !state.silent).await.unwrap();
    for _ in &queue {
        listener.accept().await.unwrap();
    }
}

impl Drop for AmqpProxy {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

async fn carry(client: TcpStream, broker: String, line: Line) {
    // The connections of a broker that is down are refused by ending them.
    let Ok(server) = TcpStream::connect(broker).await else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
        // Ended without ceremony: a reset, as from a host that knows nothing of the connection.
        stream.set_zero_linger().unwrap();
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = bytes(from_client, to_server, line.clone()) => {}
        _ = frames(from_server, to_client, line) => {}
    }
}

/// One connection's view of the network.
#[derive(Clone)]
struct Line {
    number: u64,
    state: watch::Receiver<State>,
}

impl Line {
    /// Waits until something may pass, for ever if need be.
    async fn passes(&mut self) {
        let number = self.number;
        let _ = self.state.wait_for(|state| !state.silent && number >= state.forgotten).await;
    }

    fn confirms(&self) -> bool {
        self.number >= self.state.borrow().unconfirmed
    }
}

async fn bytes(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: Line) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        line.passes().await;
        to.write_all(&buffer[..length]).await?;
    }
}

/// Whole AMQP frames: type, channel, size, payload, end.
async fn frames(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: Line) -> std::io::Result<()> {
    const HEAD: usize = 7;
    // A method frame, and the class and the number of `basic.ack`.
    const METHOD: u8 = 1;
    const BASIC_ACK: [u8; 4] = [0, 60, 0, 80];
    let mut frame = vec![0; HEAD];
    loop {
        frame.truncate(HEAD);
        from.read_exact(&mut frame).await?;
        let size = u32::from_be_bytes(frame[3..HEAD].try_into().unwrap());
        frame.resize(HEAD + usize::try_from(size).unwrap() + 1, 0);
        from.read_exact(&mut frame[HEAD..]).await?;
        line.passes().await;
        let confirm = frame[0] == METHOD && frame[HEAD..].starts_with(&BASIC_ACK);
        if !confirm || line.confirms() {
            to.write_all(&frame).await?;
        }
    }
}
