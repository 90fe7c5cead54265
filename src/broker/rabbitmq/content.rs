use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, ShortString};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::message::{Envelope, is_read};

/// Why and from where the broker has dead-lettered the message, the last time first.
const DEATHS: &str = "x-death";

/// What a message holds: body and properties as the broker delivered them.
#[derive(Clone)]
pub struct Content {
    body: Bytes,
    properties: BasicProperties,
}

impl Content {
    pub(super) fn new(body: Vec<u8>, properties: BasicProperties) -> Self {
        Self { body: body.into(), properties }
    }

    /// As formats read it: with the headers that [`Envelope`] names, and no others.
    #[must_use]
    pub fn envelope(&self) -> Envelope<'_> {
        let properties = &self.properties;
        Envelope {
            body: &self.body,
            shared: Some(&self.body),
            content_type: properties.content_type().as_ref().map(ShortString::as_str),
            content_encoding: properties.content_encoding().as_ref().map(ShortString::as_str),
            message_id: properties.message_id().as_ref().map(ShortString::as_str),
            correlation_id: properties.correlation_id().as_ref().map(ShortString::as_str),
            reply_to: properties.reply_to().as_ref().map(ShortString::as_str),
            timestamp: properties.timestamp().and_then(moment),
            user_id: properties.user_id().as_ref().map(ShortString::as_str),
            headers: self.headers().filter(|(name, _)| is_read(name)).filter_map(attributes).collect(),
        }
    }

    /// A header's value, where it is a string.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(key, _)| *key == name).and_then(texts).map(|(_, value)| value)
    }

    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &AMQPValue)> {
        self.properties.headers().iter().flatten().map(|(name, value)| (name.as_str(), value))
    }

    /// Body in base64 and properties, for a file.
    ///
    /// # Errors
    /// A property that JSON cannot say, such as a number that is none.
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        let properties = serde_json::to_value(&self.properties)?;
        Ok(serde_json::json!({ "body": STANDARD.encode(&self.body), "properties": properties }))
    }

    /// What [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, String> {
        let body = json.get("body").and_then(serde_json::Value::as_str).ok_or("`body` is missing")?;
        let body = STANDARD.decode(body).map_err(|error| format!("`body` is no base64: {error}"))?;
        let properties = json.get("properties").cloned().ok_or("`properties` are missing")?;
        let properties = serde_json::from_value(properties).map_err(|error| format!("`properties`: {error}"))?;
        Ok(Self::new(body, properties))
    }

    /// The broker's last note of why and from where it dead-lettered the message: its reason, the queue, and when.
    pub(super) fn last_death(&self) -> Option<(&str, &str, Option<OffsetDateTime>)> {
        let (_, AMQPValue::FieldArray(deaths)) = self.headers().find(|(name, _)| *name == DEATHS)? else { return None };
        let AMQPValue::FieldTable(last) = deaths.as_slice().first()? else { return None };
        let text = |name: &str| last.inner().get(name).and_then(|value| texts((DEATHS, value))).map(|(_, text)| text);
        let time = match last.inner().get("time") {
            Some(AMQPValue::Timestamp(seconds)) => moment(*seconds),
            _ => None,
        };
        Some((text("reason")?, text("queue")?, time))
    }

    pub(super) const fn body(&self) -> &Bytes {
        &self.body
    }

    pub(super) const fn properties(&self) -> &BasicProperties {
        &self.properties
    }
}

/// Neither body nor headers: they belong to others.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

fn texts<'a>((name, value): (&'a str, &'a AMQPValue)) -> Option<(&'a str, &'a str)> {
    let text = match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok()?,
        AMQPValue::ShortString(text) => text.as_str(),
        _ => return None,
    };
    Some((name, text))
}

/// A header that formats read, written as CloudEvents write the value of an attribute.
fn attributes<'a>((name, value): (&'a str, &'a AMQPValue)) -> Option<(&'a str, Cow<'a, str>)> {
    let text = match value {
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::Timestamp(seconds) => moment(*seconds)?.format(&Rfc3339).ok()?,
        AMQPValue::LongLongInt(number) => number.to_string(),
        AMQPValue::LongInt(number) => number.to_string(),
        AMQPValue::ShortInt(number) => number.to_string(),
        AMQPValue::ShortShortInt(number) => number.to_string(),
        _ => match number(value) {
            Some(number) => number.to_string(),
            None => return texts((name, value)).map(|(name, text)| (name, text.into())),
        },
    };
    Some((name, text.into()))
}

fn moment(seconds: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()
}

/// A header's value, where it is a whole number that is not negative.
pub(super) fn number(value: &AMQPValue) -> Option<u64> {
    match *value {
        AMQPValue::ShortShortInt(number) => u64::try_from(number).ok(),
        AMQPValue::ShortShortUInt(number) => Some(number.into()),
        AMQPValue::ShortInt(number) => u64::try_from(number).ok(),
        AMQPValue::ShortUInt(number) => Some(number.into()),
        AMQPValue::LongInt(number) => u64::try_from(number).ok(),
        AMQPValue::LongUInt(number) => Some(number.into()),
        AMQPValue::LongLongInt(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn an_envelope_has_the_properties_and_the_headers_that_formats_read() {
        let mut headers = FieldTable::default();
        for name in ["cloudEvents:id", "cloudEvents_type", "traceparent", "tracestate", "x-death", "other"] {
            headers.insert(name.into(), AMQPValue::LongString(name.into()));
        }
        headers.insert("cloudEvents:bytes".into(), AMQPValue::LongString(vec![0xff].into()));
        headers.insert("cloudEvents:number".into(), AMQPValue::LongInt(-1));
        headers.insert("cloudEvents:large".into(), AMQPValue::LongUInt(4_294_967_295));
        headers.insert("cloudEvents:flag".into(), AMQPValue::Boolean(true));
        headers.insert("cloudEvents:time".into(), AMQPValue::Timestamp(1_700_000_000));
        headers.insert("cloudEvents:table".into(), AMQPValue::FieldTable(FieldTable::default()));
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_message_id("m".into())
            .with_timestamp(1_700_000_000)
            .with_headers(headers);
        let content = Content::new(b"{}".to_vec(), properties);

        let envelope = content.envelope();
        assert_eq!(
            (envelope.body, envelope.content_type, envelope.message_id),
            (&b"{}"[..], Some("application/json"), Some("m"))
        );
        assert_eq!((envelope.correlation_id, envelope.reply_to), (None, None));
        assert_eq!(envelope.timestamp, Some(datetime!(2023-11-14 22:13:20 UTC)));
        let read = [
            ("cloudEvents:flag", "true"),
            ("cloudEvents:id", "cloudEvents:id"),
            ("cloudEvents:large", "4294967295"),
            ("cloudEvents:number", "-1"),
            ("cloudEvents:time", "2023-11-14T22:13:20Z"),
            ("cloudEvents_type", "cloudEvents_type"),
            ("traceparent", "traceparent"),
            ("tracestate", "tracestate"),
        ];
        assert_eq!(envelope.headers, read.map(|(name, value)| (name, value.into())));
        assert_eq!(content.header("other"), Some("other"));
        assert_eq!(content.header("cloudEvents:number"), None);
    }

    #[test]
    fn a_timestamp_that_is_no_moment_is_none() {
        assert_eq!(moment(u64::MAX), None);
        assert_eq!(moment(i64::MAX as u64), None);
    }

    #[test]
    fn debug_shows_no_content() {
        let content = Content::new(b"secret".to_vec(), BasicProperties::default());
        assert_eq!(format!("{content:?}"), "Content { bytes: 6, .. }");
    }
}
