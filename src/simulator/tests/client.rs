use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::simulator::{Simulator, SimulatorError, SimulatorOptions};

/// A simulator that serves on a free port, and one connection to it.
pub(super) struct Session {
    pub(super) address: SocketAddr,
    wire: Wire,
    shutdown: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), SimulatorError>>,
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

pub(super) const PARENT: &str = "/v2beta1/projects/p/locations/us-central1";

impl Session {
    pub(super) async fn start() -> Self {
        Self::with(SimulatorOptions::default()).await
    }

    pub(super) async fn with(options: SimulatorOptions) -> Self {
        let simulator = Simulator::bind(options).await.expect("a free port");
        let address = simulator.address();
        let (shutdown, asked) = oneshot::channel();
        let served = tokio::spawn(simulator.serve(async move {
            asked.await.expect("the session asks");
        }));
        let wire = Wire(TcpStream::connect(address).await.expect("the simulator listens"));
        Self { address, wire, shutdown: Some(shutdown), served }
    }

    /// Asks the simulator to end, and waits for it.
    pub(super) async fn end(mut self) {
        self.shutdown.take().expect("asked once").send(()).expect("it serves");
        self.served.await.expect("no panic").expect("no error");
    }

    pub(super) async fn cancel(&mut self, id: &str) -> Answer {
        self.call("POST", &format!("{PARENT}/operations/{id}:cancel"), "").await
    }

    pub(super) async fn get(&mut self, id: &str) -> Answer {
        self.send(&format!("GET {PARENT}/operations/{id} HTTP/1.1\r\nHost: x\r\n\r\n")).await
    }

    /// A request to the control endpoint that must succeed.
    pub(super) async fn control(&mut self, method: &str, path: &str, body: &str) -> Value {
        let answer = self.call(method, &format!("/control/{path}"), body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// The calls that an operation got.
    pub(super) async fn calls(&mut self, id: &str) -> Value {
        self.control("GET", &format!("calls?id={id}"), "").await
    }

    /// A request with `Content-Length`.
    pub(super) async fn call(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}")).await
    }

    /// A request as it stands.
    pub(super) async fn send(&mut self, request: &str) -> Answer {
        self.wire.write(request).await;
        read_answer(&mut self.wire.0).await.expect("an answer")
    }

    /// Another connection to the same simulator.
    pub(super) async fn another(&self) -> Wire {
        Wire(TcpStream::connect(self.address).await.expect("the simulator listens"))
    }

    /// Calls on a connection of its own, which is closed instead of an answer.
    pub(super) async fn assert_cut(&self, request: &str) {
        let mut wire = self.another().await;
        wire.write(request).await;
        let answer = tokio::time::timeout(Duration::from_secs(5), read_answer(&mut wire.0)).await.expect("closed");
        assert!(answer.is_none(), "{answer:?}");
    }
}

/// One connection.
pub(super) struct Wire(TcpStream);

impl Wire {
    pub(super) async fn write(&mut self, request: &str) {
        self.0.write_all(request.as_bytes()).await.expect("the connection is open");
    }

    /// Whether neither a byte nor the end comes for so long.
    pub(super) async fn stays_silent(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.0.read_u8()).await.is_err()
    }
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `(HTTP status, error.code, error.status)` of Google's envelope.
    pub(super) fn envelope(&self) -> (u16, u64, String) {
        assert_eq!(self.header("content-type"), Some("application/json; charset=UTF-8"));
        let error = &self.json()["error"];
        let code = error["code"].as_u64().expect("a code");
        (self.status, code, error["status"].as_str().expect("a status").to_owned())
    }

    pub(super) fn is_page(&self) -> bool {
        self.header("content-type") == Some("text/html; charset=UTF-8") && self.body.starts_with("<!DOCTYPE html>")
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
    }
}

/// `None`: the connection was closed before the first byte.
async fn read_answer(connection: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if connection.read_buf(&mut bytes).await.expect("readable") == 0 {
            assert!(bytes.is_empty(), "closed within the head");
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).expect("text");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let mut answer = Answer { status, head, body: String::new() };
    let length: usize = answer.header("content-length").expect("a length").parse().expect("a number");
    while bytes.len() < head_end + length {
        assert_ne!(connection.read_buf(&mut bytes).await.expect("readable"), 0, "closed within the body");
    }
    assert_eq!(bytes.len(), head_end + length, "more than one answer");
    answer.body = String::from_utf8(bytes[head_end..].to_vec()).expect("text");
    Some(answer)
}
