use std::fmt::Display;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use fastrand::Rng;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use time::OffsetDateTime;
use time::macros::datetime;

use cancel_worker::cancellation::{Progress, Reply};
use cancel_worker::message::{
    CancelRequest, Envelope, EventFormat, EventMode, FollowUp, NamePatterns, OperationName, Outgoing, ReceivedEvent,
    RequestKey, ResultEvent,
};
use cancel_worker::operations_api::{Call, classify};

use crate::mutator::text;

const NOW: OffsetDateTime = datetime!(2026-01-31 12:00 UTC);
const LIMIT: usize = 64 * 1024;
/// The longest sentence about what is wrong: what a dead letter's header holds.
const LONGEST_REASON: usize = 1024;

static NAMES: LazyLock<NamePatterns> = LazyLock::new(|| {
    let patterns = ["projects/*/locations/*/operations/*", "projects/*/operations/*"];
    NamePatterns::new(patterns.map(str::to_owned).into()).expect("patterns")
});

/// A decoder, what to begin with, and what has to hold of each input.
pub struct Decoder {
    pub name: &'static str,
    pub corpus: Vec<Vec<u8>>,
    /// Whether the input was understood; else it was refused with a reason. An error is a violation.
    pub check: fn(&mut Rng, &[u8]) -> Result<bool, String>,
}

pub fn all() -> Vec<Decoder> {
    let golden = |kind: &str| files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(kind));
    let bodies = |kind: &str| golden(kind).into_iter().filter(|(name, _)| name.ends_with(".body.json"));
    let requests = golden("request").into_iter().filter_map(|(name, file)| {
        let given: serde_json::Value = serde_json::from_slice(&file).ok()?;
        name.ends_with(".given.json").then(|| given["body"].as_str().map(|body| body.as_bytes().to_vec())).flatten()
    });
    let replies = [
        r#"{"name":"projects/p/locations/l/operations/o","done":true,"error":{"code":1,"message":"cancelled"}}"#,
        r#"{"name":"projects/p/locations/l/operations/o","metadata":{"@type":"t"},"done":false}"#,
        r#"{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"3.5s"}]}}"#,
        r#"{"error":{"code":403,"message":"no","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"RATE_LIMIT_EXCEEDED"}]}}"#,
        "{}",
        "<!DOCTYPE html><title>Error 404</title>",
    ];
    vec![
        Decoder { name: "request", corpus: requests.collect(), check: request },
        Decoder { name: "follow-up", corpus: bodies("follow_up").map(|(_, body)| body).collect(), check: follow_up },
        Decoder { name: "event", corpus: bodies("result").map(|(_, body)| body).collect(), check: event },
        Decoder { name: "reply", corpus: replies.map(|body| body.as_bytes().to_vec()).into(), check: reply },
    ]
}

/// Files of a folder by name; none where there is no such folder.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, std::fs::read(entry.path()).ok()?)))
        .collect();
    files.sort();
    files
}

