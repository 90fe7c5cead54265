use std::time::{Duration, Instant};

use super::server::{Act, Server, answer, ok};
use super::*;
use crate::cancellation::FailureKind;
use crate::operations_api::Operations as _;

/// Shorter than any call of these tests would last without a limit, longer than a busy machine's hiccups.
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(8);

fn hasty(server: &Server) -> Client {
    let mut settings = settings(server);
    settings.call_timeout = HumanDuration(SHORT);
    Client::new(&settings).expect("a client")
}

fn endless(status: &str, pause: Duration) -> Act {
    Act::Drip {
        head: format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n"),
        drop: format!("400\r\n{}\r\n", " ".repeat(1024)),
        pause,
    }
}

#[expect(clippy::disallowed_methods, reason = "these tests are about time that passes")]
fn now() -> Instant {
    Instant::now()
}

#[tokio::test]
async fn a_silent_server_is_given_up_after_the_call_timeout() {
    let server = Server::start(|_| Act::Silence).await;
    let client = hasty(&server);
    let began = now();
    let silent = failure(client.cancel(&name()).await);
    assert!(began.elapsed() >= SHORT && began.elapsed() < LONG);
    assert_eq!(silent.kind, FailureKind::Unavailable);
    assert_eq!(silent.error.message, format!("no answer from {} within 300ms (api.call_timeout)", server.origin()));
    assert_eq!(failure(client.get(&name()).await).kind, FailureKind::Unavailable);
    // A connection that owes an answer is not used again.
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn an_answer_that_drips_is_given_up_after_the_call_timeout() {
    let drip = Act::Drip {
        head: "HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n".into(),
        drop: " ".into(),
        pause: Duration::from_millis(20),
    };
    let server = Server::start(move |_| drip.clone()).await;
    let client = hasty(&server);
    let began = now();
    let dripping = failure(client.get(&name()).await);
    assert!(began.elapsed() >= SHORT && began.elapsed() < LONG);
    assert_eq!(dripping.kind, FailureKind::Unavailable);
    let expected = format!("the answer from {} had not ended after 300ms (api.call_timeout)", server.origin());
    assert_eq!(dripping.error.message, expected);
    // The status says all there is to know of a cancel.
    assert!(matches!(client.cancel(&name()).await, Reply::Accepted));
    assert!(began.elapsed() < LONG);
}

#[tokio::test]
async fn an_endless_answer_is_read_up_to_the_limit_and_no_further() {
    let server = Server::start(|_| endless("200 OK", Duration::ZERO)).await;
    let client = client(&server);
    let began = now();
    let Reply::Undecodable { detail } = client.get(&name()).await else { panic!("undecodable") };
    assert_eq!(detail, "the answer is larger than 4.0 KiB (api.response_limit)");
    assert!(matches!(client.cancel(&name()).await, Reply::Accepted));
    assert!(began.elapsed() < LONG);
    // What the sockets and the HTTP library hold, and not what it would write in that time.
    assert!(server.written() < 32 << 20, "{} bytes", server.written());
}

#[tokio::test]
async fn an_answer_that_announces_too_much_is_not_read_at_all() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 4097\r\n\r\n";
    let server = Server::start(move |_| Act::Drip { head: head.into(), drop: String::new(), pause: SHORT }).await;
    let began = now();
    assert!(matches!(client(&server).get(&name()).await, Reply::Undecodable { .. }));
    assert!(began.elapsed() < LONG);
}

#[tokio::test]
async fn an_answer_of_exactly_the_limit_is_read() {
    let body = format!("{{\"done\":true{}}}", " ".repeat(4096 - 13));
    assert_eq!(body.len(), 4096);
    let more = format!("{body} ");
    let server = Server::start(move |number| ok(if number == 0 { &body } else { &more })).await;
    let client = client(&server);
    assert!(matches!(client.get(&name()).await, Reply::Operation(operation) if operation.done));
    assert!(matches!(client.get(&name()).await, Reply::Undecodable { .. }));
}

#[tokio::test]
async fn of_an_error_answer_the_beginning_is_enough() {
    let server = Server::start(|number| match number {
        0 => endless("503 Service Unavailable", Duration::ZERO),
        _ => answer("404 Not Found", "", &format!("<html>{}", "x".repeat(100_000))),
    })
    .await;
    let client = client(&server);
    let began = now();
    assert_eq!(failure(client.get(&name()).await).error.code, Some(14));
    assert_eq!(failure(client.cancel(&name()).await).kind, FailureKind::BadEndpoint);
    assert!(began.elapsed() < LONG);
}

#[tokio::test]
async fn an_envelope_is_read_as_far_as_any_answer_and_one_that_is_cut_off_is_still_the_services() {
    let envelope = format!(
        r#"{{"error":{{"code":404,"message":"gone","status":"NOT_FOUND","details":["{}"]}}}}"#,
        "x".repeat(200_000)
    );
    let server = Server::start(move |_| answer("404 Not Found", "", &envelope)).await;
    let mut settings = settings(&server);
    settings.response_limit = ByteSize::mib(1);
    let whole = failure(Client::new(&settings).expect("a client").get(&name()).await);
    assert_eq!(
        (whole.kind, whole.error.message.as_str()),
        (FailureKind::NotFound, "the API answered 404 NOT_FOUND: gone")
    );
    let cut = failure(client(&server).get(&name()).await);
    assert_eq!(cut.kind, FailureKind::NotFound);
    assert!(
        cut.error.message.starts_with("the API answered 404 with an error envelope that cannot be read: "),
        "{cut:?}"
    );
}
