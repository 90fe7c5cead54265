use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

/// Longest head of a request that is read.
const LONGEST_HEAD: usize = 64 << 10;

/// One request as it stood on the wire.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// The path as it was sent, nothing decoded.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header that is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} stands twice in {self:?}");
        value
    }

    fn read(head: &[u8]) -> Self {
        let head = std::str::from_utf8(head).unwrap_or_else(|_| panic!("not UTF-8: {head:?}"));
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let line: Vec<&str> = lines.next().unwrap().split(' ').collect();
        let [method, target, "HTTP/1.1"] = line[..] else { panic!("no request line: {line:?}") };
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
            (name.to_lowercase(), value.trim().to_owned())
        };
        Self { method: method.into(), target: target.into(), headers: lines.map(header).collect() }
    }
}

/// What the server does with a request.
#[derive(Clone)]
pub enum Act {
    /// Writes this, and reads the next request.
    Answer(Vec<u8>),
    /// Writes this, and closes the connection after a pause.
    Close(Vec<u8>, Duration),
    /// Writes the first, then the other again and again, each after a pause, until the client goes away.
    Repeat(Vec<u8>, Vec<u8>, Duration),
}

impl Act {
    /// An answer with this status and body.
    pub fn json(status: &str, body: &str) -> Self {
        Self::Answer(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }
}

/// An HTTP/1.1 server of scripted bytes that notes every request. Ends with its value.
pub struct RawServer {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: AbortHandle,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<Request>,
    /// Of connections that the client ended during `Act::Repeat`: how long after the request.
    held: Vec<Duration>,
}

type Script = Arc<dyn Fn(&Request) -> Act + Send + Sync>;

impl RawServer {
    pub async fn start(script: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(accept(listener, Arc::clone(&seen), Arc::new(script))).abort_handle();
        Self { address, seen, task }
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().requests.clone()
    }

    /// How long clients endured each answer that does not end.
    pub fn held(&self) -> Vec<Duration> {
        self.seen.lock().unwrap().held.clone()
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, seen: Arc<Mutex<Seen>>, script: Script) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        seen.lock().unwrap().connections += 1;
        connections.spawn(serve(stream, Arc::clone(&seen), Arc::clone(&script)));
        // What a connection found wrong is the test's failure, not the connection's.
        while let Some(ended) = connections.try_join_next() {
            ended.unwrap();
        }
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>, script: Script) {
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(bytes.len() < LONGEST_HEAD, "a head without an end");
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let request = Request::read(&bytes[..end]);
        bytes.drain(..end);
        let act = script(&request);
        seen.lock().unwrap().requests.push(request);
        match act {
            Act::Answer(answer) => {
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
            Act::Close(answer, pause) => {
                let _ = stream.write_all(&answer).await;
                sleep(pause).await;
                return;
            }
            Act::Repeat(head, drop, pause) => {
                let began = Instant::now();
                repeat(stream, &head, &drop, pause).await;
                seen.lock().unwrap().held.push(began.elapsed());
                return;
            }
        }
    }
}

/// Until the client closes the connection, or can no longer be written to.
async fn repeat(mut stream: TcpStream, head: &[u8], drop: &[u8], pause: Duration) {
    let (mut reading, mut writing) = stream.split();
    let write = async {
        if writing.write_all(head).await.is_err() {
            return;
        }
        while writing.write_all(drop).await.is_ok() {
            sleep(pause).await;
        }
    };
    let read = async {
        let mut bytes = [0; 1024];
        while reading.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
}

/// The status and the body that `GET url` is answered with.
pub async fn get(url: &str) -> (u16, String) {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// What a GET is answered with.
pub async fn get_json(url: &str) -> Value {
    let (status, body) = get(url).await;
    assert_eq!(status, 200, "{url}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{url}: {error}: {body}"))
}
