use std::borrow::Cow;

use bytes::Bytes;
use time::OffsetDateTime;

/// A message as it was delivered, as far as its meaning is concerned. Borrowed from the delivery.
#[derive(Clone, Debug, Default)]
pub struct Envelope<'a> {
    /// The body's bytes, whatever they are.
    pub body: &'a [u8],
    /// The same, where parts of them may be shared and need not be copied.
    pub shared: Option<&'a Bytes>,
    /// AMQP `content_type`.
    pub content_type: Option<&'a str>,
    /// AMQP `content_encoding`.
    pub content_encoding: Option<&'a str>,
    /// AMQP `message_id`.
    pub message_id: Option<&'a str>,
    /// AMQP `correlation_id`.
    pub correlation_id: Option<&'a str>,
    /// AMQP `reply_to`.
    pub reply_to: Option<&'a str>,
    /// AMQP `timestamp` (seconds).
    pub timestamp: Option<OffsetDateTime>,
    /// AMQP `user_id`: the broker has made sure that it is who published.
    pub user_id: Option<&'a str>,
    /// The headers that formats read (`cloudEvents:*`, `cloudEvents_*`, `ce-*`, `ce_*`, `traceparent`, `tracestate`,
    /// `cancel-worker-replay`), as CloudEvents write their values: UTF-8 texts, whole numbers, true and false, times.
    pub headers: Vec<(&'a str, Cow<'a, str>)>,
}

/// A message to be published: always persistent and mandatory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The body's bytes, which a clone shares.
    pub body: Bytes,
    /// AMQP `content_type`.
    pub content_type: &'static str,
    /// AMQP `message_id`, if it has one. At most 255 bytes.
    pub message_id: Option<String>,
    /// AMQP `correlation_id`. At most 255 bytes.
    pub correlation_id: Option<String>,
    /// AMQP `type`.
    pub kind: Option<String>,
    /// AMQP `timestamp`, cut to seconds.
    pub timestamp: OffsetDateTime,
    /// String headers.
    pub headers: Vec<(String, String)>,
}
