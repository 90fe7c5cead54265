//! HTTP/2 and HTTP/1.1 with the real client: what a cancel carries, how connections are used again, and that one which
//! the server has dropped costs no call.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Response, Version};
use cancel_worker::cancellation::Reply;
use cancel_worker::message::OperationName;
use cancel_worker::operations_api::{Client, Operations};
use cancel_worker::settings;
use fastrand::Rng;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::support::{Act, Certificates, RawServer};
use crate::test_env::{Ended, operation, run_command};

const OPERATIONS: usize = 100;

const CANCELLED: &str = r#"{"done":true,"error":{"code":1}}"#;

#[tokio::test]
async fn over_http_2_a_cancel_has_the_length_zero_and_all_calls_share_one_connection() {
    let server = Server::start(&[b"h2", b"http/1.1"], Manner::Lasting).await;
    server.cancel_all(1).await;
    let (connections, calls) = server.seen();
    assert_eq!((connections, calls.len()), (1, 2 * OPERATIONS));
    for call in &calls {
        assert_eq!((call.version, call.ended), (Version::HTTP_2, true), "{call:?}");
        let length = call.headers.get("content-length").map(|length| length.to_str().unwrap());
        assert_eq!(length, call.is_cancel().then_some("0"), "{call:?}");
    }
}

#[tokio::test]
async fn over_http_1_1_with_tls_all_calls_share_one_connection() {
    let server = Server::start(&[b"http/1.1"], Manner::Lasting).await;
    server.cancel_all(1).await;
    let (connections, calls) = server.seen();
    assert_eq!((connections, calls.len()), (1, 2 * OPERATIONS));
    for call in &calls {
        let length = call.headers.get("content-length").map(|length| length.to_str().unwrap());
        assert_eq!((call.version, length), (Version::HTTP_11, call.is_cancel().then_some("0")), "{call:?}");
    }
}

#[tokio::test]
async fn calls_at_the_same_time_share_few_connections() {
    for protocol in [&b"h2"[..], b"http/1.1"] {
        let server = Server::start(&[protocol], Manner::Lasting).await;
        server.cancel_all(16).await;
        let (connections, calls) = server.seen();
        assert_eq!(calls.len(), 2 * OPERATIONS);
        // One for each at most, and now and then one that was begun and then not needed.
        assert!(connections <= 32, "{connections} connections");
    }
}

#[tokio::test]
async fn an_http_2_connection_that_the_server_ends_costs_no_call() {
    for manner in [Manner::Leaving, Manner::Dropping] {
        let server = Server::start(&[b"h2"], manner).await;
        server.cancel_all(4).await;
        let (connections, _) = server.seen();
        assert!(connections >= 2 * OPERATIONS / EACH, "{connections} connections");
    }
}

/// Many calls share the connection: each of them made again several times would be a storm.
#[tokio::test]
async fn a_call_is_made_again_at_most_once_when_the_http_2_connection_that_it_shares_breaks() {
    let server = Server::start(&[b"h2"], Manner::Breaking).await;
    let authority = server.certificates.authority().to_str().unwrap().to_owned();
    let overrides = [("api.endpoint", server.url.clone()), ("api.ca_file", authority)];
    let client = Client::new(&settings::load(&[], &overrides).unwrap().settings.api).unwrap();
    let name = |number: usize| OperationName::parse(operation(&format!("o{number}"))).unwrap();
    assert!(matches!(client.cancel(&name(0)).await, Reply::Accepted));
    // Not all at once: so many find a connection that others have just made.
    let calls = (1..=OPERATIONS).map(async |number| {
        sleep(Duration::from_millis(7) * u32::try_from(number).unwrap()).await;
        client.get(&name(number)).await
    });
    for reply in futures_util::future::join_all(calls).await {
        assert!(matches!(reply, Reply::Failure(_)), "{reply:?}");
    }
    let (_, calls) = server.seen();
    let mut times = std::collections::BTreeMap::<&str, usize>::new();
    for call in &calls[1..] {
        *times.entry(&call.path).or_default() += 1;
    }
    assert_eq!(times.len(), OPERATIONS, "each was tried");
    assert_eq!(times.values().max(), Some(&2), "{times:?}");
}

/// Ended at once, a moment later, or after the next call may have begun: nobody can tell what the client knows by then.
#[tokio::test]
async fn an_http_1_1_connection_that_the_server_has_closed_costs_no_call() {
    for longest in [0, 500, 3000, 20_000] {
        let dice = Mutex::new(Rng::with_seed(longest));
        let server = RawServer::start(move |request| {
            let body = if request.method == "POST" { "{}" } else { CANCELLED };
            let Act::Answer(answer) = Act::json("200 OK", body) else { panic!("an answer") };
            Act::Close(answer, Duration::from_micros(dice.lock().unwrap().u64(..=longest)))
        })
        .await;
        let client =
            Client::new(&settings::load(&[], &[("api.endpoint", server.url())]).unwrap().settings.api).unwrap();
        let mut dice = Rng::with_seed(!longest);
        for number in 0..5 * OPERATIONS {
            let name = OperationName::parse(operation(&number.to_string())).unwrap();
            let reply = if dice.bool() { client.cancel(&name).await } else { client.get(&name).await };
            assert!(!matches!(reply, Reply::Failure(_)), "call {number}, closed within {longest} µs: {reply:?}");
            sleep(Duration::from_micros(dice.u64(..=longest))).await;
        }
        assert!(server.connections() > OPERATIONS, "{} connections", server.connections());
    }
}

