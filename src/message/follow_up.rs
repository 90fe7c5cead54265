use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::envelope::{Envelope, Outgoing};
use super::identity::{Identity, IdentityKind, MAX_SHORT_STRING};
use super::json::{BODY, Field, FieldError, FirstError, JsonObject, Location, cut, read_fields};
use super::request::{CancelRequest, RequestBody, Unusable};
use super::timestamp;
use super::trace_context;
use crate::cancellation::{Calls, Conclusion, ErrorDetail, Outcome, Phase, Progress, Reason};

/// The version that is written, and so far the only one that is read.
const VERSION: u32 = 1;

/// Larger operation resources, in bytes, are not carried along: the next get brings one anyway, and an answer without it
/// is better than broker queues full of it.
const MAX_OPERATION: usize = 16 * 1024;

/// Longest part of an error that is repeated, in bytes: it may quote the message.
const MAX_QUOTED_ERROR: usize = 200;

/// Everything in a follow-up.
const FIELDS: [&str; 6] = ["v", "request", "progress", "operation", "quarantined", "conclusion"];

/// The request inside a follow-up.
const REQUEST: Location = Location { whole: "the follow-up's `request`", prefix: "request." };

/// A cancellation that waits in the broker: `{"v":1, "request":…, "progress":…, "operation":…}`, and where there is one
/// `"conclusion":…`, and where it was in the quarantine `"quarantined":…`.
///
/// `request` is the request's JSON form and, beside it, what came in its properties. No header is carried over.
#[derive(Clone, Debug)]
pub struct FollowUp {
    /// The request, as it was read first.
    pub request: CancelRequest,
    /// Where the cancellation stands.
    pub progress: Progress,
    /// How often it has been in the quarantine.
    pub quarantined: u32,
    /// The answer is known, and remains to be published.
    pub concluded: Option<Concluded>,
}

/// An answer that the broker has not taken yet: no call is made again for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concluded {
    /// The answer.
    pub conclusion: Conclusion,
    /// When it became known.
    pub finished_at: OffsetDateTime,
}

/// A follow-up that cannot be read: written by a newer version, or not by a worker at all.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", request.problem)]
pub struct UnreadableFollowUp {
    /// What is wrong with the follow-up, and what can be read of its request in spite of that.
    pub request: Unusable,
    /// The calls that were made, if that much can be read.
    pub calls: Option<Calls>,
    /// The request's deadline, if a newer worker wrote it, for which it can wait.
    pub newer: Option<OffsetDateTime>,
}

