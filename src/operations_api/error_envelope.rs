use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::retry_delay::proto_duration;
use super::text::{printable, without_bom};

/// The JSON that Google's services answer errors with: `{"error": {"code", "message", "status", "details"}}`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorEnvelope {
    /// The name of a google.rpc code, if it has one.
    pub status: Option<String>,
    /// The service's message.
    pub message: String,
    /// `ErrorInfo.reason`, such as `SERVICE_DISABLED`.
    pub reason: Option<String>,
    /// `RetryInfo.retryDelay`.
    pub retry_delay: Option<Duration>,
    /// Some detail says that these are too many calls, in the form of today or the one before.
    pub rate_limited: bool,
}

/// What an error answer's body is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ErrorBody {
    /// The service's own words.
    Envelope(ErrorEnvelope),
    /// Begins as an envelope does, and cannot be read: why.
    Unreadable(String),
    /// Anything else, such as the page of a proxy.
    Other,
}

#[derive(Deserialize)]
struct WireDocument<'a> {
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
}

/// Each field as it stands there: one that has an unexpected form is no reason to disbelieve the rest.
#[derive(Default, Deserialize)]
struct WireError<'a> {
    #[serde(default, borrow)]
    code: Option<&'a RawValue>,
    #[serde(default, borrow)]
    status: Option<&'a RawValue>,
    #[serde(default, borrow)]
    message: Option<&'a RawValue>,
    #[serde(default, borrow)]
    details: Option<&'a RawValue>,
    /// The older form of details.
    #[serde(default, borrow)]
    errors: Option<&'a RawValue>,
}

impl ErrorBody {
    /// Reads an error answer's body.
    pub(super) fn decode(body: &[u8]) -> Self {
        let body = without_bom(body).trim_ascii();
        // Some front ends answer with a list of one.
        let document = match body {
            [b'[', ..] => serde_json::from_slice::<Vec<WireDocument<'_>>>(body).map(|mut list| list.drain(..).next()),
            [b'{', ..] => serde_json::from_slice::<WireDocument<'_>>(body).map(Some),
            _ => return Self::Other,
        };
        match document {
            Ok(document) => {
                document.and_then(|document| ErrorEnvelope::of(document.error?)).map_or(Self::Other, Self::Envelope)
            }
            Err(error) if mentions_error(body) => Self::Unreadable(printable(&error.to_string(), 200)),
            Err(_) => Self::Other,
        }
    }
}

impl ErrorEnvelope {
    fn of(error: &RawValue) -> Option<Self> {
        let wire: WireError<'_> = serde_json::from_str(error.get()).ok()?;
        let is_number = wire.code.is_some_and(|code| code.get().starts_with(|first: char| first.is_ascii_digit()));
        let (status, message) = (text(wire.status), text(wire.message));
        if status.is_none() && message.is_none() && !is_number {
            return None;
        }
        let (details, errors) = (list(wire.details), list(wire.errors));
        let reasons = details.iter().chain(&errors).filter_map(|detail| detail.get("reason")?.as_str());
        let is_rate = |reason| ["RATE_LIMIT_EXCEEDED", "rateLimitExceeded", "userRateLimitExceeded"].contains(&reason);
        Some(Self {
            rate_limited: reasons.into_iter().any(is_rate),
            status,
            message: message.unwrap_or_default(),
            reason: details.iter().find(|detail| is_error_info(detail)).and_then(reason),
            retry_delay: details.iter().filter_map(|d| proto_duration(d.get("retryDelay")?.as_str()?)).max(),
        })
    }
}

/// A rough look at what cannot be read.
fn mentions_error(body: &[u8]) -> bool {
    const NAME: &[u8] = br#""error""#;
    body.windows(NAME.len()).take(1024).any(|window| window == NAME)
}

fn text(json: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(json?.get()).ok()
}

/// The values of a list that can be read.
fn list(json: Option<&RawValue>) -> Vec<Value> {
    let values = json.and_then(|json| serde_json::from_str::<Vec<&RawValue>>(json.get()).ok()).unwrap_or_default();
    values.into_iter().filter_map(|value| serde_json::from_str(value.get()).ok()).collect()
}

fn is_error_info(detail: &Value) -> bool {
    let kind = detail.get("@type").and_then(Value::as_str);
    kind.is_some_and(|kind| kind.ends_with("/google.rpc.ErrorInfo"))
}

fn reason(error_info: &Value) -> Option<String> {
    error_info.get("reason").and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_is_read_with_its_details_and_odd_details_do_not_spoil_it() {
        let body = r#"{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED","details":[
            5, {"reason":7}, {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"},
            {"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"RATE_LIMIT_EXCEEDED","domain":"googleapis.com"}]}}"#;
        let expected = ErrorEnvelope {
            status: Some("RESOURCE_EXHAUSTED".into()),
            message: "slow down".into(),
            reason: Some("RATE_LIMIT_EXCEEDED".into()),
            retry_delay: Some(Duration::from_millis(1500)),
            rate_limited: true,
        };
        assert_eq!(ErrorBody::decode(body.as_bytes()), ErrorBody::Envelope(expected));
        for other in ["", "<html>", "[]", "{}", r#"{"error":"invalid_grant"}"#, r#"{"error":{}}"#, r#"{"error":null}"#]
        {
            assert_eq!(ErrorBody::decode(other.as_bytes()), ErrorBody::Other, "{other}");
        }
    }

    fn envelope(body: &str) -> ErrorEnvelope {
        match ErrorBody::decode(body.as_bytes()) {
            ErrorBody::Envelope(envelope) => envelope,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn an_envelope_is_read_in_the_forms_that_front_ends_give_it() {
        let plain = r#"{"error":{"code":404,"message":"gone","status":"NOT_FOUND"}}"#;
        for form in [format!("\u{feff}{plain}"), format!("[{plain}]"), format!(" [ {plain}\n]"), format!("\r\n{plain}")]
        {
            assert_eq!(envelope(&form), envelope(plain), "{form}");
        }
        let older = r#"{"error":{"code":403,"message":"slow","errors":[{"domain":"usageLimits","reason":"rateLimitExceeded"}]}}"#;
        assert!(envelope(older).rate_limited);
        assert!(!envelope(&older.replace("rateLimitExceeded", "accessNotConfigured")).rate_limited);
    }

    #[test]
    fn what_serde_cannot_hold_spoils_only_itself() {
        let body = r#"{"x":1e999,"error":{"code":404,"status":"NOT_FOUND","message":"\ud800","details":[1e999,{"retryDelay":"2s"}]}}"#;
        let envelope = envelope(body);
        assert_eq!((envelope.status.as_deref(), envelope.message.as_str()), (Some("NOT_FOUND"), ""));
        assert_eq!(envelope.retry_delay, Some(Duration::from_secs(2)));
    }

    #[test]
    fn an_envelope_that_is_cut_off_is_called_that_and_no_page() {
        let cut = ErrorBody::decode(br#"{"error":{"code":404,"message":"x"#);
        assert!(matches!(&cut, ErrorBody::Unreadable(why) if why.contains("EOF")), "{cut:?}");
        assert_eq!(ErrorBody::decode(br#"{"errand":{"code":404"#), ErrorBody::Other);
    }
}
