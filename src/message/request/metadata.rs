use time::OffsetDateTime;

/// What is told of a request beside its body.
#[derive(Default)]
pub(in crate::message) struct Metadata {
    pub(in crate::message) correlation_id: Option<String>,
    pub(in crate::message) reply_to: Option<String>,
    pub(in crate::message) requested_at: Option<OffsetDateTime>,
    pub(in crate::message) traceparent: Option<String>,
    pub(in crate::message) tracestate: Option<String>,
}
