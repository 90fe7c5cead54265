use std::time::Duration;

use super::server::{Act, Server, answer, ok};
use super::*;
use crate::cancellation::FailureKind;
use crate::operations_api::{ClientError, Operations as _};

#[tokio::test]
async fn a_cancel_carries_the_length_zero_and_no_byte_of_body() {
    let server = Server::start(|_| ok("{}")).await;
    let client = client(&server);
    for _ in 0..2 {
        assert!(matches!(client.cancel(&name()).await, Reply::Accepted));
    }
    // Whatever followed the first head would stand before the second on the same connection.
    assert_eq!(server.connections(), 1);
    for request in server.requests() {
        let (head, body) = request.split_once("\r\n\r\n").expect("a head");
        let mut lines = head.lines();
        let line = "POST /v2beta1/projects/p/locations/us-central1/operations/o:cancel HTTP/1.1";
        assert_eq!(lines.next(), Some(line));
        let headers: Vec<String> = lines.map(str::to_lowercase).collect();
        assert_eq!(headers.iter().filter(|header| *header == "content-length: 0").count(), 1, "{headers:?}");
        assert!(!headers.iter().any(|header| header.starts_with("transfer-encoding")), "{headers:?}");
        assert!(!headers.iter().any(|header| header.starts_with("authorization")), "{headers:?}");
        assert!(headers.contains(&concat!("user-agent: cancel-worker/", env!("CARGO_PKG_VERSION")).to_owned()));
        assert_eq!(body, "");
    }
}

#[tokio::test]
async fn where_the_service_wants_a_body_a_cancel_carries_an_empty_object_and_a_get_nothing() {
    let server = Server::start(|_| Act::Close("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".into())).await;
    let mut settings = settings(&server);
    settings.cancel_body = CancelBody::EmptyObject;
    let client = Client::new(&settings).expect("a client");
    assert!(matches!(client.cancel(&name()).await, Reply::Accepted));
    assert!(matches!(client.get(&name()).await, Reply::Operation(_)));
    let requests = server.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").expect("a head");
    let headers: Vec<String> = head.lines().skip(1).map(str::to_lowercase).collect();
    for header in ["content-length: 2", "content-type: application/json"] {
        assert!(headers.iter().any(|found| found == header), "{headers:?}");
    }
    assert_eq!(body, "{}");
    assert!(!requests[1].to_lowercase().contains("content-"), "{}", requests[1]);
}

