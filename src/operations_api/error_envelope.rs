use std::time::Duration;

use serde_json::Value;

use super::retry_delay::proto_duration;

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
    /// Some detail says `RATE_LIMIT_EXCEEDED`.
    pub rate_limited: bool,
}

impl ErrorEnvelope {
    /// Reads an error answer's body; `None` if it is anything else. A detail of unexpected form is no reason to
    /// disbelieve the rest.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(body).ok()?;
        let error = document.get("error")?.as_object()?;
        let text = |key: &str| error.get(key).and_then(Value::as_str);
        if text("status").is_none() && text("message").is_none() && !error.get("code").is_some_and(Value::is_number) {
            return None;
        }
        let details = error.get("details").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let reasons = || details.iter().filter_map(|detail| detail.get("reason")?.as_str());
        Some(Self {
            status: text("status").map(str::to_owned),
            message: text("message").unwrap_or_default().to_owned(),
            reason: details.iter().find(|detail| is_error_info(detail)).and_then(reason),
            retry_delay: details.iter().filter_map(|d| proto_duration(d.get("retryDelay")?.as_str()?)).max(),
            rate_limited: reasons().any(|reason| reason == "RATE_LIMIT_EXCEEDED"),
        })
    }
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
        assert_eq!(ErrorEnvelope::decode(body.as_bytes()), Some(expected));
        for other in ["", "<html>", "[]", "{}", r#"{"error":"invalid_grant"}"#, r#"{"error":{}}"#, r#"{"error":null}"#]
        {
            assert_eq!(ErrorEnvelope::decode(other.as_bytes()), None, "{other}");
        }
    }
}