/// A follow-up that cannot be written: it has a time outside of the years 0 to 9999, which no working clock gives.
#[derive(Debug, thiserror::Error)]
#[error("write the follow-up: {0}")]
pub struct Unwritable(#[from] serde_json::Error);

impl FollowUp {
    /// The follow-up as a message. Its `message_id` is the request key, its `correlation_id` the request's identity.
    ///
    /// # Errors
    /// A time that RFC 3339 cannot write.
    pub fn encode(&self, now: OffsetDateTime) -> Result<Outgoing, Unwritable> {
        let is_carried = |raw: &&RawValue| self.concluded.is_some() || raw.get().len() <= MAX_OPERATION;
        let operation = self.progress.operation.as_deref().filter(is_carried);
        let mut body = Vec::with_capacity(self.request.size_hint() + operation.map_or(0, |raw| raw.get().len()) + 640);
        let (mut progress, mut conclusion) = (Ok(()), Ok(()));
        JsonObject::write(&mut body, |object| {
            object.number("v", VERSION);
            object.object("request", |request| self.write_request(request));
            progress = serde_json::to_writer(object.value("progress"), &self.progress);
            object.raw("operation", operation.map(RawValue::get));
            if self.quarantined > 0 {
                object.number("quarantined", self.quarantined);
            }
            if let Some(concluded) = &self.concluded {
                conclusion = concluded.write(object.value("conclusion"));
            }
        });
        progress?;
        conclusion?;
        Ok(Outgoing {
            body: body.into(),
            content_type: "application/json",
            message_id: Some(self.request.key().to_string()),
            correlation_id: Some(self.request.identity.as_str().to_owned()),
            kind: None,
            timestamp: now,
            headers: Vec::new(),
        })
    }

    fn write_request(&self, object: &mut JsonObject<'_>) {
        let request = &self.request;
        request.write_fields(object);
        let identity = &request.identity;
        object.text("identity", identity.as_str());
        object.text("identity_kind", identity.kind().as_str());
        object.text("identity_source", identity.event_parts().map(|(source, _)| source));
        if request.details.replay > 0 {
            object.number("replay", request.details.replay);
        }
        object.text("user_id", request.details.user_id.as_deref());
        object.text("correlation_id", request.details.correlation_id.as_deref());
        object.text("reply_to", request.details.reply_to.as_deref());
        object.text("requested_at", request.details.requested_at.map(timestamp::exact).as_deref());
        object.text("traceparent", request.details.traceparent.as_deref());
        object.text("tracestate", request.details.tracestate.as_deref());
    }

    /// Reads a follow-up of this version.
    ///
    /// # Errors
    /// Says what is wrong with it: an unknown version is never guessed at.
    pub fn read(envelope: &Envelope<'_>) -> Result<Self, Box<UnreadableFollowUp>> {
        let mut problem = FirstError::default();
        let text =
            problem.take(str::from_utf8(envelope.body).map_err(|_| FieldError("the body is not UTF-8".to_owned())));
        let (fields, result) = read_fields(text.unwrap_or_default(), BODY, FIELDS);
        problem.take(result);
        let [version, request, progress, operation, quarantined, conclusion] = fields;
        let newer = newer_deadline(version.as_ref(), progress.as_ref(), conclusion.as_ref());
        problem.take(check_version(version));
        let quarantined = quarantined.and_then(|field| problem.take(read_value(&field))).unwrap_or_default();
        let concluded = conclusion.and_then(|field| problem.take(read_value(&field).and_then(Concluded::of)));
        let progress = read_progress(progress, operation, &mut problem);
        let ParsedRequest { identity, mut body } = match problem.take(required("request", request)) {
            Some(request) => read_request(request.raw().get(), envelope.shared, &mut problem),
            None => ParsedRequest::default(),
        };
        match (problem.0, body.name.take(), identity, progress) {
            (None, Some(name), Some(identity), Some(progress)) => {
                let request = CancelRequest::assemble(name, identity, body);
                Ok(Self { request, progress, quarantined, concluded })
            }
            (problem, name, identity, progress) => {
                body.name = name;
                let problem = problem.map_or_else(|| "the follow-up is incomplete".to_owned(), |problem| problem.0);
                let request = Unusable::assemble(problem, identity, body);
                Err(Box::new(UnreadableFollowUp { request, calls: progress.map(|progress| progress.calls), newer }))
            }
        }
    }
}

fn check_version(version: Option<Field<'_>>) -> Result<(), FieldError> {
    let version = required("v", version)?;
    if version.raw().get() == VERSION.to_string() {
        return Ok(());
    }
    Err(version.not(&format!("{VERSION}, the only version that this worker knows")))
}

fn required<'a>(name: &str, field: Option<Field<'a>>) -> Result<Field<'a>, FieldError> {
    field.ok_or_else(|| FieldError(format!("the follow-up has no `{name}`")))
}

fn read_progress(
    progress: Option<Field<'_>>,
    operation: Option<Field<'_>>,
    problem: &mut FirstError,
) -> Option<Progress> {
    let progress = problem.take(required("progress", progress))?;
    let mut progress: Progress = problem.take(read_value(&progress))?;
    progress.operation = operation.map(|field| Arc::<RawValue>::from(field.raw().to_owned()));
    Some(progress)
}

fn read_value<T: DeserializeOwned>(field: &Field<'_>) -> Result<T, FieldError> {
    serde_json::from_str(field.raw().get()).map_err(|error| unreadable(field, &error))
}

fn unreadable(field: &Field<'_>, error: &serde_json::Error) -> FieldError {
    field.problem(&format!("cannot be read: {}", cut(&error.to_string(), MAX_QUOTED_ERROR).escape_debug()))
}

/// The form of an answer that waits.
#[derive(Serialize, Deserialize)]
struct ConclusionForm {
    outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<ErrorDetail>,
    #[serde(with = "time::serde::rfc3339")]
    finished_at: OffsetDateTime,
}

impl Concluded {
    fn write(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        let Conclusion { outcome, error } = &self.conclusion;
        let reason = if let Outcome::Failed(reason) = outcome { Some(*reason) } else { None };
        let (outcome, error) = (outcome.as_str().to_owned(), error.clone());
        serde_json::to_writer(out, &ConclusionForm { outcome, reason, error, finished_at: self.finished_at })
    }

    fn of(form: ConclusionForm) -> Result<Self, FieldError> {
        let ConclusionForm { outcome, reason, error, finished_at } = form;
        let unknown =
            || FieldError(format!("the follow-up's conclusion is {:?}, which is no outcome", cut(&outcome, 40)));
        let outcome = Outcome::of(&outcome, reason).ok_or_else(unknown)?;
        Ok(Self { conclusion: Conclusion { outcome, error }, finished_at })
    }
}

