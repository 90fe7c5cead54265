use time::OffsetDateTime;

use crate::message::json::JsonText;

/// What came with a request and goes with its answer, whether the request could be used or not. What is not known, or was
/// not well-formed, is left out.
#[derive(Clone, Debug, Default)]
pub struct RequestContext {
    /// Upstream's own name for this request, 1 to 255 bytes.
    pub request_id: Option<String>,
    /// Why, 1 to 4,096 bytes.
    pub reason: Option<String>,
    /// By whom, 1 to 4,096 bytes.
    pub requested_by: Option<String>,
    /// AMQP `user_id`, 1 to 255 bytes: the broker's user who published, which the broker has checked.
    pub user_id: Option<String>,
    /// A JSON object that is handed back byte by byte, nested at most 100 deep; not that of a body that is too large.
    pub context: Option<JsonText>,
    /// AMQP `correlation_id`, 1 to 255 bytes.
    pub correlation_id: Option<String>,
    /// AMQP `reply_to`, kept only if it is a direct one (`amq.rabbitmq.reply-to.*`).
    pub reply_to: Option<String>,
    /// The CloudEvent's `time`, which its producer wrote, else the AMQP `timestamp`. UTC.
    pub requested_at: Option<OffsetDateTime>,
    /// W3C trace context, well-formed: from the header, else from the CloudEvent's attribute.
    pub traceparent: Option<String>,
    /// W3C trace context, only beside a `traceparent`.
    pub tracestate: Option<String>,
    /// How often it was published again after it had failed, by its header.
    pub replay: u32,
}
