//! How CloudEvents 1.0 come in AMQP: the structured mode (`application/cloudevents+json`) and the binary mode (attributes
//! in headers `cloudEvents:*` or `cloudEvents_*`, or as other bindings have them, `ce-*` or `ce_*`).

use super::dead_letter::DeadLetterHeaders;

/// What every content type of CloudEvents begins with.
const FAMILY: &str = "application/cloudevents";

/// The content type of the structured mode.
pub(super) const STRUCTURED: &str = "application/cloudevents+json";

/// The same, as it is written.
pub(super) const STRUCTURED_UTF8: &str = "application/cloudevents+json; charset=utf-8";

/// The media type without parameters: `text/plain; charset=utf-8` is `text/plain`.
pub(super) fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Whether the whole event is the body, in whatever format.
pub(super) fn is_structured(media_type: &str) -> bool {
    media_type.get(..FAMILY.len()).is_some_and(|family| family.eq_ignore_ascii_case(FAMILY))
}

/// What the headers of the binary mode begin with. The last two are not AMQP's, and are sent all the same.
const PREFIXES: [&str; 4] = ["cloudEvents:", "cloudEvents_", "ce-", "ce_"];

/// The attribute that a header holds.
pub(super) fn attribute_name(header: &str) -> Option<&str> {
    PREFIXES.iter().find_map(|prefix| header.strip_prefix(prefix))
}

/// An attribute as a header of the binary mode.
pub(super) fn header(attribute: &str, value: &str) -> (String, String) {
    (format!("cloudEvents:{attribute}"), value.to_owned())
}

/// Whether a header is one that formats read.
#[must_use]
pub fn is_read(header: &str) -> bool {
    attribute_name(header).is_some() || ["traceparent", "tracestate", DeadLetterHeaders::REPLAY].contains(&header)
}
