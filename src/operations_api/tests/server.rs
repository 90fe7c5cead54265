use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// What the server does once it has a request's head.
#[derive(Clone)]
pub enum Act {
    /// Writes these bytes and reads the next request.
    Answer(String),
    /// Writes these bytes and closes the connection.
    Close(String),
    /// Writes these bytes, then the others again and again, each after a pause.
    Drip { head: String, drop: String, pause: Duration },
    /// Writes nothing, and keeps the connection open.
    Silence,
}

/// A 200 with a body.
pub fn ok(body: &str) -> Act {
    answer("200 OK", "", body)
}

/// An answer; `headers` end with a line break each.
pub fn answer(status: &str, headers: &str, body: &str) -> Act {
    Act::Answer(format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()))
}

/// An HTTP/1.1 server of scripted bytes. Stops when it is dropped.
pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: AbortHandle,
}

#[derive(Clone)]
struct Script {
    greeting: &'static str,
    act: Arc<dyn Fn(usize) -> Act + Send + Sync>,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    /// Everything that was read, in order of arrival, each request's head with whatever followed it.
    requests: Vec<String>,
    written: usize,
}

impl Server {
    /// Starts a server that meets the n-th request with `script(n)`.
    pub async fn start(script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        Self::start_with("", script).await
    }

    /// Starts a server that writes `greeting` to each new connection before it reads anything.
    pub async fn start_with(greeting: &'static str, script: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let script = Script { greeting, act: Arc::new(script) };
        let task = tokio::spawn(accept(listener, Arc::clone(&seen), script)).abort_handle();
        Self { address, seen, task }
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().expect("no panic").connections
    }

    /// The bytes of each request, head and whatever came before the next one's head.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").requests.clone()
    }

    /// How many bytes it has written.
    pub fn written(&self) -> usize {
        self.seen.lock().expect("no panic").written
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, seen: Arc<Mutex<Seen>>, script: Script) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        seen.lock().expect("no panic").connections += 1;
        connections.spawn(serve(stream, Arc::clone(&seen), script.clone()));
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>, script: Script) {
    if !write(&mut stream, &seen, script.greeting).await {
        return;
    }
    loop {
        let mut bytes = Vec::new();
        while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let number = {
            let mut seen = seen.lock().expect("no panic");
            seen.requests.push(String::from_utf8(bytes).expect("ASCII"));
            seen.requests.len() - 1
        };
        let (head, repeated) = match (script.act)(number) {
            Act::Answer(text) => {
                if !write(&mut stream, &seen, &text).await {
                    return;
                }
                continue;
            }
            Act::Close(text) => {
                write(&mut stream, &seen, &text).await;
                return;
            }
            Act::Drip { head, drop, pause } => (head, Some((drop, pause))),
            Act::Silence => (String::new(), None),
        };
        let mut open = write(&mut stream, &seen, &head).await;
        while open {
            match &repeated {
                Some((drop, pause)) => {
                    open = write(&mut stream, &seen, drop).await;
                    tokio::time::sleep(*pause).await;
                }
                // Until the client goes away.
                None => open = stream.read_buf(&mut Vec::new()).await.unwrap_or(0) > 0,
            }
        }
        return;
    }
}

async fn write(stream: &mut TcpStream, seen: &Mutex<Seen>, text: &str) -> bool {
    let written = stream.write_all(text.as_bytes()).await.is_ok();
    seen.lock().expect("no panic").written += text.len();
    written
}
