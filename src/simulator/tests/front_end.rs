//! What a call meets before any script is asked.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::client::{PARENT, Session};
use crate::simulator::{Simulator, SimulatorError, SimulatorOptions};

#[tokio::test]
async fn a_post_without_a_length_is_answered_411() {
    let mut session = Session::start().await;
    let answer = session.send(&format!("POST {PARENT}/operations/o:cancel HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert_eq!(answer.status, 411);
    assert!(answer.is_page());
    assert_eq!(session.calls("o").await["cancel_calls"], 0);
    session.end().await;
}

#[tokio::test]
async fn a_cancel_s_body_says_nothing() {
    let mut session = Session::start().await;
    let path = format!("{PARENT}/operations/o:cancel");
    for body in ["", "{}", " {\n} "] {
        assert_eq!(session.call("POST", &path, body).await.status, 200, "{body:?}");
    }
    let chunked =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
    assert_eq!(session.send(&chunked).await.status, 200);
    for body in [r#"{"name":"x"}"#, "[]", "null", "cancel", "{}{}"] {
        let answer = session.call("POST", &path, body).await;
        assert_eq!(answer.envelope(), (400, 400, "INVALID_ARGUMENT".to_owned()), "{body:?}");
    }
    let calls = session.calls("o").await;
    assert_eq!((&calls["cancel_calls"], &calls["content_length"]), (&json!(9), &json!(4)));
    session.end().await;
}

#[tokio::test]
async fn what_is_not_served_gets_a_page() {
    let mut session = Session::start().await;
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/nowhere&more", 404),
        ("GET", "/control/nothing", 404),
        ("POST", "/v2beta1/projects/p/operations:cancel", 404),
        ("POST", "/v2beta1/projects/p/operations/o", 405),
        ("GET", "/v2beta1/projects/p/operations/o:cancel", 405),
        ("DELETE", "/v2beta1/projects/p/operations/o", 405),
        ("POST", "/v2beta1/projects/p/operations", 405),
    ] {
        let answer = session.call(method, path, "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.is_page(), "{method} {path}");
        assert!(!answer.body.contains("&more"), "escaped");
    }
    let stats = session.control("GET", "stats", "").await;
    assert_eq!((&stats["unknown_calls"], &stats["operations"]), (&json!(8), &json!(0)));
    session.end().await;
}

#[tokio::test]
async fn segments_are_decoded_as_transcoding_does() {
    let mut session = Session::start().await;
    session.call("POST", "/v1/projects/my%20p/locations/l/operations/a%2Fb%3A%22c:cancel", "").await;
    let answer = session.call("GET", "/v1/projects/my%20p/locations/l/operations/a%2Fb%3A%22c", "").await;
    let operation = answer.json();
    assert_eq!(operation["name"], "projects/my p/locations/l/operations/a%2Fb:\"c");
    assert_eq!(operation["error"]["code"], 1);
    session.end().await;
}

#[tokio::test]
async fn operations_are_listed_page_by_page() {
    let mut session = Session::start().await;
    for id in ["already-a", "never-b", "completes-c"] {
        session.get(id).await;
    }
    session.call("GET", "/v2beta1/projects/other/operations/d", "").await;
    let first = session.call("GET", &format!("{PARENT}/operations?pageSize=2"), "").await.json();
    let names: Vec<_> = first["operations"].as_array().expect("a list").iter().map(|found| &found["name"]).collect();
    assert_eq!(
        names,
        [&format!("{}/operations/already-a", &PARENT[9..]), &format!("{}/operations/never-b", &PARENT[9..])]
    );
    assert_eq!((&first["operations"][0]["done"], &first["operations"][1]["done"]), (&json!(true), &json!(null)));
    let token = first["nextPageToken"].as_str().expect("a token");
    let last = session.call("GET", &format!("{PARENT}/operations?pageSize=2&pageToken={token}"), "").await.json();
    assert_eq!(last["operations"].as_array().map(Vec::len), Some(1));
    assert_eq!(last.get("nextPageToken"), None);
    let empty = session.call("GET", "/v2beta1/projects/nobody/operations", "").await;
    assert_eq!(empty.body, "{}");
    let odd = session.call("GET", &format!("{PARENT}/operations?pageToken=x"), "").await;
    assert_eq!(odd.envelope().2, "INVALID_ARGUMENT");
    session.end().await;
}

#[tokio::test]
async fn only_the_expected_token_is_let_in() {
    let mut session = Session::with(SimulatorOptions { token: Some("s3cret".into()), ..Default::default() }).await;
    let get = |token: &str| format!("GET {PARENT}/operations/o HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n");
    assert_eq!(session.get("o").await.envelope(), (401, 401, "UNAUTHENTICATED".to_owned()));
    assert_eq!(session.send(&get("Bearer s3cre")).await.status, 401);
    assert_eq!(session.send(&get("Basic s3cret")).await.status, 401);
    assert_eq!(session.send(&get("Bearer s3cret")).await.status, 200);
    session.control("PUT", "token", r#"{"token":"other"}"#).await;
    assert_eq!(session.send(&get("Bearer s3cret")).await.status, 401);
    assert_eq!(session.send(&get("Bearer other")).await.status, 200);
    session.control("PUT", "token", r#"{"token":null}"#).await;
    assert_eq!(session.get("o").await.status, 200);
    let refused = session.call("PUT", "/control/token", r#"{"tokn":"s3cret"}"#).await;
    assert!(refused.status == 400 && !refused.body.contains("s3cret"));
    session.end().await;
}

#[test]
fn the_token_is_never_shown() {
    let options = SimulatorOptions { token: Some("s3cret".into()), ..Default::default() };
    assert!(!format!("{options:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_taken_address_is_an_error_that_names_it() {
    let first = Simulator::bind(SimulatorOptions::default()).await.expect("a free port");
    assert_eq!(first.base_url(), format!("http://127.0.0.1:{}", first.address().port()));
    let again = Simulator::bind(SimulatorOptions { listen: first.address(), ..Default::default() }).await;
    let error = again.err().expect("taken");
    assert!(matches!(error, SimulatorError::Listen { .. }));
    assert_eq!(error.to_string(), format!("listen on {} for the simulated API", first.address()));
}

#[tokio::test]
async fn the_end_waits_neither_for_idle_connections_nor_for_calls_that_hang() {
    let mut session = Session::start().await;
    let _idle = session.another().await;
    let mut hanging = session.another().await;
    hanging.write(&format!("GET {PARENT}/operations/hangsget HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    while session.calls("hangsget").await["get_calls"] != 1 {
        tokio::task::yield_now().await;
    }
    let before = Instant::now();
    session.end().await;
    assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
}
