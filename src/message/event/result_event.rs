use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::cancellation::{Calls, Conclusion, ErrorDetail, Outcome, Progress, Reason};
use crate::message::cloud_event::{self, STRUCTURED_UTF8};
use crate::message::envelope::Outgoing;
use crate::message::follow_up::UnreadableFollowUp;
use crate::message::identity::{Identity, MAX_SHORT_STRING};
use crate::message::json::{JsonObject, JsonText};
use crate::message::request::{CancelRequest, RequestContext, Unusable};
use crate::message::request_key::RequestKey;
use crate::message::timestamp;
use crate::message::trace_context;

/// How result events are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFormat {
    /// Event types are `{type_prefix}.operation.{outcome}`.
    pub type_prefix: String,
    /// CloudEvents `source`: a URI reference that names the deployment.
    pub source: String,
    /// Content mode.
    pub mode: EventMode,
}

/// CloudEvents content modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventMode {
    /// The whole event is the body, as `application/cloudevents+json`.
    Structured,
    /// Attributes are headers `cloudEvents:*`, the data is the body.
    Binary,
}

/// Longest context of an event in its least form, in bytes.
const MAX_LEAST_CONTEXT: usize = 4096;

/// The one answer to a request, before it is written.
#[derive(Clone, Debug)]
pub struct ResultEvent<'a> {
    key: RequestKey,
    identity: &'a Identity,
    details: &'a RequestContext,
    name: Option<&'a str>,
    outcome: Outcome,
    operation: Option<&'a RawValue>,
    context: Option<&'a JsonText>,
    error: Option<ErrorView<'a>>,
    accepted_at: Option<OffsetDateTime>,
    finished_at: OffsetDateTime,
    /// Unknown where the only note of them cannot be read.
    attempts: Option<Calls>,
}

/// The `error` of the data.
#[derive(Clone, Copy, Debug)]
struct ErrorView<'a> {
    /// For *failed*.
    reason: Option<Reason>,
    code: Option<i32>,
    status: Option<&'a str>,
    message: &'a str,
}

impl<'a> ResultEvent<'a> {
    /// The answer to a request that was carried through.
    #[must_use]
    pub fn concluded(
        request: &'a CancelRequest,
        progress: &'a Progress,
        conclusion: &'a Conclusion,
        finished_at: OffsetDateTime,
    ) -> Self {
        Self {
            operation: progress.operation.as_deref(),
            accepted_at: progress.accepted_at,
            attempts: Some(progress.calls),
            ..Self::given_up(request, conclusion, finished_at)
        }
    }

    /// The answer to a request of which nothing is known but that nobody carried it through.
    #[must_use]
    pub fn given_up(request: &'a CancelRequest, conclusion: &'a Conclusion, finished_at: OffsetDateTime) -> Self {
        Self {
            key: request.key(),
            identity: &request.identity,
            details: &request.details,
            name: Some(request.name.as_str()),
            outcome: conclusion.outcome,
            operation: None,
            context: request.details.context.as_ref(),
            error: ErrorView::of(conclusion.outcome, conclusion.error.as_ref()),
            accepted_at: None,
            finished_at,
            attempts: None,
        }
    }

    /// The answer to a request that could not be used; `None` where nothing tells whose it is.
    #[must_use]
    pub fn unusable(request: &'a Unusable, finished_at: OffsetDateTime) -> Option<Self> {
        Self::unread(request, Reason::UnusableRequest, Some(Calls::default()), finished_at)
    }

    /// The answer to a request whose follow-up cannot be read; `None` where nothing tells whose it is.
    #[must_use]
    pub fn unreadable_follow_up(follow_up: &'a UnreadableFollowUp, finished_at: OffsetDateTime) -> Option<Self> {
        Self::unread(&follow_up.request, Reason::UnreadableFollowUp, follow_up.calls, finished_at)
    }

    fn unread(
        request: &'a Unusable,
        reason: Reason,
        attempts: Option<Calls>,
        finished_at: OffsetDateTime,
    ) -> Option<Self> {
        Some(Self {
            key: request.key()?,
            identity: request.identity.as_ref()?,
            details: &request.details,
            name: request.name.as_deref(),
            outcome: Outcome::Failed(reason),
            operation: None,
            context: request.details.context.as_ref(),
            error: Some(ErrorView { reason: Some(reason), code: None, status: None, message: &request.problem }),
            accepted_at: None,
            finished_at,
            attempts,
        })
    }

