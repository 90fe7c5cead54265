use time::OffsetDateTime;

/// What is told of a request beside its body.
#[derive(Default)]
pub(super) struct Metadata {
    pub(super) correlation_id: Option<String>,
    pub(super) reply_to: Option<String>,
    pub(super) requested_at: Option<OffsetDateTime>,
    pub(super) traceparent: Option<String>,
    pub(super) tracestate: Option<String>,
}
