//! Servers that answer with too much, too slowly, or with something that is no HTTP: each call ends in time, memory stays
//! bounded, and requests for other endpoints keep their pace.

use std::sync::Arc;
use std::time::Duration;

use cancel_worker::cancellation::{Failure, FailureKind, Reply};
use cancel_worker::message::OperationName;
use cancel_worker::operations_api::{Client, Operations};
use cancel_worker::settings;
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{Act, RawServer};
use crate::test_env::TestEnv;

/// For one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How much later than its time-out a call may end.
const LATE: Duration = Duration::from_secs(1);

/// How much more memory than before the worker may take, whatever the servers do.
const MEMORY: u64 = 64 << 20;

/// A hostile answer: what it is, and what the client must make of it after a cancel and after a get.
struct Hostile {
    what: &'static str,
    act: Act,
    cancel: fn(&Reply) -> bool,
    get: fn(&Reply) -> bool,
}

/// Nothing is known: tried again later.
fn unavailable(reply: &Reply) -> bool {
    matches!(reply, Reply::Failure(Failure { kind: FailureKind::Unavailable, .. }))
}

fn accepted(reply: &Reply) -> bool {
    matches!(reply, Reply::Accepted)
}

fn undecodable(reply: &Reply) -> bool {
    matches!(reply, Reply::Undecodable { .. })
}

fn bad_endpoint(reply: &Reply) -> bool {
    matches!(reply, Reply::Failure(Failure { kind: FailureKind::BadEndpoint, .. }))
}

const AT_ONCE: Duration = Duration::ZERO;
const SLOWLY: Duration = Duration::from_millis(20);