    /// The event as a message. Its `correlation_id` is the request's, else the request's identity.
    #[must_use]
    pub fn encode(&self, format: &EventFormat) -> Outgoing {
        let id = self.key.event_id(self.outcome).to_string();
        let key = self.key.to_string();
        let kind = format!("{}.operation.{}", format.type_prefix, self.outcome.as_str());
        let time = timestamp::millis(self.finished_at);
        let attributes = [
            ("specversion", Some("1.0")),
            ("id", Some(id.as_str())),
            ("source", Some(format.source.as_str())),
            ("type", Some(kind.as_str())),
            ("subject", self.name),
            ("time", Some(time.as_str())),
            ("requestkey", Some(key.as_str())),
        ];
        let mut body = Vec::with_capacity(self.size_hint());
        let mut headers =
            trace_context::headers(self.details.traceparent.as_deref(), self.details.tracestate.as_deref());
        let content_type = match format.mode {
            EventMode::Structured => {
                JsonObject::write(&mut body, |event| {
                    attributes.into_iter().for_each(|(name, value)| event.text(name, value));
                    event.text("datacontenttype", "application/json");
                    event.object("data", |data| self.write_data(data));
                });
                STRUCTURED_UTF8
            }
            EventMode::Binary => {
                JsonObject::write(&mut body, |data| self.write_data(data));
                let header = |(name, value): (_, Option<&str>)| Some(cloud_event::header(name, value?));
                headers.extend(attributes.into_iter().filter_map(header));
                "application/json"
            }
        };
        Outgoing {
            body: body.into(),
            content_type,
            message_id: Some(id),
            correlation_id: Some(
                self.details.correlation_id.as_deref().unwrap_or_else(|| self.identity.as_str()).to_owned(),
            ),
            kind: Some(kind).filter(|kind| kind.len() <= MAX_SHORT_STRING),
            timestamp: self.finished_at,
            headers,
        }
    }

    /// The same answer in its least form, for what may be too large for the broker: without the operation, and without a
    /// context of more than 4 KiB.
    #[must_use]
    pub fn encode_least(&self, format: &EventFormat) -> Outgoing {
        let context = self.context.filter(|context| context.size() <= MAX_LEAST_CONTEXT);
        Self { operation: None, context, ..self.clone() }.encode(format)
    }

    /// The event's data alone, as a line of JSON without its end.
    #[must_use]
    pub fn data(&self) -> Vec<u8> {
        let mut data = Vec::with_capacity(self.size_hint());
        JsonObject::write(&mut data, |object| self.write_data(object));
        data
    }

    fn write_data(&self, data: &mut JsonObject<'_>) {
        data.text("request_id", self.details.request_id.as_deref());
        data.text("name", self.name);
        data.text("outcome", self.outcome.as_str());
        data.raw("operation", self.operation.map(RawValue::get));
        if let Some(error) = self.error {
            data.object("error", |object| error.write(object));
        }
        data.text("requested_at", self.details.requested_at.map(timestamp::millis).as_deref());
        data.text("accepted_at", self.accepted_at.map(timestamp::millis).as_deref());
        data.text("finished_at", timestamp::millis(self.finished_at).as_str());
        if let Some(calls) = self.attempts {
            data.object("attempts", |attempts| {
                attempts.number("cancel", calls.cancel);
                attempts.number("get", calls.get);
            });
        }
        data.number("replay", self.details.replay);
        data.text("user_id", self.details.user_id.as_deref());
        data.text("requested_by", self.details.requested_by.as_deref());
        data.text("reason", self.details.reason.as_deref());
        data.raw("context", self.context.map(JsonText::get));
    }

    /// About as many bytes as the body has.
    fn size_hint(&self) -> usize {
        let words = [
            self.details.request_id.as_deref(),
            self.name,
            self.name,
            self.details.requested_by.as_deref(),
            self.details.reason.as_deref(),
            self.error.map(|e| e.message),
        ];
        let words: usize = words.into_iter().flatten().map(str::len).sum();
        let (operation, context) =
            (self.operation.map_or(0, |raw| raw.get().len()), self.context.map_or(0, JsonText::size));
        operation + context + words + 640
    }
}

impl<'a> ErrorView<'a> {
    /// A failure always has an error, for its reason; *completed* has the operation's own, if there is one.
    fn of(outcome: Outcome, error: Option<&'a ErrorDetail>) -> Option<Self> {
        let reason = if let Outcome::Failed(reason) = outcome { Some(reason) } else { None };
        match error {
            Some(error) => {
                Some(Self { reason, code: error.code, status: error.status.as_deref(), message: &error.message })
            }
            None => Some(Self { reason: Some(reason?), code: None, status: None, message: "" }),
        }
    }

    fn write(&self, object: &mut JsonObject<'_>) {
        object.text("reason", self.reason.map(Reason::as_str));
        if let Some(code) = self.code {
            object.number("code", code);
        }
        object.text("status", self.status);
        object.text("message", self.message);
    }
}
