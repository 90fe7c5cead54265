//! Golden messages: what is read from and written to queues, as files. A change of one of them is a change of the contract.
//!
//! `UPDATE_GOLDEN=1 cargo test --test golden` writes the expected files anew; `git diff` then shows what changed.
//! A follow-up of a released version is never changed: later versions have to read it as it is.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails there, in its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cancel_worker::cancellation::{Calls, Conclusion, ErrorDetail, Outcome, Phase, Progress, Reason};
use cancel_worker::message::{
    CancelRequest, Concluded, DeadLetterHeaders, DeadReason, Envelope, EventFormat, EventMode, FollowUp, Identity,
    JsonText, NamePatterns, OperationName, Outgoing, ReceivedEvent, ResultEvent, Unusable,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;

const NOW: OffsetDateTime = datetime!(2026-01-31 12:00:05.25 UTC);
const LIMIT: usize = 8 * 1024;

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(kind)
}

/// The files of a folder that end in `suffix`, by what stands before it.
fn cases(kind: &str, suffix: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder(kind)).expect("a folder of golden files").map(|entry| entry.expect("an entry"));
    let named = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().expect("a UTF-8 name");
        let case = name.strip_suffix(suffix)?.to_owned();
        Some((case, fs::read(entry.path()).expect("a readable file")))
    });
    let cases: BTreeMap<_, _> = named.collect();
    assert!(!cases.is_empty(), "no golden files {kind}/*{suffix}");
    cases
}

fn check(kind: &str, file: &str, actual: &[u8]) {
    let path = folder(kind).join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, actual).expect("a writable golden file");
    }
    let expected = fs::read(&path).unwrap_or_default();
    let (actual, expected) = (String::from_utf8_lossy(actual), String::from_utf8_lossy(&expected));
    assert_eq!(actual, expected, "{} differs", path.display());
}

fn check_json(kind: &str, file: &str, actual: &Value) {
    check(kind, file, format!("{actual:#}\n").as_bytes());
}

/// A published message: its body in one file, byte by byte, and its properties in another.
fn check_message(kind: &str, case: &str, message: &Outgoing) {
    check(kind, &format!("{case}.body.json"), &message.body);
    check_json(kind, &format!("{case}.properties.json"), &shown_properties(message));
}

fn shown_properties(message: &Outgoing) -> Value {
    json!({
        "content_type": message.content_type,
        "message_id": message.message_id,
        "correlation_id": message.correlation_id,
        "type": message.kind,
        "timestamp": shown_time(Some(message.timestamp)),
        "headers": message.headers.iter().cloned().collect::<BTreeMap<_, _>>(),
    })
}

fn shown_time(time: Option<OffsetDateTime>) -> Option<String> {
    time.map(|time| time.format(&Rfc3339).expect("a time"))
}

/// A message as it was delivered.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    #[serde(rename = "about")]
    _about: String,
    #[serde(default)]
    body: String,
    body_hex: Option<String>,
    properties: Properties,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Properties {
    content_type: Option<String>,
    content_encoding: Option<String>,
    message_id: Option<String>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    user_id: Option<String>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    timestamp: Option<OffsetDateTime>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

impl Given {
    fn read(&self) -> Result<CancelRequest, Box<Unusable>> {
        let body = self.body_hex.as_ref().map_or_else(|| self.body.clone().into_bytes(), |hex| bytes(hex));
        let body = Bytes::from(body);
        let properties = &self.properties;
        let envelope = Envelope {
            body: &body,
            shared: Some(&body),
            content_type: properties.content_type.as_deref(),
            content_encoding: properties.content_encoding.as_deref(),
            message_id: properties.message_id.as_deref(),
            correlation_id: properties.correlation_id.as_deref(),
            reply_to: properties.reply_to.as_deref(),
            timestamp: properties.timestamp,
            user_id: properties.user_id.as_deref(),
            headers: properties.headers.iter().map(|(name, value)| (name.as_str(), value.as_str().into())).collect(),
        };
        CancelRequest::read(&envelope, LIMIT, &names())
    }
}

fn names() -> NamePatterns {
    let texts = ["projects/*/locations/*/operations/*", "projects/*/operations/*"];
    NamePatterns::new(texts.map(str::to_owned).into()).expect("patterns")
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).expect("hex"));
    digits.map(|two| u8::from_str_radix(two, 16).expect("hex")).collect()
}

