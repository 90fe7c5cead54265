use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a worker may take to answer, from connecting to the last byte.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest answer that is read, in bytes: the metrics take some 40 KB.
const MAX_ANSWER: u64 = 1024 * 1024;

/// Why a worker's admin listener gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminClientError {
    #[error("no worker answers at {address} ({source}): is it running, and is its admin.listen this address?")]
    Unreachable { address: SocketAddr, source: std::io::Error },
    #[error("{address} did not answer within {}: the worker, or whatever listens there, hangs", humantime::format_duration(*.limit))]
    TimedOut { address: SocketAddr, limit: Duration },
    #[error("{0} does not answer as a worker's admin listener does: is it another program?")]
    NotHttp(SocketAddr),
}

/// What a worker answers to `GET path`: the status and the body.
pub(super) async fn get(listen: SocketAddr, path: &str) -> Result<(u16, String), AdminClientError> {
    let address = reachable(listen);
    let unreachable = |source| AdminClientError::Unreachable { address, source };
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        Ok(answer)
    };
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => parsed(&answer.map_err(unreachable)?).ok_or(AdminClientError::NotHttp(address)),
        Err(_) => Err(AdminClientError::TimedOut { address, limit: ANSWER_TIMEOUT }),
    }
}

/// A worker that listens on all addresses is on this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Status and body of an HTTP/1.1 answer that ends with its connection and is not chunked, as the admin listener's are.
fn parsed(answer: &[u8]) -> Option<(u16, String)> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parsed(answer), Some((503, "{}".to_owned())));
        assert_eq!(parsed(b"SSH-2.0-OpenSSH\r\n"), None);
        assert_eq!(reachable("0.0.0.0:9".parse().expect("an address")).to_string(), "127.0.0.1:9");
        assert_eq!(reachable("[::]:9".parse().expect("an address")).to_string(), "[::1]:9");
    }
}