/// What every version keeps readable of `progress`, and the words in it that a newer one may add to.
#[derive(Deserialize)]
struct KeptProgress {
    #[serde(with = "time::serde::rfc3339")]
    deadline: OffsetDateTime,
    phase: Option<String>,
    reason: Option<String>,
}

/// The words in a conclusion that a newer version may add to.
#[derive(Deserialize)]
struct KeptConclusion {
    outcome: Option<String>,
    reason: Option<String>,
}

/// The deadline of what a newer worker wrote: another version, or a word that this one does not know. It is not this
/// worker's to judge.
fn newer_deadline(
    version: Option<&Field<'_>>,
    progress: Option<&Field<'_>>,
    conclusion: Option<&Field<'_>>,
) -> Option<OffsetDateTime> {
    let progress: KeptProgress = serde_json::from_str(progress?.raw().get()).ok()?;
    let conclusion = conclusion.and_then(|field| serde_json::from_str::<KeptConclusion>(field.raw().get()).ok());
    let (outcome, reason) = conclusion.map_or((None, None), |conclusion| (conclusion.outcome, conclusion.reason));
    let is_word = |reason: &String| Reason::ALL.iter().all(|known| known.as_str() != reason);
    let is_newer = version?.raw().get().parse::<u32>().is_ok_and(|version| version != VERSION)
        || progress.phase.is_some_and(|phase| !Phase::WORDS.contains(&phase.as_str()))
        || outcome.is_some_and(|outcome| !Outcome::WORDS.contains(&outcome.as_str()))
        || [progress.reason, reason].iter().flatten().any(is_word);
    is_newer.then_some(progress.deadline)
}

/// A request, as far as it has been read.
#[derive(Default)]
struct ParsedRequest {
    identity: Option<Identity>,
    body: RequestBody,
}

fn read_request(json: &str, message: Option<&Bytes>, problem: &mut FirstError) -> ParsedRequest {
    let names = [
        "identity",
        "identity_kind",
        "identity_source",
        "replay",
        "user_id",
        "correlation_id",
        "reply_to",
        "requested_at",
        "traceparent",
        "tracestate",
    ];
    let (fields, result) = read_fields(json, REQUEST, names);
    problem.take(result);
    let [identity, kind, source, replay, user_id, correlation_id, reply_to, requested_at, traceparent, tracestate] =
        fields;
    // Its name was admitted when it was requested. Whether it still is, the client of the API checks.
    let mut body = RequestBody::from_json(json, REQUEST, None, message, problem);
    let mut text =
        |field: Option<Field<'_>>, limit| field.and_then(|field| problem.take(field.text(limit))).map(Cow::into_owned);
    let details = &mut body.details;
    details.user_id = text(user_id, MAX_SHORT_STRING);
    details.correlation_id = text(correlation_id, MAX_SHORT_STRING);
    details.reply_to = text(reply_to, MAX_SHORT_STRING);
    details.traceparent = text(traceparent, trace_context::MAX_BYTES);
    details.tracestate = text(tracestate, trace_context::MAX_BYTES);
    let (kind, source) = (text(kind, MAX_SHORT_STRING), text(source, MAX_SHORT_STRING));
    details.requested_at = requested_at.and_then(|field| problem.take(field.time()));
    details.replay = replay.and_then(|field| problem.take(read_value(&field))).unwrap_or_default();
    let identity = problem.take(required("request.identity", identity).and_then(|field| field.text(MAX_SHORT_STRING)));
    let identity = identity.and_then(|text| {
        let identity = read_identity(&text, kind.as_deref(), source.as_deref(), &body);
        problem.take(identity.ok_or_else(|| FieldError(UNKNOWN_IDENTITY.to_owned())))
    });
    if body.name.is_none() {
        problem.note(FieldError("the follow-up has no `request.name`".to_owned()));
    }
    ParsedRequest { identity, body }
}

const UNKNOWN_IDENTITY: &str = "the follow-up's `request.identity` is of no kind that this worker knows";

/// What a request is known by. Follow-ups of before the first release name no kind: it is what the request shows.
fn read_identity(text: &str, kind: Option<&str>, source: Option<&str>, body: &RequestBody) -> Option<Identity> {
    if let Some(kind) = kind {
        let kind = IdentityKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
        return Identity::restored(kind, text, source);
    }
    Some(if body.details.request_id.is_some() {
        Identity::of_request_id(text)
    } else if body.name_as_given() == Some(text) {
        Identity::of_name(text)
    } else {
        match text.split_once(' ') {
            Some((source, id)) => Identity::of_event(source, id),
            None => Identity::of_message_id(text),
        }
    })
}