fn shown_request(request: &CancelRequest) -> Value {
    without_nulls(json!({
        "name": request.name.as_str(),
        "request_id": request.details.request_id,
        "deadline": shown_time(request.deadline),
        "timeout": request.timeout.map(|timeout| humantime::format_duration(timeout).to_string()),
        "reason": request.details.reason,
        "requested_by": request.details.requested_by,
        "context_bytes": request.details.context.as_ref().map(JsonText::get),
        "identity": request.identity.as_str(),
        "identity_kind": request.identity.kind().as_str(),
        "replay": Some(request.details.replay).filter(|replay| *replay > 0),
        "user_id": request.details.user_id,
        "correlation_id": request.details.correlation_id,
        "reply_to": request.details.reply_to,
        "requested_at": shown_time(request.details.requested_at),
        "traceparent": request.details.traceparent,
        "tracestate": request.details.tracestate,
    }))
}

fn shown_unusable(request: &Unusable) -> Value {
    without_nulls(json!({
        "problem": request.problem,
        "identity": request.identity.as_ref().map(Identity::as_str),
        "identity_kind": request.identity.as_ref().map(|identity| identity.kind().as_str()),
        "user_id": request.details.user_id,
        "request_id": request.details.request_id,
        "name": request.name,
        "reason": request.details.reason,
        "requested_by": request.details.requested_by,
        "context_bytes": request.details.context.as_ref().map(JsonText::get),
        "correlation_id": request.details.correlation_id,
        "reply_to": request.details.reply_to,
        "requested_at": shown_time(request.details.requested_at),
        "traceparent": request.details.traceparent,
        "tracestate": request.details.tracestate,
    }))
}

fn without_nulls(mut value: Value) -> Value {
    value.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    value
}

fn given(case: &str) -> Given {
    let file = folder("request").join(format!("{case}.given.json"));
    serde_json::from_slice(&fs::read(file).expect("a golden request")).expect("a given message")
}

fn full_request() -> CancelRequest {
    given("json-full").read().expect("a request")
}

fn raw(json: &str) -> Arc<RawValue> {
    Arc::from(RawValue::from_string(json.to_owned()).expect("JSON"))
}

