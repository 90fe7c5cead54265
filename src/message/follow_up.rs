use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::cancel_request::CancelRequest;
use super::envelope::{Envelope, Outgoing};
use super::field::{BODY, Field, Place, gather};
use super::identity::{Identity, MAX_SHORT_STRING};
use super::json_object::JsonObject;
use super::problem::{FirstProblem, Problem, cut};
use super::request_body::RequestBody;
use super::timestamp;
use super::trace_context;
use crate::cancellation::Progress;

/// The version that is written. A reader takes its own version and the one before it.
const VERSION: u32 = 1;

/// Larger operation resources, in bytes, are not carried along: the next get brings one anyway, and an answer without it
/// is better than broker queues full of it.
const MAX_OPERATION: usize = 16 * 1024;

/// Longest part of an error that is repeated, in bytes: it may quote the message.
const MAX_WORDS: usize = 200;

/// The request inside a follow-up.
const REQUEST: Place = Place { whole: "the follow-up's `request`", prefix: "request." };

/// A cancellation that waits in the broker: `{"v":1, "request":…, "progress":…, "operation":…}`.
///
/// `request` is the request's JSON form and, beside it, what came in its properties. No header is carried over.
#[derive(Clone, Debug)]
pub struct FollowUp {
    /// The request, as it was read first.
    pub request: CancelRequest,
    /// Where the cancellation stands.
    pub progress: Progress,
}

/// A follow-up that cannot be read: written by a newer version, or not by a worker at all.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{problem}")]
pub struct UnreadableFollowUp {
    /// A sentence: what is wrong, and where.
    pub problem: String,
    /// What the request is known by, if that much can be read.
    pub identity: Option<Identity>,
}

/// A follow-up that cannot be written: it has a time outside of the years 0 to 9999, which no working clock gives.
#[derive(Debug, thiserror::Error)]
#[error("write the follow-up: {0}")]
pub struct Unwritable(#[from] serde_json::Error);

impl FollowUp {
    /// The follow-up as a message. Its `message_id` is the result event's id, its `correlation_id` the request's identity.
    ///
    /// # Errors
    /// A time that RFC 3339 cannot write.
    pub fn encode(&self, now: OffsetDateTime) -> Result<Outgoing, Unwritable> {
        let operation = self.progress.operation.as_deref().filter(|raw| raw.get().len() <= MAX_OPERATION);
        let mut body = Vec::with_capacity(self.request.size_hint() + operation.map_or(0, |raw| raw.get().len()) + 640);
        let mut progress = Ok(());
        JsonObject::write(&mut body, |object| {
            object.number("v", VERSION);
            object.object("request", |request| self.write_request(request));
            progress = serde_json::to_writer(object.value("progress"), &self.progress);
            object.raw("operation", operation);
        });
        progress?;
        Ok(Outgoing {
            body,
            content_type: "application/json",
            message_id: self.request.identity.event_id().to_string(),
            correlation_id: Some(self.request.identity.as_str().to_owned()),
            kind: None,
            timestamp: now,
            headers: Vec::new(),
        })
    }

    fn write_request(&self, object: &mut JsonObject<'_>) {
        let request = &self.request;
        request.write_fields(object);
        object.text("identity", request.identity.as_str());
        object.text("correlation_id", request.correlation_id.as_deref());
        object.text("reply_to", request.reply_to.as_deref());
        object.text("requested_at", request.requested_at.map(timestamp::exact).as_deref());
        object.text("traceparent", request.traceparent.as_deref());
        object.text("tracestate", request.tracestate.as_deref());
    }

    /// Reads a follow-up of this version or the one before it.
    ///
    /// # Errors
    /// Says what is wrong with it: an unknown version is never guessed at.
    pub fn read(envelope: &Envelope<'_>) -> Result<Self, UnreadableFollowUp> {
        let mut problem = FirstProblem::default();
        let text = problem.take(str::from_utf8(envelope.body).map_err(|_| Problem("the body is not UTF-8".to_owned())));
        let (fields, result) = gather(text.unwrap_or_default(), BODY, ["v", "request", "progress", "operation"]);
        problem.take(result);
        let [version, request, progress, operation] = fields;
        problem.take(check_version(version));
        let progress = read_progress(progress, operation, &mut problem);
        let (identity, request) = match problem.take(required("request", request)) {
            Some(request) => read_request(request.raw().get(), &mut problem),
            None => (None, None),
        };
        match (problem.0, request, progress) {
            (None, Some(request), Some(progress)) => Ok(Self { request, progress }),
            (problem, ..) => {
                let problem = problem.map_or_else(|| "the follow-up is incomplete".to_owned(), |problem| problem.0);
                Err(UnreadableFollowUp { problem, identity })
            }
        }
    }
}

fn check_version(version: Option<Field<'_>>) -> Result<(), Problem> {
    let version = required("v", version)?;
    if version.raw().get() == VERSION.to_string() {
        return Ok(());
    }
    Err(version.not(&format!("{VERSION}, the only version that this worker knows")))
}

fn required<'a>(name: &str, field: Option<Field<'a>>) -> Result<Field<'a>, Problem> {
    field.ok_or_else(|| Problem(format!("the follow-up has no `{name}`")))
}

