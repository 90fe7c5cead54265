//! The control endpoint.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{PARENT, Session};
use crate::simulator::SimulatorOptions;

#[tokio::test]
async fn the_simulator_says_that_it_is_well() {
    let mut session = Session::start().await;
    assert_eq!(session.control("GET", "health", "").await, json!({}));
    session.end().await;
}

#[tokio::test]
async fn any_id_can_be_scripted_and_begins_anew() {
    let mut session = Session::start().await;
    session.cancel("plain").await;
    session.control("PUT", "operations/plain", r#"{"script":"never"}"#).await;
    assert_eq!(session.calls("plain").await["cancel_calls"], 0);
    session.cancel("plain").await;
    assert_eq!(session.get("plain").await.json()["done"], Value::Null);
    // The next one by its id alone, before anybody knows where it is.
    session.control("PUT", "operations/later", r#"{"script":"errs-9"}"#).await;
    session.cancel("later").await;
    assert_eq!(session.get("later").await.json()["error"]["code"], 9);
    for body in [r#"{"script":"dances"}"#, r#"{"script":"never-3s"}"#, r#"{"scrip":"never"}"#, "never"] {
        let refused = session.call("PUT", "/control/operations/plain", body).await;
        assert!(refused.status == 400 && refused.json()["error"].is_string(), "{body}");
    }
    session.end().await;
}

#[tokio::test]
async fn the_calls_of_an_operation_are_told_without_their_secrets() {
    let mut session = Session::start().await;
    assert_eq!(session.calls("flaky-1").await["name"], Value::Null);
    session
        .send(&format!(
            "POST {PARENT}/operations/flaky-1:cancel HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\
             Authorization: Bearer s3cret\r\nX-Goog-User-Project: billed\r\n\r\n"
        ))
        .await;
    let calls = session.calls("flaky-1").await;
    assert_eq!(calls["user_project"], "billed");
    assert_eq!(calls["content_length"], 0);
    assert!(!calls.to_string().contains("s3cret"));
    session.cancel("flaky-1").await;
    session.get("flaky-1").await;
    let calls = session.calls("flaky-1").await;
    assert_eq!((&calls["cancel_calls"], &calls["get_calls"], &calls["too_early"]), (&json!(2), &json!(1), &json!(0)));
    assert_eq!(calls["name"], "projects/p/locations/us-central1/operations/flaky-1");
    let seen: Vec<_> = calls["calls"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|call| (call["call"].as_str(), call["status"].as_u64(), call["authorization"].as_bool()))
        .collect();
    let expected = [("cancel", 503, true), ("cancel", 200, false), ("get", 200, false)];
    assert_eq!(seen, expected.map(|(call, status, authorization)| (Some(call), Some(status), Some(authorization))));
    let at = calls["calls"][0]["at_ms"].as_i64().expect("a time");
    let year = time::OffsetDateTime::from_unix_timestamp(at / 1000).expect("a time").year();
    assert!((2024..2200).contains(&year));
    session.end().await;
}

#[tokio::test]
async fn one_id_in_two_places_is_asked_for_by_its_name() {
    let mut session = Session::start().await;
    session.get("o").await;
    session.call("GET", "/v2/projects/p/operations/o", "").await;
    assert_eq!(session.call("GET", "/control/calls?id=o", "").await.status, 409);
    for name in ["projects/p/operations/o", "projects%2Fp%2foperations%2Fo"] {
        assert_eq!(session.calls(name).await["get_calls"], 1, "{name}");
    }
    assert_eq!(
        session.calls("projects%252Fp%252Foperations%252Fo").await["name"],
        Value::Null,
        "a kept %2F is no slash"
    );
    assert_eq!(session.call("GET", "/control/calls", "").await.status, 400);
    session.end().await;
}

#[tokio::test]
async fn a_client_that_comes_back_too_early_is_found_out() {
    let mut session = Session::start().await;
    for id in ["limited-1-1h", "limitedget-1-1h"] {
        for _call in 0..2 {
            session.cancel(id).await;
            session.get(id).await;
        }
        assert_ne!(session.calls(id).await["too_early"], 0, "{id}");
    }
    session.cancel("limited-1-50ms").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    session.cancel("limited-1-50ms").await;
    assert_eq!(session.calls("limited-1-50ms").await["too_early"], 0);
    assert_ne!(session.control("GET", "stats", "").await["too_early"], 0);
    session.end().await;
}

#[tokio::test]
async fn injected_faults_come_before_any_script() {
    let mut session = Session::start().await;
    session.control("PUT", "weather", r#"{"status":503}"#).await;
    assert_eq!(session.cancel("cancels").await.envelope().2, "UNAVAILABLE");
    assert_eq!(session.get("cancels").await.status, 503);
    assert_eq!(session.call("GET", &format!("{PARENT}/operations"), "").await.status, 503);
    assert_eq!(session.calls("cancels").await["cancel_calls"], 1);
    session.control("PUT", "weather", r#"{"status":502,"location":"us-central1"}"#).await;
    session.control("PUT", "weather", r#"{"status":429,"retry_after":3}"#).await;
    assert!(session.get("cancels").await.is_page());
    let elsewhere = session.call("GET", "/v2/projects/p/operations/cancels", "").await;
    assert_eq!((elsewhere.status, elsewhere.header("retry-after")), (429, Some("3")));
    session.control("PUT", "weather", r#"{"cut":true}"#).await;
    session.assert_cut("GET /v2/projects/p/operations/cancels HTTP/1.1\r\nHost: x\r\n\r\n").await;
    session.control("PUT", "weather", "{}").await;
    assert_eq!(session.get("cancels").await.status, 200);
    let refused = session.call("PUT", "/control/weather", r#"{"sttus":503}"#).await;
    assert!(refused.status == 400 && refused.body.contains("sttus"));
    session.end().await;
}

#[tokio::test]
async fn latency_delays_every_answer() {
    let mut session = Session::start().await;
    session.control("PUT", "weather", r#"{"latency":"60ms"}"#).await;
    let before = Instant::now();
    assert_eq!(session.get("already").await.status, 200);
    assert!(before.elapsed() >= Duration::from_millis(60));
    session.end().await;
}

#[tokio::test]
async fn a_hanging_call_is_counted_and_left_without_an_answer() {
    let mut session = Session::start().await;
    let mut waiting = session.another().await;
    waiting.write(&format!("GET {PARENT}/operations/hangsget HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    while session.calls("hangsget").await["get_calls"] != 1 {
        tokio::task::yield_now().await;
    }
    assert!(waiting.stays_silent(Duration::from_millis(100)).await);
    session.end().await;
    assert!(!waiting.stays_silent(Duration::from_secs(5)).await, "closed at the end");
}

#[tokio::test]
async fn totals_are_told_and_reset() {
    let mut session = Session::with(SimulatorOptions { max_operations: 2, ..Default::default() }).await;
    for id in ["a", "b", "notfound"] {
        session.cancel(id).await;
    }
    session.get("b").await;
    let stats = session.control("GET", "stats", "").await;
    assert_eq!((&stats["cancel_calls"], &stats["get_calls"]), (&json!(3), &json!(1)));
    assert_eq!((&stats["operations"], &stats["forgotten"]), (&json!(2), &json!(1)));
    assert_eq!(stats["answers"], json!({"200": 3, "404": 1}));
    session.control("DELETE", "operations", "").await;
    let stats = session.control("GET", "stats", "").await;
    assert_eq!((&stats["cancel_calls"], &stats["operations"], &stats["answers"]), (&json!(0), &json!(0), &json!({})));
    session.end().await;
}
