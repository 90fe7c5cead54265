use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Process, free_port, operation};

/// `cancel-worker simulate`, as a process.
pub struct SimulatedApi {
    /// Where it listens.
    address: String,
    url: String,
    process: Process,
}

impl SimulatedApi {
    pub async fn start() -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let process = Self::serving(&address).await;
        Self { url: format!("http://{address}"), address, process }
    }

    async fn serving(address: &str) -> Process {
        let process = Process::worker(&["simulate", "--listen", address], &[]);
        process.line_with("http://", Duration::from_secs(60)).await;
        process
    }

    /// From now on connections are refused. All operations are forgotten.
    pub async fn stop(&mut self) {
        self.process.kill9().await;
    }

    /// After [`stop`](Self::stop), at the same address.
    pub async fn start_again(&mut self) {
        self.process = Self::serving(&self.address).await;
    }

    /// Such as `http://127.0.0.1:8085`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The calls for the operation with this id, as `GET /control/calls` tells them.
    pub async fn calls(&self, id: &str) -> Value {
        self.control("GET", &format!("calls?id={}", operation(id)), "").await
    }

    /// The totals.
    pub async fn stats(&self) -> Value {
        self.control("GET", "stats", "").await
    }

    /// Calls must carry this bearer token from now on.
    pub async fn set_token(&self, token: &str) {
        self.control("PUT", "token", &serde_json::json!({ "token": token }).to_string()).await;
    }

    /// What every call meets from now on, as `PUT /control/weather` takes it: `{"status":503}`, `{"hang":true}`, `{}`.
    pub async fn set_weather(&self, forecast: &Value) {
        self.control("PUT", "weather", &forecast.to_string()).await;
    }

    async fn control(&self, method: &str, path: &str, body: &str) -> Value {
        let address = &self.address;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let call = format!(
            "{method} /control/{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(call.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{method} {path}: {answer}");
        serde_json::from_str(body).unwrap()
    }
}