fn read_progress(
    progress: Option<Field<'_>>,
    operation: Option<Field<'_>>,
    problem: &mut FirstProblem,
) -> Option<Progress> {
    let progress = problem.take(required("progress", progress))?;
    let read = serde_json::from_str::<Progress>(progress.raw().get());
    let mut progress = problem.take(read.map_err(|error| unreadable(&progress, &error)))?;
    progress.operation = operation.map(|field| Arc::<RawValue>::from(field.raw().to_owned()));
    Some(progress)
}

fn unreadable(progress: &Field<'_>, error: &serde_json::Error) -> Problem {
    progress.problem(&format!("cannot be read: {}", cut(&error.to_string(), MAX_WORDS).escape_debug()))
}

/// The identity comes apart from the request: it may be all that can be read.
fn read_request(json: &str, problem: &mut FirstProblem) -> (Option<Identity>, Option<CancelRequest>) {
    let names = ["identity", "correlation_id", "reply_to", "requested_at", "traceparent", "tracestate"];
    let (fields, result) = gather(json, REQUEST, names);
    problem.take(result);
    let [identity, correlation_id, reply_to, requested_at, traceparent, tracestate] = fields;
    // Its name was admitted when it was requested. Whether it still is, the client of the API checks.
    let body = RequestBody::from_json(json, REQUEST, None, problem);
    let mut text =
        |field: Option<Field<'_>>, limit| field.and_then(|field| problem.take(field.text(limit))).map(Cow::into_owned);
    let correlation_id = text(correlation_id, MAX_SHORT_STRING);
    let reply_to = text(reply_to, MAX_SHORT_STRING);
    let traceparent = text(traceparent, trace_context::MAX_BYTES);
    let tracestate = text(tracestate, trace_context::MAX_BYTES);
    let requested_at = requested_at.and_then(|field| problem.take(field.time()));
    let identity = problem.take(required("request.identity", identity).and_then(|field| field.text(MAX_SHORT_STRING)));
    let identity = identity.map(Identity::new);
    if body.name.is_none() {
        problem.note(Problem("the follow-up has no `request.name`".to_owned()));
    }
    let request = body.name.zip(identity.clone()).map(|(name, identity)| CancelRequest {
        name,
        request_id: body.request_id,
        deadline: body.deadline,
        timeout: body.timeout,
        reason: body.reason,
        requested_by: body.requested_by,
        context: body.context,
        identity,
        correlation_id,
        reply_to,
        requested_at,
        traceparent,
        tracestate,
    });
    (identity, request)
}
