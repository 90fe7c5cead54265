use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use cancel_worker::message::{CancelRequest, Envelope, OperationName, ReceivedEvent};

use crate::api::{Script, SimulatedOperation};
use crate::scenario::Asked;
use crate::test_env::{Message, State, TestEnv};

/// So much a clock may be wrong that is not corrected: five seconds, and the cut of the API's times to whole ones.
const TOLERANCE: Duration = Duration::from_secs(6);

/// What the promise says, of everything that came out.
pub fn check(env: &TestEnv, asked: &[Asked]) {
    let mut state = env.state();
    let mut problems = Vec::new();
    let events: Vec<ReceivedEvent> = state.events.iter().filter_map(|event| read(event, &mut problems)).collect();
    for request in asked {
        check_request(request, &state, &events, &mut problems);
    }
    let known: BTreeSet<String> = asked.iter().map(request_key).collect();
    for event in events.iter().filter(|event| !known.contains(&event.request_key)) {
        problems.push(format!("an event that nobody asked for: {event:?}"));
    }
    for letter in &state.dead {
        let told = |name: &str| letter.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str());
        match (letter.poison, told("cancel-worker-reason")) {
            (true, None) | (false, Some("failed" | "gave_up")) => {}
            (poison, reason) => problems.push(format!(
                "in the dead queue: {:?}, poison {poison}, reason {reason:?}, {} deliveries",
                letter.message_id, letter.deliveries
            )),
        }
    }
    state.violations.extend(problems);
}

fn request_key(request: &Asked) -> String {
    let name = OperationName::parse(&request.name).expect("a name");
    CancelRequest::new(name, Some(request.id.clone())).key().to_string()
}

fn read(message: &Message, problems: &mut Vec<String>) -> Option<ReceivedEvent> {
    let envelope = Envelope { body: &message.body, content_type: Some(&message.content_type), ..Envelope::default() };
    match ReceivedEvent::read(&envelope) {
        Ok(event) if event.id == message.message_id => Some(event),
        other => {
            problems.push(format!("an event that cannot be read or has another message_id: {other:?}"));
            None
        }
    }
}

/// `cancelled`, or `failed: not_found`.
fn verdict(event: &ReceivedEvent) -> String {
    let reason = event.data.error.as_ref().and_then(|error| error.reason.as_deref());
    match reason {
        Some(reason) => format!("{}: {reason}", event.data.outcome),
        None => event.data.outcome.clone(),
    }
}

fn check_request(request: &Asked, state: &State, events: &[ReceivedEvent], problems: &mut Vec<String>) {
    let operation = &state.operations[&request.name];
    let own: Vec<&ReceivedEvent> =
        events.iter().filter(|event| event.data.request_id.as_deref() == Some(&request.id)).collect();
    let verdicts: BTreeSet<String> = own.iter().map(|event| verdict(event)).collect();
    let mut wrong = |problem: &str| {
        problems.push(format!("{problem}: {} ({:?}): {verdicts:?}", request.id, request.script));
    };
    if own.is_empty() {
        wrong("no answer");
    }
    if own.iter().any(|event| event.request_key != request_key(request)) {
        wrong("answered under another key");
    }
    let ids: BTreeSet<(String, &str)> = own.iter().map(|event| (verdict(event), event.id.as_str())).collect();
    let different: BTreeSet<&str> = ids.iter().map(|(_, id)| *id).collect();
    if (ids.len(), different.len()) != (verdicts.len(), verdicts.len()) {
        wrong("the same answer under two ids, or two under one");
    }
    if own.iter().any(|event| event.data.name.as_deref() != Some(&request.name)) {
        wrong("answered for another operation");
    }
    let gave_up = "failed: gave_up";
    let is_tried = |event: &&ReceivedEvent| event.data.attempts.is_some_and(|calls| calls.cancel > 0);
    if !own.iter().all(|event| is_tried(event) || verdict(event) == gave_up) {
        wrong("answered without an attempt to cancel");
    }
    let truth = truth(operation);
    // A deadline is passed once for each time that the broker delivers the request: what was not known at the first may
    // be known at the second. What is known never changes.
    let hurried = ["failed: deadline_exceeded", "failed: unavailable", "failed: unauthenticated"];
    let hurry = request.hurried || request.expired;
    // What came back to the quarantine again and again cannot be told from what ends sessions.
    let given_up = state.given_up.contains(&request.id);
    let admissible = |verdict: &&String| {
        **verdict == truth || (hurry && hurried.contains(&verdict.as_str())) || (given_up && *verdict == gave_up)
    };
    if !verdicts.iter().all(|verdict| admissible(&verdict)) {
        wrong(&format!("not true, which is {truth}"));
    }
    let early = own.iter().any(|event| {
        let published =
            state.events.iter().filter(|message| message.message_id == event.id).filter_map(|event| event.at);
        verdict(event) == "failed: deadline_exceeded" && published.min() < Some(request.deadline - TOLERANCE)
    });
    if early && !request.expired {
        wrong("answered before its deadline that this was over");
    }
    if verdicts.len() > 1 && !hurry && !given_up {
        wrong("two answers");
    }
    // Where a crash came between the event and the copy, the next delivery may have found out more.
    let failed = own.iter().all(|event| event.data.outcome == "failed");
    if failed && !state.dead.iter().any(|letter| !letter.poison && is_about(letter, request)) {
        wrong("failed, and not kept in the dead queue");
    }
}

fn is_about(letter: &Message, request: &Asked) -> bool {
    let body: serde_json::Value = serde_json::from_slice(&letter.body).unwrap_or_default();
    body["request_id"] == request.id.as_str()
}

/// What the answer has to be, by what became of the operation.
fn truth(operation: &SimulatedOperation) -> String {
    let failed = |reason: &str| format!("failed: {reason}");
    match operation.script {
        Script::Unimplemented => "unimplemented".to_owned(),
        Script::NotFound => failed("not_found"),
        Script::Denied => failed("permission_denied"),
        Script::NotCancellable => failed("not_cancellable"),
        Script::NeverDone => failed("deadline_exceeded"),
        Script::Panics => failed("gave_up"),
        Script::Cancels { .. }
        | Script::Completes { .. }
        | Script::EndsWithItsOwnError { .. }
        | Script::Races { .. } => match operation.ended(Instant::now()) {
            Some(1) => "cancelled".to_owned(),
            Some(_) => "completed".to_owned(),
            None => "not over".to_owned(),
        },
    }
}