#[tokio::test]
async fn a_get_reads_the_operation_and_keeps_it_whole() {
    let body = r#"{"name":"projects/p/locations/us-central1/operations/o","metadata":{"@type":"x"},"done":true,"error":{"code":1}}"#;
    let server = Server::start(move |_| ok(body)).await;
    let Reply::Operation(operation) = client(&server).get(&name()).await else { panic!("an operation") };
    assert!(operation.done);
    assert_eq!(operation.error.expect("an error").code, 1);
    assert_eq!(operation.resource.get(), body);
    let request = server.requests().concat();
    assert!(
        request.starts_with("GET /v2beta1/projects/p/locations/us-central1/operations/o HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(!request.to_lowercase().contains("content-length"), "{request}");
    assert!(!request.to_lowercase().contains("accept-encoding"), "{request}");
}

#[tokio::test]
async fn a_hundred_calls_of_both_kinds_and_failures_share_one_connection() {
    let error = r#"{"error":{"code":400,"message":"m","status":"FAILED_PRECONDITION"}}"#;
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\n{\"done\"\r\n6\r\n:true}\r\n0\r\n\r\n";
    let server = Server::start(move |number| match number % 4 {
        0 => ok("{}"),
        1 => ok("{\"done\":false}"),
        2 => answer("400 Bad Request", "", error),
        _ => Act::Answer(chunked.into()),
    })
    .await;
    let client = client(&server);
    for _ in 0..25 {
        assert!(matches!(client.cancel(&name()).await, Reply::Accepted));
        assert!(matches!(client.get(&name()).await, Reply::Operation(operation) if !operation.done));
        assert_eq!(failure(client.cancel(&name()).await).kind, FailureKind::FailedPrecondition);
        assert!(matches!(client.get(&name()).await, Reply::Operation(operation) if operation.done));
    }
    assert_eq!((server.requests().len(), server.connections()), (100, 1));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_nobody_calls_where_it_points() {
    let elsewhere = Server::start(|_| ok("{}")).await;
    let headers = format!("location: {}/v2beta1/x\r\n", elsewhere.origin());
    let server = Server::start(move |number| match number {
        0 => answer("302 Found", &headers, ""),
        _ => answer("307 Temporary Redirect", &headers, ""),
    })
    .await;
    let client = client(&server);
    let found = failure(client.cancel(&name()).await);
    assert_eq!(found.kind, FailureKind::BadEndpoint);
    assert!(found.error.message.contains(&elsewhere.origin()), "{}", found.error.message);
    assert_eq!(failure(client.get(&name()).await).kind, FailureKind::BadEndpoint);
    assert_eq!((elsewhere.connections(), server.requests().len()), (0, 2));
}

#[tokio::test]
async fn a_location_without_an_endpoint_is_answered_without_a_call() {
    let client = Client::new(&api()).expect("a client");
    let name = OperationName::parse("projects/p/locations/evil.example.com#/operations/o").expect("a name");
    let failure = failure(client.cancel(&name).await);
    assert_eq!(failure.kind, FailureKind::NoEndpoint);
    let message = failure.error.message;
    assert!(message.contains("evil.example.com#") && message.contains("api.endpoints"), "{message}");
}

#[tokio::test]
async fn a_host_name_that_does_not_exist_is_told_from_a_host_that_cannot_be_reached() {
    let api = settings::Api { endpoint: Some("http://no-such-host.invalid".to_owned()), ..api() };
    let failure = failure(Client::new(&api).expect("a client").cancel(&name()).await);
    // Where there is no network, the resolver cannot tell.
    let message = failure.error.message;
    let unknown = !message.contains("Temporary failure in name resolution") && !message.contains("Try again");
    assert_eq!(failure.kind == FailureKind::UnknownHost, unknown, "{message}");
    assert!(message.ends_with("the host comes from api.endpoint"), "{message}");
}

#[tokio::test]
async fn a_name_that_the_settings_do_not_admit_is_answered_without_a_call() {
    let server = Server::start(|_| ok("{}")).await;
    let name = OperationName::parse("projects/p/locations/l/models/m/operations/o").expect("a safe name");
    for failure in [failure(client(&server).cancel(&name).await), failure(client(&server).get(&name).await)] {
        assert_eq!(failure.kind, FailureKind::NoEndpoint);
        assert!(failure.error.message.ends_with("projects/*/operations/* (api.names)"), "{}", failure.error.message);
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_refused_connection_says_which_host_and_what_the_system_said() {
    let server = Server::start(|_| Act::Silence).await;
    let mut settings = settings(&server);
    // A port of this test that nobody listens on: bound, and not accepting.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let origin = format!("http://{}", socket.local_addr().expect("bound"));
    settings.endpoint = Some(origin.clone());
    let failure = failure(Client::new(&settings).expect("a client").get(&name()).await);
    assert_eq!((failure.kind, failure.error.code, failure.retry_after), (FailureKind::Unavailable, None, None));
    let message = failure.error.message;
    assert!(message.starts_with(&format!("no connection to {origin}: ")), "{message}");
    assert!(message.contains("refused") && !message.contains("/v2beta1"), "{message}");
}

/// Client settings for TLS to a server that has none.
fn over_tls(server: &Server) -> settings::Api {
    let mut settings = settings(server);
    settings.endpoint = Some(server.origin().replace("http:", "https:"));
    settings
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_no_connection() {
    let server = Server::start_with("HTTP/1.1 400 Bad Request\r\n\r\n", |_| Act::Silence).await;
    let failure = failure(Client::new(&over_tls(&server)).expect("a client").get(&name()).await);
    assert_eq!(failure.kind, FailureKind::Unavailable);
    let message = failure.error.message;
    assert!(message.starts_with("no connection to https://127.0.0.1:") && message.contains("corrupt"), "{message}");
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up_after_the_connect_timeout() {
    let server = Server::start(|_| Act::Silence).await;
    let mut settings = over_tls(&server);
    settings.connect_timeout = HumanDuration(Duration::from_millis(200));
    let message = failure(Client::new(&settings).expect("a client").get(&name()).await).error.message;
    let host = settings.endpoint.expect("set");
    assert_eq!(message, format!("no connection to {host} within 200ms (api.connect_timeout)"));
}

#[tokio::test]
async fn a_connection_that_breaks_within_an_answer_is_no_answer_but_an_accepted_cancel_stays_accepted() {
    for head in ["HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found", "HTTP/1.1 501 Not Implemented"] {
        let text = format!("{head}\r\ncontent-length: 100\r\n\r\n{{\"done\":true");
        let server = Server::start(move |_| Act::Close(text.clone())).await;
        let client = client(&server);
        let broken = failure(client.get(&name()).await);
        assert_eq!(broken.kind, FailureKind::Unavailable, "{head}");
        assert!(broken.error.message.contains("before the answer had ended"), "{}", broken.error.message);
        let cancel = client.cancel(&name()).await;
        assert_eq!(matches!(cancel, Reply::Accepted), head.contains("200"), "{cancel:?}");
    }
    let server = Server::start(|_| Act::Close(String::new())).await;
    assert_eq!(failure(client(&server).cancel(&name()).await).kind, FailureKind::Unavailable);
}

#[tokio::test]
async fn what_is_no_http_is_no_answer() {
    let server = Server::start(|_| Act::Close("SSH-2.0-OpenSSH_9.2\r\n".into())).await;
    let failure = failure(client(&server).cancel(&name()).await);
    assert_eq!(failure.kind, FailureKind::Unavailable);
    assert!(failure.error.message.contains(&server.origin()), "{}", failure.error.message);
}

#[test]
fn settings_without_a_client_say_what_is_missing() {
    let mut settings = api();
    settings.endpoints.insert("us".into(), "https://user:s3cret@host".into());
    let error = Client::new(&settings).err().expect("no client").to_string();
    assert!(error.contains("api.endpoints.us") && !error.contains("s3cret"), "{error}");
    let mut settings = api();
    settings.credentials.kind = CredentialsKind::TokenFile;
    assert!(matches!(Client::new(&settings), Err(ClientError::NoTokenFile)));
}