/// How a server treats its connections.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Keeps them open.
    Lasting,
    /// Says goodbye after some calls, and answers what is under way.
    Leaving,
    /// Closes them without a word after some calls.
    Dropping,
    /// Answers the first call of all, and closes each connection as soon as calls have come.
    Breaking,
}

/// Calls on a connection that is not to last.
const EACH: usize = 10;

/// A TLS server of both versions, whose operations are cancelled at once.
struct Server {
    url: String,
    certificates: Certificates,
    seen: Arc<Mutex<Seen>>,
    task: AbortHandle,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    calls: Vec<Call>,
}

#[derive(Clone, Debug)]
struct Call {
    version: Version,
    method: String,
    path: String,
    headers: HeaderMap,
    /// There is no body.
    ended: bool,
}

impl Call {
    fn is_cancel(&self) -> bool {
        self.method == "POST"
    }
}

impl Server {
    /// Offers these protocols.
    async fn start(protocols: &[&[u8]], manner: Manner) -> Self {
        let certificates = Certificates::new();
        let signed = certificates.sign("server", "DNS:localhost,IP:127.0.0.1");
        let certificate = CertificateDer::from_pem_file(&signed.certificate).unwrap();
        let key = PrivateKeyDer::from_pem_file(&signed.key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&seen), manner)).abort_handle();
        Self { url, certificates, seen, task }
    }

    fn seen(&self) -> (usize, Vec<Call>) {
        let seen = self.seen.lock().unwrap();
        (seen.connections, seen.calls.clone())
    }

    /// Cancels operations with the command, so many at once. Each must be cancelled with one call of each kind.
    async fn cancel_all(&self, at_once: usize) {
        let names: String = (0..OPERATIONS).map(|number| operation(&format!("o{number}\n"))).collect();
        let authority = self.certificates.authority();
        let arguments = ["cancel", "--from-file", "-", "--endpoint", &self.url, "--concurrency", &at_once.to_string()];
        let environment = [("SSL_CERT_FILE", authority.to_str().unwrap()), ("SSL_CERT_DIR", "")];
        let Ended { code, stdout, stderr } = run_command(&arguments, &environment, &names).await;
        assert_eq!((code, stdout.lines().count()), (0, OPERATIONS), "{stdout}{stderr}");
        for line in stdout.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(event["attempts"], serde_json::json!({ "cancel": 1, "get": 1 }), "{line}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, seen: Arc<Mutex<Seen>>, manner: Manner) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        seen.lock().unwrap().connections += 1;
        let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
        connections.spawn(async move {
            // A connection that the client no longer needs may end within its handshake.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => serve_http_2(stream, &seen, manner).await,
                _ => serve_http_1(stream, &seen).await,
            }
        });
    }
}

fn answer_to(method: &str) -> &'static str {
    if method == "POST" { "{}" } else { CANCELLED }
}

async fn serve_http_2(stream: TlsStream<TcpStream>, seen: &Mutex<Seen>, manner: Manner) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut served = 0;
    let mut unanswered = Vec::new();
    loop {
        // What comes together is one call after the other.
        let limit = if unanswered.is_empty() { Duration::MAX } else { Duration::from_millis(50) };
        let Ok(Some(Ok((request, mut respond)))) = timeout(limit, connection.accept()).await else { return };
        let method = request.method().to_string();
        let ended = request.body().is_end_stream();
        let (version, headers) = (request.version(), request.headers().clone());
        let path = request.uri().path().to_owned();
        let is_first = {
            let calls = &mut seen.lock().unwrap().calls;
            calls.push(Call { version, method: method.clone(), path, headers, ended });
            calls.len() == 1
        };
        if matches!(manner, Manner::Breaking) && !is_first {
            unanswered.push(respond);
            continue;
        }
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(answer_to(&method).as_bytes()), true).unwrap();
        served += 1;
        match manner {
            Manner::Leaving if served == EACH => connection.graceful_shutdown(),
            // The calls that had come by now have their answers, and those that come now have none.
            Manner::Dropping if served >= EACH => {
                let flushed = std::future::poll_fn(|context| connection.poll_closed(context));
                let _ = timeout(Duration::from_millis(2), flushed).await;
                return;
            }
            _ => {}
        }
    }
}

async fn serve_http_1(mut stream: TlsStream<TcpStream>, seen: &Mutex<Seen>) {
    let mut head = Vec::new();
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
        let (line, headers) = text.trim_end().split_once("\r\n").unwrap();
        let (method, target) = line.split_once(' ').unwrap();
        let (method, path) = (method.to_owned(), target.split(' ').next().unwrap().to_owned());
        let headers = headers.lines().map(|header| header.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        assert!(line.ends_with(" HTTP/1.1"), "{line}");
        let answer = answer_to(&method);
        seen.lock().unwrap().calls.push(Call { version: Version::HTTP_11, method, path, headers, ended: true });
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
