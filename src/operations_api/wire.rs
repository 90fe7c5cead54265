use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::cancellation::{Operation, OperationStatus};

/// Nested deeper, an operation could not be read by those who get it within an event: common readers stop at 128 levels.
const MAX_DEPTH: usize = 100;

/// Longest text of a service that is handed on to people, in bytes.
pub(super) const MAX_WORDS: usize = 1024;

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the one form of dates that HTTP still writes.
const IMF_FIXDATE: StaticFormatDescription =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// Why a body is no operation.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAnOperation {
    #[error("the answer is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("the answer is not JSON: {0}")]
    NotJson(String),
    /// Those who get it within an event could not read the event.
    #[error("the answer has half of a surrogate pair in a string")]
    HalfCharacter,
    #[error("the answer is JSON, but not an operation: {0}")]
    OtherJson(String),
}

/// What decisions need of a `google.longrunning.Operation`.
#[derive(Deserialize)]
struct WireOperation<'a> {
    #[serde(default)]
    done: Option<bool>,
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
}

/// `google.rpc.Status`; proto3 JSON leaves out what has its default value.
#[derive(Deserialize)]
struct WireStatus {
    #[serde(default)]
    code: Option<i32>,
    #[serde(default)]
    message: Option<String>,
}

/// Reads the body of a get.
pub(super) fn operation(body: &[u8]) -> Result<Operation, NotAnOperation> {
    let other = |error: serde_json::Error| NotAnOperation::OtherJson(words(&error.to_string(), 200));
    if is_deeper_than(MAX_DEPTH, body) {
        return Err(NotAnOperation::TooDeep);
    }
    let resource: Box<RawValue> =
        serde_json::from_slice(body).map_err(|error| NotAnOperation::NotJson(words(&error.to_string(), 200)))?;
    if mentions_surrogates(resource.get()) && serde_json::from_str::<Value>(resource.get()).is_err() {
        return Err(NotAnOperation::HalfCharacter);
    }
    let wire: WireOperation<'_> = object(resource.get()).map_err(other)?;
    let error = wire.error.map(|error| object::<WireStatus>(error.get())).transpose().map_err(other)?;
    Ok(Operation {
        done: wire.done.unwrap_or(false),
        error: error.map(|status| OperationStatus {
            code: status.code.unwrap_or(0),
            message: words(&status.message.unwrap_or_default(), MAX_WORDS),
        }),
        resource: resource.into(),
    })
}

/// A JSON object; serde's structs would take an array, field by field, too.
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, serde_json::Error> {
    if json.starts_with('{') {
        serde_json::from_str(json)
    } else {
        Err(serde::de::Error::custom("an object is needed"))
    }
}

/// Whether there is a `\ud8…` to `\udf…`: a rough look, for what is rare.
fn mentions_surrogates(json: &str) -> bool {
    json.as_bytes().windows(3).any(|three| matches!(three, [b'\\', b'u', b'd' | b'D']))
}

/// Counts brackets outside strings. Of what is not JSON the answer does not matter.
fn is_deeper_than(limit: usize, json: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    false
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

/// The JSON that Google's services answer errors with: `{"error": {"code", "message", "status", "details"}}`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorEnvelope {
    /// The name of a google.rpc code, if it has one.
    pub status: Option<String>,
    /// The service's words.
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

/// A `google.protobuf.Duration` in JSON, `"1.5s"`; `None` for what is negative or none.
fn proto_duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (seconds, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(whole(seconds)?, nanos))
}

/// A `Retry-After` header: seconds, or a date; `None` for a date that has passed and for nonsense.
pub(super) fn retry_after(text: &str, now: OffsetDateTime) -> Option<Duration> {
    let text = text.trim();
    if let Some(seconds) = whole(text) {
        return Some(Duration::from_secs(seconds));
    }
    let date = PrimitiveDateTime::parse(text, IMF_FIXDATE).ok()?.assume_utc();
    (date - now).try_into().ok()
}