/// All of them. `elsewhere` is where redirects point.
fn hostile(elsewhere: &str, bomb: &[u8]) -> Vec<Hostile> {
    let text = |text: &str| text.as_bytes().to_vec();
    let block = vec![b' '; 64 << 10];
    let chunk = [b"10000\r\n".as_slice(), &block, b"\r\n"].concat();
    let chunked = text("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    let gigabyte = text("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n");
    let compressed =
        format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len()).into_bytes();
    let redirect = |status: &str| Act::json(&format!("{status}\r\nlocation: {elsewhere}/v2beta1/x"), "");
    let case = |what, act, cancel, get| Hostile { what, act, cancel, get };
    let endless = |head: &[u8], more: &[u8]| Act::Repeat(head.to_vec(), more.to_vec(), AT_ONCE);
    let drip = |head: &str, more: &str| Act::Repeat(text(head), text(more), SLOWLY);
    vec![
        case("a 1 GB answer with its length", endless(&gigabyte, &block), accepted, undecodable),
        case("an endless answer without a length", endless(b"HTTP/1.1 200 OK\r\n\r\n", &block), accepted, undecodable),
        case("an endless chunked answer", endless(&chunked, &chunk), accepted, undecodable),
        case(
            "an endless chunked error",
            endless(b"HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n", &chunk),
            unavailable,
            unavailable,
        ),
        case("a gzip bomb", Act::Answer([compressed, bomb.to_vec()].concat()), accepted, undecodable),
        case(
            "a chunk's extension without an end",
            endless(&[&chunked[..], b"1;"].concat(), &block),
            accepted,
            unavailable,
        ),
        case("trailers without an end", endless(&[&chunked[..], b"0\r\n"].concat(), b"a: b\r\n"), accepted, |_| true),
        case("silence", drip("", ""), unavailable, unavailable),
        case("a status line that drips", drip("HTTP/1.1 200 ", "O"), unavailable, unavailable),
        case("headers that drip", drip("HTTP/1.1 200 OK\r\na: ", "b"), unavailable, unavailable),
        case("a body that drips", drip("HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n", " "), accepted, unavailable),
        case(
            "chunks that drip",
            drip("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\n \r\n"),
            accepted,
            unavailable,
        ),
        case(
            "an error that drips",
            drip("HTTP/1.1 400 Bad Request\r\ncontent-length: 4000\r\n\r\n", " "),
            unavailable,
            unavailable,
        ),
        case("a header without an end", endless(b"HTTP/1.1 200 OK\r\na: ", &block), unavailable, unavailable),
        case("headers without an end", endless(b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"), unavailable, unavailable),
        case(
            "interim answers without an end",
            endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            unavailable,
            unavailable,
        ),
        case("line breaks without an end", endless(b"", b"\r\n"), unavailable, unavailable),
        case("bytes that are no HTTP", endless(&[0; 64], &[0xff; 4096]), unavailable, unavailable),
        case("a status that is none", Act::Close(text("HTTP/1.1 9999 No\r\n\r\n"), AT_ONCE), unavailable, unavailable),
        case("another protocol", Act::Close(text("HTTP/9.9 200 OK\r\n\r\n{}"), AT_ONCE), unavailable, unavailable),
        case("two lengths", Act::json("200 OK\r\ncontent-length: 7", "{}"), unavailable, unavailable),
        case("a length that is none", Act::json("200 OK\r\ncontent-length: -1", ""), unavailable, unavailable),
        case("a redirect", redirect("302 Found"), bad_endpoint, bad_endpoint),
        case("a redirect that keeps the method", redirect("307 Temporary Redirect"), bad_endpoint, bad_endpoint),
        case("a permanent redirect", redirect("308 Permanent Redirect"), bad_endpoint, bad_endpoint),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_ends_within_its_time_and_no_redirect_is_followed() {
    let elsewhere = RawServer::start(|_| Act::json("200 OK", "{}")).await;
    let bomb = gzip_bomb();
    let cases = hostile(&elsewhere.url(), &bomb).into_iter().map(async |case| {
        let act = case.act.clone();
        let server = RawServer::start(move |_| act.clone()).await;
        let overrides = [("api.endpoint", server.url()), ("api.call_timeout", "2s".to_owned())];
        let client = Client::new(&settings::load(&[], &overrides).unwrap().settings.api).unwrap();
        let name = OperationName::parse("projects/p/locations/global/operations/o").unwrap();
        for call in ["cancel", "get"] {
            let began = Instant::now();
            let (reply, as_expected) = match call {
                "cancel" => (client.cancel(&name).await, case.cancel),
                _ => (client.get(&name).await, case.get),
            };
            let took = began.elapsed();
            assert!(took < CALL_TIMEOUT + LATE, "{}: the {call} took {took:?}", case.what);
            assert!(as_expected(&reply), "{}: {call}: {reply:?}", case.what);
        }
        // A connection on which an answer did not end is closed, and not used for another call.
        for held in server.held() {
            assert!(held < CALL_TIMEOUT + LATE, "{}: a connection was held for {held:?}", case.what);
        }
    });
    // Not all at once: that would be about how fast this machine is.
    futures_util::stream::iter(cases).buffer_unordered(6).collect::<Vec<()>>().await;
    assert_eq!(elsewhere.connections(), 0, "a redirect was followed");
}

/// One worker, one location for each hostile server, and the simulator for the others.
#[tokio::test]
async fn a_worker_among_hostile_servers_keeps_its_memory_and_the_pace_of_other_requests() {
    let elsewhere = RawServer::start(|_| Act::json("200 OK", "{}")).await;
    let bomb = gzip_bomb();
    let cases = hostile(&elsewhere.url(), &bomb);
    let mut env = TestEnv::new().await;
    env.set("api.call_timeout", "2s");
    let mut servers = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let act = case.act.clone();
        let server = RawServer::start(move |_| act.clone()).await;
        env.set(&format!("api.endpoints.hostile{number}"), &server.url());
        servers.push(Arc::new(server));
    }
    let worker = env.worker().await;

    // The way things are without hostile servers.
    let calm = pace(&env, "calm").await;
    let before = worker.peak_memory();

    // Eight requests for each at once, repeated by the worker until they are given up.
    let attack = join_all((0..cases.len() * 8).map(|number| hostile_request(&env, number % cases.len(), number)));
    attack.await;
    let stormy = pace(&env, "stormy").await;
    let events = env.events(2 * usize::from(PACED) + cases.len() * 8, Duration::from_secs(60)).await;
    let after = worker.peak_memory();

    let hostile: Vec<_> =
        events.iter().filter(|event| event.data()["name"].as_str().unwrap().contains("hostile")).collect();
    assert_eq!(hostile.len(), cases.len() * 8, "a request among hostile servers was not answered");
    for event in hostile {
        assert_eq!(event.outcome(), "failed", "{}", event.data());
    }
    for server in &servers {
        assert!(!server.requests().is_empty());
    }
    assert_eq!(elsewhere.connections(), 0, "a redirect was followed");
    assert!(after < before + MEMORY, "the worker's memory rose from {before} to {after} bytes");
    println!("memory: {} KiB before, {} KiB at most; pace: {calm:?} and {stormy:?}", before >> 10, after >> 10);
    // Nine of ten requests: the machine has other things to do, too.
    assert!(stormy < calm + Duration::from_millis(400), "{calm:?} before, and {stormy:?} among hostile servers");
    drop(worker);
    env.end().await;
}

/// So many requests for the healthy endpoint, one after the other.
const PACED: u16 = 60;

/// How long nine of ten healthy requests take at most, from publishing to the event, one after the other.
async fn pace(env: &TestEnv, what: &str) -> Duration {
    let mut took = Vec::new();
    for number in 0..PACED {
        let id = format!("cancels-{what}{number}");
        let began = Instant::now();
        env.request(&id).await;
        assert_eq!(env.event_for(&id).await.outcome(), "cancelled");
        took.push(began.elapsed());
    }
    took.sort();
    took[took.len() * 9 / 10]
}

/// A request that is given up after some seconds, so that its calls are made again and again until then.
async fn hostile_request(env: &TestEnv, server: usize, number: usize) {
    let name = format!("projects/p/locations/hostile{server}/operations/o{number}");
    env.request_with(&format!("hostile-{number}"), json!({ "name": name, "timeout": "6s" })).await;
}

/// 512 MiB of zeros, in half a megabyte: less than `api.response_limit`, so that it is read whole.
fn gzip_bomb() -> Vec<u8> {
    let output =
        std::process::Command::new("sh").args(["-c", "head -c 536870912 /dev/zero | gzip -9"]).output().unwrap();
    assert!(output.stdout.len() > 400_000 && output.stdout.len() < 1 << 20, "{} bytes", output.stdout.len());
    output.stdout
}