fn request(dice: &mut Rng, body: &[u8]) -> Result<bool, String> {
    let usual_type =
        dice.choice(["application/json", "application/cloudevents+json", "text/plain"]).unwrap_or_default();
    let content_type = text(dice, usual_type);
    let properties = ["m-1", "c-1", "amq.rabbitmq.reply-to.g1"].map(|usual| text(dice, usual));
    let binary = dice.u8(..4) == 0;
    let headers: Vec<(&str, String)> = [
        ("cloudEvents:specversion", "1.0"),
        ("cloudEvents:id", "e-1"),
        ("cloudEvents:source", "/s"),
        ("cloudEvents_type", "t"),
        ("cloudEvents:time", "2026-01-31T11:59:58Z"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("tracestate", "a=b"),
    ]
    .into_iter()
    .filter_map(|(name, usual)| Some((name, text(dice, usual)?)))
    .filter(|(name, _)| binary || !name.starts_with("cloud"))
    .collect();
    let [message_id, correlation_id, reply_to] = &properties;
    let envelope = Envelope {
        body,
        shared: None,
        content_type: content_type.as_deref(),
        content_encoding: None,
        message_id: message_id.as_deref(),
        correlation_id: correlation_id.as_deref(),
        reply_to: reply_to.as_deref(),
        timestamp: Some(NOW).filter(|_| dice.bool()),
        user_id: None,
        headers: headers.iter().map(|(name, value)| (*name, value.as_str().into())).collect(),
    };
    match CancelRequest::read(&envelope, LIMIT, &NAMES) {
        Ok(request) => {
            let name = request.name.as_str();
            let safe = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
            // What has a meaning in URLs is escaped when one is made: see the tests of endpoints.
            if !name.split('/').all(safe) || !name.starts_with("projects/") || name.chars().any(char::is_control) {
                return Err(format!("admitted the name {name:?}"));
            }
            let deadline = request.deadline_terms(Duration::from_secs(3600), Duration::from_secs(86_400)).deadline(NOW);
            carried(&FollowUp { request, progress: Progress::new(NOW, deadline), quarantined: 0, concluded: None })?;
            Ok(true)
        }
        Err(unusable) => {
            reason(&unusable.problem)?;
            if let Some(event) = ResultEvent::unusable(&unusable, NOW) {
                readable(&event, unusable.key())?;
            }
            Ok(false)
        }
    }
}

fn follow_up(_: &mut Rng, body: &[u8]) -> Result<bool, String> {
    match FollowUp::read(&Envelope { body, ..Envelope::default() }) {
        Ok(read) => carried(&read).map(|()| true),
        Err(unreadable) => {
            reason(&unreadable)?;
            if let Some(event) = ResultEvent::unreadable_follow_up(&unreadable, NOW) {
                readable(&event, unreadable.request.key())?;
            }
            Ok(false)
        }
    }
}

/// What is written comes back as it was, and its event can be read.
fn carried(follow_up: &FollowUp) -> Result<(), String> {
    let FollowUp { request, progress, quarantined, concluded } = follow_up;
    let written = follow_up.encode(NOW).map_err(|error| format!("cannot be written: {error}"))?;
    let again = FollowUp::read(&Envelope { body: &written.body, ..Envelope::default() })
        .map_err(|error| format!("cannot be read again: {error}"))?;
    let shown = |request: &CancelRequest| format!("{request:?}");
    if shown(request) != shown(&again.request) {
        return Err(format!("another request comes back: {} from {}", shown(&again.request), shown(request)));
    }
    if progress.phase != again.progress.phase || progress.calls != again.progress.calls {
        return Err(format!("another progress comes back: {:?} from {progress:?}", again.progress));
    }
    if (*quarantined, concluded) != (again.quarantined, &again.concluded) {
        return Err(format!("another conclusion comes back: {:?} from {concluded:?}", again.concluded));
    }
    short_strings(&written)?;
    short_strings(&request.to_message(NOW))
}

fn short_strings(message: &Outgoing) -> Result<(), String> {
    let texts = [message.message_id.as_ref(), message.correlation_id.as_ref(), message.kind.as_ref()];
    match texts.into_iter().flatten().find(|text| text.len() > 255) {
        Some(text) => Err(format!("a property of {} bytes", text.len())),
        None => Ok(()),
    }
}

fn readable(event: &ResultEvent<'_>, key: Option<RequestKey>) -> Result<(), String> {
    let key = key.map(|key| key.to_string());
    for mode in [EventMode::Structured, EventMode::Binary] {
        let format = EventFormat { type_prefix: "t".to_owned(), source: "/s".to_owned(), mode };
        let message = event.encode(&format);
        short_strings(&message)?;
        let headers = message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str().into())).collect();
        let content_type = Some(message.content_type);
        let envelope = Envelope { body: &message.body, content_type, headers, ..Envelope::default() };
        let read = ReceivedEvent::read(&envelope).map_err(|error| format!("its event cannot be read: {error}"))?;
        if Some(&read.request_key) != key.as_ref()
            || Some(&read.id) != message.message_id.as_ref()
            || read.data.outcome != "failed"
        {
            return Err(format!("its event is {read:?}"));
        }
    }
    Ok(())
}

fn event(dice: &mut Rng, body: &[u8]) -> Result<bool, String> {
    let content_type = text(dice, "application/cloudevents+json");
    let envelope = Envelope { body, content_type: content_type.as_deref(), ..Envelope::default() };
    match ReceivedEvent::read(&envelope) {
        Ok(_) => Ok(true),
        Err(error) if error.to_string().is_empty() => Err("no reason".to_owned()),
        Err(_) => Ok(false),
    }
}

fn reply(dice: &mut Rng, body: &[u8]) -> Result<bool, String> {
    let call = if dice.bool() { Call::Cancel } else { Call::Get };
    let usual = dice.choice([200, 200, 204, 302, 400, 401, 403, 404, 409, 411, 429, 499, 500, 501, 503]).unwrap_or(200);
    let status = StatusCode::from_u16(if dice.u8(..5) == 0 { dice.u16(100..1000) } else { usual }).unwrap_or_default();
    let mut headers = HeaderMap::new();
    for (name, value) in [("retry-after", "7"), ("retry-after", "Sat, 31 Jan 2026 12:00:10 GMT"), ("location", "/x")] {
        let value = text(dice, value).and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
        if let Some(value) = value.filter(|_| dice.bool()) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    let name = OperationName::parse("projects/p/operations/o").map_err(|error| error.to_string())?;
    match classify(call, &name, status, &headers, body, NOW) {
        Reply::Accepted if call == Call::Cancel && status.is_success() => Ok(true),
        Reply::Operation(operation) if call == Call::Get && status.is_success() => {
            let read: serde_json::Value = serde_json::from_str(operation.resource.get())
                .map_err(|error| format!("a resource that is no JSON: {error}"))?;
            let done = read["done"].as_bool().unwrap_or(false);
            if done == operation.done { Ok(true) } else { Err(format!("done is {done} in {read}")) }
        }
        Reply::Undecodable { detail } if call == Call::Get && status.is_success() => reason(&detail).map(|()| false),
        Reply::Failure(failure) if !status.is_success() => {
            reason(&failure.error.message)?;
            match failure.retry_after {
                Some(wait) if wait > Duration::from_secs(24 * 3600) => Err(format!("would wait {wait:?}")),
                _ => Ok(false),
            }
        }
        other => Err(format!("{call:?} answered with {status} is {other:?}")),
    }
}

/// A sentence for a person: something, not too much, in one line.
fn reason(problem: &impl Display) -> Result<(), String> {
    let problem = problem.to_string();
    if problem.is_empty() || problem.len() > LONGEST_REASON + 512 || problem.chars().any(char::is_control) {
        return Err(format!("a bad reason ({} bytes): {problem:?}", problem.len()));
    }
    Ok(())
}
