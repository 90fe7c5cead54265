use std::sync::Arc;

use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::metadata::Metadata;
use super::request_body::RequestBody;
use crate::message::identity::Identity;

/// A request that cannot be used: why, and all that could be read of it in spite of that, so that upstream can be told.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{problem}")]
pub struct Unusable {
    /// A sentence for the sender: what is wrong, where, and what is expected. Quotes at most 100 bytes of the message.
    pub problem: String,
    /// What the request is known by. Without one nobody can be told.
    pub identity: Option<Identity>,
    /// `request_id`.
    pub request_id: Option<String>,
    /// What was given as the operation's name, if it has at most 1,024 bytes.
    pub name: Option<String>,
    /// `reason`.
    pub reason: Option<String>,
    /// `requested_by`.
    pub requested_by: Option<String>,
    /// `context`, byte by byte; not that of a body that is too large.
    pub context: Option<Arc<RawValue>>,
    /// AMQP `correlation_id`.
    pub correlation_id: Option<String>,
    /// AMQP `reply_to`, if it is a direct one.
    pub reply_to: Option<String>,
    /// As for [`CancelRequest`](super::CancelRequest).
    pub requested_at: Option<OffsetDateTime>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// W3C trace context.
    pub tracestate: Option<String>,
}

impl Unusable {
    /// Of what could be read.
    pub(in crate::message) fn assemble(
        problem: String,
        identity: Option<Identity>,
        body: RequestBody,
        metadata: Metadata,
    ) -> Self {
        Self {
            problem,
            identity,
            request_id: body.request_id,
            name: body.name.map(String::from).or(body.misnamed),
            reason: body.reason,
            requested_by: body.requested_by,
            context: body.context,
            correlation_id: metadata.correlation_id,
            reply_to: metadata.reply_to,
            requested_at: metadata.requested_at,
            traceparent: metadata.traceparent,
            tracestate: metadata.tracestate,
        }
    }
}
