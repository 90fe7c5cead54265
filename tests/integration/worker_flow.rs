//! What upstream gets for what it asked.

use serde_json::json;

use crate::test_env::{PATIENCE, TestEnv};

/// The simulator's script, the verdict that it must lead to, and the calls (cancel, get) that it takes.
const SCRIPTS: &[(&str, &str, (u64, u64))] = &[
    ("cancels-a", "cancelled", (1, 1)),
    ("already-a", "cancelled", (1, 1)),
    ("oddbody-a", "cancelled", (1, 1)),
    ("precondition-cancelled-a", "cancelled", (1, 1)),
    ("notfound-cancelled-a", "cancelled", (1, 1)),
    ("flaky-1-a", "cancelled", (2, 1)),
    ("flaky-2-a", "cancelled", (3, 1)),
    ("internal-1-a", "cancelled", (2, 1)),
    ("unknown-1-a", "cancelled", (2, 1)),
    ("deadline-1-a", "cancelled", (2, 1)),
    ("dataloss-1-a", "cancelled", (2, 1)),
    ("html408-1-a", "cancelled", (2, 1)),
    ("html429-1-a", "cancelled", (2, 1)),
    ("html500-1-a", "cancelled", (2, 1)),
    ("html502-1-a", "cancelled", (2, 1)),
    ("html503-1-a", "cancelled", (2, 1)),
    ("http499-1-a", "cancelled", (2, 1)),
    ("aborted-1-a", "cancelled", (2, 1)),
    ("exists-1-a", "cancelled", (2, 1)),
    ("hangs-1-a", "cancelled", (2, 1)),
    ("unauthenticated-1-a", "cancelled", (2, 1)),
    ("limited-1-3s-a", "cancelled", (2, 1)),
    ("limited-1-6s-a", "cancelled", (2, 1)),
    ("quota403-1-3s-a", "cancelled", (2, 1)),
    ("retryafter-1-3-a", "cancelled", (2, 1)),
    ("retrydate-1-3-a", "cancelled", (2, 1)),
    ("flakyget-2-a", "cancelled", (1, 3)),
    ("http499get-1-a", "cancelled", (1, 2)),
    ("html429get-1-a", "cancelled", (1, 2)),
    ("unauthenticatedget-1-a", "cancelled", (1, 2)),
    ("lost-2-a", "cancelled", (1, 3)),
    ("garbage-2-a", "cancelled", (1, 3)),
    ("completes-a", "completed", (1, 1)),
    ("errs-13-a", "completed", (1, 1)),
    ("empty-a", "completed", (1, 1)),
    ("emptyerror-a", "completed", (1, 1)),
    ("already-done-a", "completed", (1, 1)),
    ("precondition-done-a", "completed", (1, 1)),
    ("notfound-done-a", "completed", (1, 1)),
    ("aborted-done-a", "completed", (2, 1)),
    ("unimplemented-a", "unimplemented", (1, 0)),
    ("html501-a", "unimplemented", (1, 0)),
    ("precondition-a", "failed: not_cancellable", (1, 1)),
    ("aborted-a", "failed: not_cancellable", (2, 1)),
    ("notfound-a", "failed: not_found", (4, 4)),
    ("denied-a", "failed: permission_denied", (1, 0)),
    ("deniedget-a", "failed: permission_denied", (1, 1)),
    ("html404-a", "failed: bad_endpoint", (1, 0)),
    ("html405-a", "failed: bad_endpoint", (1, 0)),
    ("redirect-a", "failed: bad_endpoint", (1, 0)),
    ("html404get-a", "failed: bad_endpoint", (1, 1)),
    ("invalid-a", "failed: rejected", (1, 0)),
    ("outofrange-a", "failed: rejected", (1, 0)),
    ("html400-a", "failed: rejected", (1, 0)),
    ("unimplementedget-a", "failed: outcome_unknown", (1, 1)),
    ("lost-a", "failed: operation_lost", (1, 4)),
    ("garbage-a", "failed: protocol_error", (1, 4)),
    ("big-a", "failed: protocol_error", (1, 4)),
];

/// Scripts that take as many calls as fit into their time.
const SLOW_SCRIPTS: &[(&str, &str, &str)] = &[
    ("running-500ms-a", "1m", "cancelled"),
    ("cancels-7s-a", "1m", "cancelled"),
    ("completes-1s-a", "1m", "completed"),
    ("cut-1-a", "1m", "cancelled"),
    ("never-a", "2s", "failed: deadline_exceeded"),
    ("flaky-a", "3s", "failed: unavailable"),
    ("hangs-a", "3s", "failed: unavailable"),
    ("limited-a", "3s", "failed: unavailable"),
    ("unauthenticated-a", "3s", "failed: unauthenticated"),
    ("flaky-done-a", "2s", "completed"),
    ("flakyget-a", "2s", "failed: deadline_exceeded"),
];

#[tokio::test]
async fn every_script_of_the_api_leads_to_its_one_truthful_answer() {
    let mut env = TestEnv::new().await;
    env.set("api.call_timeout", "2s");
    env.set("retry.conflict_retries", "1");
    let _worker = env.worker().await;
    for (script, ..) in SCRIPTS {
        env.request(script).await;
    }
    for (script, timeout, _) in SLOW_SCRIPTS {
        env.request_with(script, json!({ "timeout": timeout })).await;
    }

    let mut problems = Vec::new();
    let expected = SCRIPTS.iter().map(|(script, verdict, calls)| (script, verdict, Some(*calls)));
    for (script, verdict, calls) in
        expected.chain(SLOW_SCRIPTS.iter().map(|(script, _, verdict)| (script, verdict, None)))
    {
        let event = env.event_for(script).await;
        let told = (event.verdict(), event.attempts());
        let seen = env.api.calls(script).await;
        if told.0 != *verdict || calls.is_some_and(|calls| calls != told.1) {
            problems.push(format!("{script}: expected {verdict} {calls:?}, got {}", event.data()));
        }
        // The client itself repeats a call whose connection turned out to be closed.
        let repeated = script.starts_with("cut");
        if !repeated && (&seen["cancel_calls"], &seen["get_calls"]) != (&json!(told.1.0), &json!(told.1.1)) {
            problems.push(format!("{script}: the event tells of other calls than were made: {told:?}, {seen}"));
        }
        // At the deadline there is a last look at the operation, whatever the API asked for.
        let early = u64::from(*script == "limited-a");
        if seen["too_early"].as_u64().unwrap() > early || seen["content_length"] != 0 {
            problems.push(format!("{script}: called too early, or not with Content-Length 0: {seen}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(env.events(0, PATIENCE).await.len(), SCRIPTS.len() + SLOW_SCRIPTS.len(), "one event each");
    env.end().await;
}
