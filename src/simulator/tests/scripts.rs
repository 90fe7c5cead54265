//! What each script answers, call by call.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{Answer, PARENT, Session};

/// What a call is expected to be answered with.
enum Expected {
    Accepted,
    Running,
    Cancelled,
    Completed,
    Error(u16, &'static str),
    Page(u16),
}
use Expected::{Accepted, Cancelled, Completed, Error, Page, Running};

fn check(id: &str, answer: &Answer, expected: &Expected) {
    match expected {
        Accepted => assert_eq!((answer.status, answer.body.as_str()), (200, "{}"), "{id}"),
        Running => {
            let operation = operation(id, answer);
            assert_eq!(
                (&operation["done"], &operation["metadata"]["state"]),
                (&Value::Null, &json!("RUNNING")),
                "{id}"
            );
        }
        Cancelled => {
            let operation = operation(id, answer);
            assert_eq!((&operation["done"], &operation["error"]["code"]), (&json!(true), &json!(1)), "{id}");
        }
        Completed => {
            let operation = operation(id, answer);
            assert_eq!((&operation["done"], &operation["error"]), (&json!(true), &Value::Null), "{id}");
            assert!(operation["response"]["@type"].is_string(), "{id}");
        }
        Error(status, name) => {
            assert_eq!(answer.envelope(), (*status, u64::from(*status), (*name).to_owned()), "{id}");
        }
        Page(status) => assert!(answer.status == *status && answer.is_page(), "{id}: {answer:?}"),
    }
}

fn operation(id: &str, answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{id}");
    let operation = answer.json();
    assert_eq!(operation["name"], format!("projects/p/locations/us-central1/operations/{id}"));
    operation
}

#[tokio::test]
async fn each_script_answers_its_first_and_second_cancel_and_get() {
    let mut session = Session::start().await;
    let unavailable = || Error(503, "UNAVAILABLE");
    let table: &[(&str, [Expected; 2], [Expected; 2])] = &[
        ("cancels", [Accepted, Accepted], [Cancelled, Cancelled]),
        ("whatever-42", [Accepted, Accepted], [Cancelled, Cancelled]),
        ("cancels-1h", [Accepted, Accepted], [Running, Running]),
        ("completes", [Accepted, Accepted], [Completed, Completed]),
        ("never", [Accepted, Accepted], [Running, Running]),
        ("already", [Accepted, Accepted], [Cancelled, Cancelled]),
        ("already-done", [Accepted, Accepted], [Completed, Completed]),
        ("unimplemented", [Error(501, "UNIMPLEMENTED"), Error(501, "UNIMPLEMENTED")], [Running, Running]),
        ("html501", [Page(501), Page(501)], [Running, Running]),
        ("precondition", [Error(400, "FAILED_PRECONDITION"), Error(400, "FAILED_PRECONDITION")], [Running, Running]),
        (
            "precondition-done",
            [Error(400, "FAILED_PRECONDITION"), Error(400, "FAILED_PRECONDITION")],
            [Completed, Completed],
        ),
        ("aborted-1", [Error(409, "ABORTED"), Accepted], [Cancelled, Cancelled]),
        ("exists-cancelled", [Error(409, "ALREADY_EXISTS"), Error(409, "ALREADY_EXISTS")], [Cancelled, Cancelled]),
        ("http499-1", [Error(499, "CANCELLED"), Accepted], [Cancelled, Cancelled]),
        ("flaky-1", [unavailable(), Accepted], [Cancelled, Cancelled]),
        ("flaky", [unavailable(), unavailable()], [Running, Running]),
        ("flakyget-1", [Accepted, Accepted], [unavailable(), Cancelled]),
        ("internal-1", [Error(500, "INTERNAL"), Accepted], [Cancelled, Cancelled]),
        ("unknown-1", [Error(500, "UNKNOWN"), Accepted], [Cancelled, Cancelled]),
        ("deadline-1", [Error(504, "DEADLINE_EXCEEDED"), Accepted], [Cancelled, Cancelled]),
        ("dataloss-1", [Error(500, "DATA_LOSS"), Accepted], [Cancelled, Cancelled]),
        ("limited-1", [Error(429, "RESOURCE_EXHAUSTED"), Accepted], [Cancelled, Cancelled]),
        ("quota403-1", [Error(403, "PERMISSION_DENIED"), Accepted], [Cancelled, Cancelled]),
        ("unauthenticated-1", [Error(401, "UNAUTHENTICATED"), Accepted], [Cancelled, Cancelled]),
        ("denied", [Error(403, "PERMISSION_DENIED"), Error(403, "PERMISSION_DENIED")], [Running, Running]),
        ("deniedget", [Accepted, Accepted], [Error(403, "PERMISSION_DENIED"), Error(403, "PERMISSION_DENIED")]),
        ("invalid", [Error(400, "INVALID_ARGUMENT"), Error(400, "INVALID_ARGUMENT")], [Running, Running]),
        ("outofrange", [Error(400, "OUT_OF_RANGE"), Error(400, "OUT_OF_RANGE")], [Running, Running]),
        (
            "notfound",
            [Error(404, "NOT_FOUND"), Error(404, "NOT_FOUND")],
            [Error(404, "NOT_FOUND"), Error(404, "NOT_FOUND")],
        ),
        ("notfound-done", [Error(404, "NOT_FOUND"), Error(404, "NOT_FOUND")], [Completed, Completed]),
        ("lost", [Accepted, Accepted], [Error(404, "NOT_FOUND"), Error(404, "NOT_FOUND")]),
        ("lost-1", [Accepted, Accepted], [Error(404, "NOT_FOUND"), Cancelled]),
        ("unimplementedget", [Accepted, Accepted], [Error(501, "UNIMPLEMENTED"), Error(501, "UNIMPLEMENTED")]),
        ("html404", [Page(404), Page(404)], [Running, Running]),
        ("html404get", [Accepted, Accepted], [Page(404), Page(404)]),
        ("html502-1", [Page(502), Accepted], [Cancelled, Cancelled]),
        ("html405", [Page(405), Page(405)], [Running, Running]),
        ("retryafter-1-2", [Page(429), Accepted], [Cancelled, Cancelled]),
        ("retrydateget-1-2", [Accepted, Accepted], [Page(429), Cancelled]),
        ("redirect", [Page(302), Page(302)], [Running, Running]),
    ];
    for (id, cancels, gets) in table {
        for expected in cancels {
            check(id, &session.cancel(id).await, expected);
        }
        for expected in gets {
            check(id, &session.get(id).await, expected);
        }
    }
    session.end().await;
}

#[tokio::test]
async fn an_operation_is_running_until_the_cancel_and_then_for_its_delay() {
    let mut session = Session::start().await;
    let id = "cancels-100ms-a";
    check(id, &session.get(id).await, &Running);
    let before = Instant::now();
    check(id, &session.cancel(id).await, &Accepted);
    while session.get(id).await.json()["done"] != true {
        tokio::task::yield_now().await;
    }
    assert!(before.elapsed() >= Duration::from_millis(100));
    check(id, &session.get(id).await, &Cancelled);
    session.end().await;
}

#[tokio::test]
async fn a_lost_operation_is_lost_by_the_cancel() {
    let mut session = Session::start().await;
    check("lost", &session.get("lost").await, &Running);
    check("lost", &session.cancel("lost").await, &Accepted);
    check("lost", &session.get("lost").await, &Error(404, "NOT_FOUND"));
    session.end().await;
}

#[tokio::test]
async fn the_ways_of_being_done_are_told_apart() {
    let mut session = Session::start().await;
    for (id, error) in [
        ("cancels", json!({"code": 1, "message": "The operation was cancelled."})),
        ("errs-7", json!({"code": 7, "message": "The caller does not have permission"})),
        ("emptyerror", json!({})),
        ("empty", Value::Null),
    ] {
        session.cancel(id).await;
        let answer = session.get(id).await;
        let operation = operation(id, &answer);
        assert_eq!((&operation["done"], &operation["error"]), (&json!(true), &error), "{id}");
        assert_eq!(operation.get("response"), None, "{id}");
    }
    session.end().await;
}

#[tokio::test]
async fn an_operation_s_types_are_those_of_the_version_asked() {
    let mut session = Session::start().await;
    let answer = session.call("GET", "/v2/projects/p/operations/cancels", "").await;
    assert_eq!(
        answer.body,
        r#"{"name":"projects/p/operations/cancels","metadata":{"@type":"type.googleapis.com/google.cloud.dialogflow.v2.KnowledgeOperationMetadata","state":"RUNNING"}}"#
    );
    session.end().await;
}

#[tokio::test]
async fn details_and_headers_say_what_google_s_say() {
    let mut session = Session::start().await;
    let limited = session.cancel("limited-1-1500ms").await.json();
    let details = &limited["error"]["details"];
    assert_eq!(details[0]["@type"], "type.googleapis.com/google.rpc.QuotaFailure");
    assert_eq!(
        details[1],
        json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.500s"}).to_owned()
    );
    let quota = session.cancel("quota403").await.json();
    assert_eq!(quota["error"]["details"][0]["reason"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(quota["error"]["details"][1]["retryDelay"], "1s");
    let refused = session.cancel("unauthenticated").await;
    assert_eq!(refused.json()["error"]["details"][0]["reason"], "ACCESS_TOKEN_EXPIRED");
    assert!(refused.header("www-authenticate").expect("a challenge").starts_with("Bearer "));
    assert_eq!(session.cancel("retryafter-1-7").await.header("retry-after"), Some("7"));
    assert!(session.cancel("retrydate-1-7").await.header("retry-after").expect("a date").ends_with(" GMT"));
    assert_eq!(session.cancel("redirect").await.header("location"), Some("/redirected"));
    session.end().await;
}

#[tokio::test]
async fn answers_that_are_no_operation_or_too_large_come_with_200() {
    let mut session = Session::start().await;
    for id in ["garbage-1", "big-1", "oddbody"] {
        let cancel = session.cancel(id).await;
        let get = session.get(id).await;
        let (odd, good) = if id == "oddbody" { (cancel, get) } else { (get, session.get(id).await) };
        assert_eq!(odd.status, 200, "{id}");
        assert!(odd.body.len() > 1 << 20 || serde_json::from_str::<Value>(&odd.body).is_err(), "{id}");
        check(id, &good, &Cancelled);
    }
    assert!(session.get("big-b").await.json()["metadata"]["padding"].is_string());
    session.end().await;
}

#[tokio::test]
async fn a_cut_call_s_connection_is_closed_without_a_byte() {
    let mut session = Session::start().await;
    session
        .assert_cut(&format!("POST {PARENT}/operations/cut-1:cancel HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"))
        .await;
    check("cut-1", &session.cancel("cut-1").await, &Accepted);
    session.assert_cut(&format!("GET {PARENT}/operations/cutget HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert_eq!(session.calls("cut-1").await["calls"][0]["status"], Value::Null);
    assert_eq!(session.control("GET", "stats", "").await["unanswered"], 2);
    session.end().await;
}
