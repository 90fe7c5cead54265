use std::time::Duration;

use time::OffsetDateTime;

use super::request_body::RequestBody;
use super::request_context::RequestContext;
use crate::cancellation::DeadlineTerms;
use crate::message::cloud_event;
use crate::message::envelope::Outgoing;
use crate::message::identity::{Identity, IdentityKind};
use crate::message::json::{JsonObject, JsonText};
use crate::message::operation_name::OperationName;
use crate::message::request_key::RequestKey;
use crate::message::timestamp;
use crate::message::trace_context;

/// The CloudEvents `type` of a request that is published again: its own is not kept, and nobody reads it.
const EVENT_TYPE: &str = "cancel-worker.request";

/// "Cancel this operation", as upstream published it.
#[derive(Clone, Debug)]
pub struct CancelRequest {
    /// The operation.
    pub name: OperationName,
    /// When an answer is wanted, whatever it is. UTC.
    pub deadline: Option<OffsetDateTime>,
    /// How long after the request is first seen an answer is wanted.
    pub timeout: Option<Duration>,
    /// What the request is known by.
    pub identity: Identity,
    /// What goes with its answer.
    pub details: RequestContext,
}

impl CancelRequest {
    /// A request for an operation that says nothing else. It is known by its id, else by the operation's name.
    #[must_use]
    pub fn new(name: OperationName, request_id: Option<String>) -> Self {
        let of_name = || Identity::of_name(name.as_str());
        let identity = request_id.as_deref().map_or_else(of_name, Identity::of_request_id);
        let details = RequestContext { request_id, ..RequestContext::default() };
        Self { name, deadline: None, timeout: None, identity, details }
    }

    /// A request of the parts that were read.
    pub(in crate::message) fn assemble(name: OperationName, identity: Identity, body: RequestBody) -> Self {
        Self { name, deadline: body.deadline, timeout: body.timeout, identity, details: body.details }
    }

    /// The same for every answer to this request, and of no other.
    #[must_use]
    pub fn key(&self) -> RequestKey {
        RequestKey::new(&self.identity, Some(self.name.as_str()), self.details.replay)
    }

    /// When an answer is given whatever is known by then: the earlier of `deadline` and `timeout`; with neither,
    /// `default_timeout` after the request was first seen. Never later than `max_timeout` after that.
    #[must_use]
    pub fn deadline_terms(&self, default_timeout: Duration, max_timeout: Duration) -> DeadlineTerms {
        let unsaid = if self.deadline.is_some() { max_timeout } else { default_timeout };
        DeadlineTerms { at: self.deadline, timeout: self.timeout.unwrap_or(unsaid).min(max_timeout) }
    }

    /// The request as upstream would publish it, in JSON; a binary CloudEvent where it is known as one. Read again it is the
    /// same request with the same identity, but for `reply_to` and `user_id`, which belong to one connection of the
    /// requester, and `requested_at`, which is cut to seconds (and is `now` where it is not known).
    #[must_use]
    pub fn to_message(&self, now: OffsetDateTime) -> Outgoing {
        let mut body = Vec::with_capacity(self.size_hint());
        JsonObject::write(&mut body, |object| self.write_fields(object));
        let mut headers =
            trace_context::headers(self.details.traceparent.as_deref(), self.details.tracestate.as_deref());
        if let Some((source, id)) = self.identity.event_parts() {
            let attributes = [("specversion", "1.0"), ("id", id), ("source", source), ("type", EVENT_TYPE)];
            headers.extend(attributes.map(|(name, value)| cloud_event::header(name, value)));
        }
        // What says its name, and nothing else, is known by its name.
        let is_named = matches!(self.identity.kind(), IdentityKind::RequestId | IdentityKind::MessageId);
        Outgoing {
            body: body.into(),
            content_type: "application/json",
            message_id: is_named.then(|| self.identity.as_str().to_owned()),
            correlation_id: self.details.correlation_id.clone(),
            kind: None,
            timestamp: self.details.requested_at.unwrap_or(now),
            headers,
        }
    }

    /// The members of the JSON form.
    pub(in crate::message) fn write_fields(&self, object: &mut JsonObject<'_>) {
        object.text("name", self.name.as_str());
        object.text("request_id", self.details.request_id.as_deref());
        object.text("deadline", self.deadline.map(timestamp::exact).as_deref());
        object.text("timeout", self.timeout.map(|span| humantime::format_duration(span).to_string()).as_deref());
        object.text("reason", self.details.reason.as_deref());
        object.text("requested_by", self.details.requested_by.as_deref());
        object.raw("context", self.details.context.as_ref().map(JsonText::get));
    }

    /// About as many bytes as the JSON form has.
    pub(in crate::message) fn size_hint(&self) -> usize {
        let words = [&self.details.request_id, &self.details.reason, &self.details.requested_by];
        let words: usize = words.into_iter().flatten().map(String::len).sum();
        self.name.as_str().len() + words + self.details.context.as_ref().map_or(0, JsonText::size) + 256
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_earlier_of_deadline_and_timeout_counts_and_nothing_overflows() {
        let name = OperationName::parse("projects/p/operations/o").expect("a name");
        let seen = datetime!(2026-01-31 12:00 UTC);
        let minute = Duration::from_secs(60);
        let mut request = CancelRequest::new(name, None);
        let deadline = |request: &CancelRequest, default, max| request.deadline_terms(default, max).deadline(seen);
        assert_eq!(deadline(&request, minute, Duration::MAX), datetime!(2026-01-31 12:01 UTC));
        assert_eq!(deadline(&request, Duration::MAX, Duration::MAX).year(), 9999);
        request.timeout = Some(2 * minute);
        assert_eq!(deadline(&request, minute, Duration::MAX), datetime!(2026-01-31 12:02 UTC));
        request.deadline = Some(datetime!(2026-01-31 12:01:30 UTC));
        assert_eq!(deadline(&request, minute, Duration::MAX), datetime!(2026-01-31 12:01:30 UTC));
        request.timeout = Some(minute);
        assert_eq!(deadline(&request, minute, Duration::MAX), datetime!(2026-01-31 12:01 UTC));
        request.timeout = None;
        assert_eq!(deadline(&request, minute, Duration::MAX), datetime!(2026-01-31 12:01:30 UTC));
        assert_eq!(deadline(&request, minute, minute), datetime!(2026-01-31 12:01 UTC), "the longest there is");
    }
}
