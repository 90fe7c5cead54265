//! How CloudEvents 1.0 come in AMQP: the structured mode (`application/cloudevents+json`) and the binary mode (attributes
//! in headers `cloudEvents:*` or `cloudEvents_*`).

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

/// The attribute that a header holds.
pub(super) fn attribute_name(header: &str) -> Option<&str> {
    header.strip_prefix("cloudEvents:").or_else(|| header.strip_prefix("cloudEvents_"))
}