fn polling() -> Progress {
    let error = ErrorDetail { code: Some(14), status: Some("UNAVAILABLE".into()), message: "try again".into() };
    Progress {
        phase: Phase::Polling,
        wait_left: Duration::from_millis(2500),
        age: Some(Duration::from_secs(95)),
        accepted_at: Some(datetime!(2026-01-31 12:00:01.125 UTC)),
        calls: Calls { cancel: 2, get: 3 },
        failures: 1,
        polls: 3,
        last_error: Some(error),
        operation: Some(raw(r#"{ "name": "projects/p/locations/us-central1/operations/o-1", "done": false }"#)),
        ..Progress::new(datetime!(2026-01-31 12:00 UTC), datetime!(2026-01-31 12:30 UTC))
    }
}

fn verifying() -> Progress {
    let error = ErrorDetail { code: Some(9), status: Some("FAILED_PRECONDITION".into()), message: "too late".into() };
    let phase = Phase::Verifying { reason: Reason::NotCancellable, error };
    Progress {
        phase,
        conflicts: 2,
        not_found: 1,
        undecodable: 1,
        renewed: true,
        ..Progress::new(datetime!(2026-01-31 12:00 UTC), datetime!(2026-01-31 13:00 UTC))
    }
}

fn format(mode: EventMode) -> EventFormat {
    EventFormat { type_prefix: "cancel-worker".into(), source: "/cancel-worker".into(), mode }
}

#[test]
fn requests_are_read_as_they_always_were() {
    for (case, file) in cases("request", ".given.json") {
        let given: Given = serde_json::from_slice(&file).unwrap_or_else(|error| panic!("{case}: {error}"));
        let shown = match given.read() {
            Ok(request) => shown_request(&request),
            Err(unusable) => shown_unusable(&unusable),
        };
        assert_eq!(shown.get("problem").is_some(), case.starts_with("unusable-"), "{case}: {shown:#}");
        check_json("request", &format!("{case}.read.json"), &shown);
    }
}

#[test]
fn a_request_is_published_as_it_always_was() {
    check_message("request", "published", &full_request().to_message(NOW));
    let name = OperationName::parse("projects/p/operations/o-1").expect("a name");
    check_message("request", "published-least", &CancelRequest::new(name, None).to_message(NOW));
}

#[test]
fn results_are_written_as_they_always_were() {
    let (request, progress) = (full_request(), polling());
    let done = |outcome, json: &str| (outcome, None, Progress { operation: Some(raw(json)), ..progress.clone() });
    let own = ErrorDetail { code: Some(3), status: Some("INVALID_ARGUMENT".into()), message: "bad \"input\"\n".into() };
    let gone = ErrorDetail { code: Some(5), status: Some("NOT_FOUND".into()), message: "no such operation".into() };
    let fresh = Progress::new(progress.first_seen, progress.deadline);
    let results = [
        ("cancelled", done(Outcome::Cancelled, r#"{"name":"o","done":true,"error":{"code":1,"message":"cancelled"}}"#)),
        ("completed", done(Outcome::Completed, r#"{"name":"o","done":true,"response":{}}"#)),
        ("completed-with-error", (Outcome::Completed, Some(own), progress.clone())),
        (
            "unimplemented",
            (Outcome::Unimplemented, None, Progress { calls: Calls { cancel: 1, get: 0 }, ..fresh.clone() }),
        ),
        (
            "failed",
            (Outcome::Failed(Reason::NotFound), Some(gone), Progress { calls: Calls { cancel: 2, get: 1 }, ..fresh }),
        ),
    ];
    for (case, (outcome, error, progress)) in results {
        let conclusion = Conclusion { outcome, error };
        let event = ResultEvent::concluded(&request, &progress, &conclusion, NOW);
        for (mode, suffix) in [(EventMode::Structured, "structured"), (EventMode::Binary, "binary")] {
            let message = event.encode(&format(mode));
            check_message("result", &format!("{case}.{suffix}"), &message);
            assert_read_back(&message, outcome.as_str());
        }
    }
}

#[test]
fn unusable_requests_are_answered_as_they_always_were() {
    for case in ["unusable-cut-off", "unusable-no-name", "unusable-name-form"] {
        let unusable = given(case).read().expect_err("a problem");
        let event = ResultEvent::unusable(&unusable, NOW).expect("an identity");
        let message = event.encode(&format(EventMode::Structured));
        check_message("result", &format!("{case}.structured"), &message);
        assert_read_back(&message, "failed");
    }
    let unknown = given("unusable-nothing-known").read().expect_err("a problem");
    assert!(ResultEvent::unusable(&unknown, NOW).is_none());
}

#[test]
fn requests_whose_follow_up_cannot_be_read_are_answered_with_what_can() {
    for case in ["unreadable-version", "unreadable-phase", "unreadable-no-name"] {
        let body = fs::read(folder("follow_up").join(format!("{case}.body.json"))).expect("a golden follow-up");
        let unreadable = FollowUp::read(&Envelope { body: &body, ..Envelope::default() }).expect_err("a problem");
        let event = ResultEvent::unreadable_follow_up(&unreadable, NOW).expect("an identity");
        let message = event.encode(&format(EventMode::Structured));
        check_message("result", &format!("{case}.structured"), &message);
        assert_read_back(&message, "failed");
    }
}

fn assert_read_back(message: &Outgoing, outcome: &str) {
    let headers = message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str().into())).collect();
    let content_type = Some(message.content_type);
    let envelope = Envelope { body: &message.body, content_type, headers, ..Envelope::default() };
    let event = ReceivedEvent::read(&envelope).expect("a readable event");
    assert_eq!((event.data.outcome.as_str(), &event.id), (outcome, message.message_id.as_ref().expect("an id")));
    assert_eq!(event.data.error.is_some_and(|error| error.reason.is_some()), outcome == "failed");
}

#[test]
fn follow_ups_are_written_as_they_always_were_and_every_one_ever_written_is_still_read() {
    let least = CancelRequest::new(OperationName::parse("projects/p/operations/o-1").expect("a name"), None);
    for (case, request, progress) in [
        ("v1-polling", full_request(), polling()),
        ("v1-verifying", least.clone(), verifying()),
        ("v1-cancelling", least, Progress::new(NOW, NOW)),
    ] {
        let follow_up = FollowUp { request, progress, quarantined: 0, concluded: None };
        check_message("follow_up", case, &follow_up.encode(NOW).expect("written"));
    }
    let error = Some(ErrorDetail { message: "no such operation".to_owned(), ..ErrorDetail::default() });
    let conclusion = Conclusion { outcome: Outcome::Failed(Reason::NotFound), error };
    let concluded = Some(Concluded { conclusion, finished_at: NOW });
    let concluded = FollowUp { request: full_request(), progress: polling(), quarantined: 2, concluded };
    check_message("follow_up", "v1-concluded", &concluded.encode(NOW).expect("written"));
    for (case, body) in cases("follow_up", ".body.json") {
        let read = FollowUp::read(&Envelope { body: &body, ..Envelope::default() });
        let shown = match read {
            Ok(FollowUp { request, progress, quarantined, concluded }) => {
                let mut shown = json!({
                    "request": shown_request(&request),
                    "progress": progress,
                    "operation_bytes": progress.operation.as_ref().map(|operation| operation.get()),
                });
                if let Some(Concluded { conclusion, finished_at }) = concluded {
                    shown["quarantined"] = quarantined.into();
                    shown["conclusion"] = format!("{conclusion:?}").into();
                    shown["finished_at"] = finished_at.to_string().into();
                }
                shown
            }
            Err(error) => {
                let id = error.request.identity.as_ref().map(|identity| identity.as_str().to_owned());
                let mut shown = json!({ "problem": error.request.problem, "identity": id });
                if let Some(deadline) = error.newer {
                    shown["waits_for_a_newer_worker_until_a_minute_after"] = deadline.to_string().into();
                }
                shown
            }
        };
        assert_eq!(shown.get("problem").is_some(), case.starts_with("unreadable-"), "{case}: {shown:#}");
        check_json("follow_up", &format!("{case}.read.json"), &shown);
    }
}

#[test]
fn a_large_operation_is_not_carried_along() {
    let operation = Some(raw(&format!("{{\"metadata\":\"{}\"}}", "x".repeat(16 * 1024))));
    let follow_up = FollowUp {
        request: full_request(),
        progress: Progress { operation, ..polling() },
        quarantined: 0,
        concluded: None,
    };
    let message = follow_up.encode(NOW).expect("written");
    let read = FollowUp::read(&Envelope { body: &message.body, ..Envelope::default() }).expect("read");
    assert!(read.progress.operation.is_none());
}

#[test]
fn dead_letters_are_marked_as_they_always_were() {
    let unusable = given("unusable-cut-off").read().expect_err("a problem");
    let body = fs::read(folder("follow_up").join("unreadable-version.body.json")).expect("a golden follow-up");
    let unreadable = FollowUp::read(&Envelope { body: &body, ..Envelope::default() }).expect_err("a problem");
    let failed = (DeadReason::Failed, "not_found: no such operation".to_owned(), Some(full_request().identity));
    let letters = [
        (DeadReason::UnusableRequest, unusable.problem, unusable.identity),
        (DeadReason::UnreadableFollowUp, unreadable.request.problem, unreadable.request.identity),
        failed,
        (DeadReason::GaveUp, "gave_up: it ended 10 sessions".to_owned(), Some(full_request().identity)),
    ];
    assert_eq!(letters.each_ref().map(|(reason, ..)| *reason), DeadReason::ALL);
    for (reason, detail, identity) in letters {
        let letter = DeadLetterHeaders { reason, detail, identity, replay: 0, time: NOW, worker: "worker-1".into() };
        check_json("dead_letter", &format!("{}.headers.json", reason.as_str()), &json!(letter.headers()));
    }
    let (reason, detail) = (DeadReason::Failed, "é".repeat(600));
    let letter = DeadLetterHeaders { reason, detail, identity: None, replay: 0, time: NOW, worker: "worker-1".into() };
    check_json("dead_letter", "long-detail.headers.json", &json!(letter.headers()));
}