/// A number without sign; serde's and `str::parse` would take `+1`.
fn whole(text: &str) -> Option<u64> {
    digits(text).then(|| text.parse().ok()).flatten()
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Text for people: at most `limit` bytes, and no character that would break a line of a log or a header.
pub(super) fn words(text: &str, limit: usize) -> String {
    let text = text.get(..text.floor_char_boundary(limit)).unwrap_or_default();
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    fn decoded(json: &str) -> (bool, Option<(i32, String)>) {
        let operation = operation(json.as_bytes()).expect(json);
        assert_eq!(operation.resource.get(), json.trim());
        (operation.done, operation.error.map(|error| (error.code, error.message)))
    }

    #[test]
    fn an_operation_is_done_only_if_it_says_so_and_its_error_is_read_leniently() {
        assert_eq!(decoded(r#"{"name":"o"}"#), (false, None));
        assert_eq!(decoded(" {\"name\":\"o\",\"done\":null} \n"), (false, None));
        assert_eq!(decoded(r#"{"done":true,"response":{"a":[1,{"done":false}]}}"#), (true, None));
        assert_eq!(decoded(r#"{"done":true,"error":{}}"#), (true, Some((0, String::new()))));
        assert_eq!(decoded(r#"{"done":true,"error":null}"#), (true, None));
        let cancelled =
            r#"{"done":true,"metadata":{"@type":"t"},"error":{"code":1,"message":"a\nb \u00fc","details":[]}}"#;
        assert_eq!(decoded(cancelled), (true, Some((1, "a b ü".to_owned()))));
        assert_eq!(decoded(r#"{"done":true,"error":{"message":null,"code":null}}"#), (true, Some((0, String::new()))));
    }

    #[test]
    fn what_is_no_operation_is_refused_with_the_reason() {
        for (body, words) in [
            ("", "not JSON"),
            ("<html>", "not JSON"),
            ("{\"done\":true", "not JSON"),
            ("{\"done\":true} x", "not JSON"),
            ("[]", "an object is needed"),
            ("[true,null]", "an object is needed"),
            ("null", "an object is needed"),
            ("\"done\"", "an object is needed"),
            (r#"{"done":"true"}"#, "not an operation"),
            (r#"{"done":1}"#, "not an operation"),
            (r#"{"done":true,"done":false}"#, "duplicate"),
            (r#"{"done":true,"error":[1,"cancelled"]}"#, "an object is needed"),
            (r#"{"done":true,"error":"cancelled"}"#, "an object is needed"),
            (r#"{"done":true,"error":{"code":"CANCELLED"}}"#, "not an operation"),
            (r#"{"done":true,"error":{"code":4294967297}}"#, "not an operation"),
        ] {
            let error = operation(body.as_bytes()).expect_err(body).to_string();
            assert!(error.contains(words), "{body}: {error}");
        }
        assert!(operation(b"{\"done\":true,\"x\":\"\xff\"}").is_err());
    }

    #[test]
    fn nesting_is_allowed_to_a_hundred_levels_and_brackets_in_strings_are_none() {
        let nested = |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(operation(nested(100).as_bytes()).is_ok());
        let error = operation(nested(101).as_bytes()).expect_err("too deep").to_string();
        assert!(error.contains("deeper than 100 levels"), "{error}");
        assert!(operation(nested(300_000).as_bytes()).is_err());
        let brackets = "[{".repeat(200);
        assert_eq!(decoded(&format!(r#"{{"done":true,"x":"\\\"{brackets}"}}"#)), (true, None));
        let wide = vec!["[[]]"; 200].join(",");
        assert_eq!(decoded(&format!(r#"{{"x":[{wide}]}}"#)), (false, None));
    }

    #[test]
    fn a_delay_is_read_from_each_form_and_nonsense_is_ignored() {
        let delay = |text: &str| proto_duration(text).map(|delay| delay.as_secs_f64());
        for (text, seconds) in [("1.5s", 1.5), ("30s", 30.0), ("0.000000001s", 1e-9), ("0s", 0.0)] {
            assert_eq!(delay(text), Some(seconds), "{text}");
        }
        for text in
            ["", "s", "1", "-1s", "+1s", "1.s", ".5s", "1.0000000001s", "1e3s", "1,5s", "NaNs", "99999999999999999999s"]
        {
            assert_eq!(delay(text), None, "{text}");
        }
        let now = datetime!(1994-11-06 08:49:07 UTC);
        let after = |text: &str| retry_after(text, now).map(|delay| delay.as_secs());
        assert_eq!(after("120"), Some(120));
        assert_eq!(after(" 0 "), Some(0));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(30));
        for text in [
            "Sun, 06 Nov 1994 08:49:06 GMT",
            "-1",
            "+1",
            "1.5",
            "soon",
            "",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 36 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(after(text), None, "{text}");
        }
    }

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

    proptest! {
        #[test]
        fn a_decoded_operation_keeps_its_resource_byte_for_byte(
            done in any::<Option<bool>>(),
            code in any::<i32>(),
            text in ".*",
        ) {
            let json = serde_json::json!({ "done": done, "error": { "code": code, "message": text }, "x": text });
            let json = json.to_string();
            let operation = operation(json.as_bytes()).expect("an operation");
            prop_assert_eq!(operation.resource.get(), &json);
            prop_assert_eq!(operation.done, done == Some(true));
            prop_assert_eq!(operation.error.map(|error| error.code), Some(code));
        }

        #[test]
        fn no_text_of_a_delay_makes_it_panic(text in "\\PC*", digits in "[0-9]{0,30}\\.?[0-9]{0,12}s?") {
            let now = datetime!(2025-01-01 00:00 UTC);
            for text in [text, digits] {
                let _ = (proto_duration(&text), retry_after(&text, now));
            }
        }
    }
}
