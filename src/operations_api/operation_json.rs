use serde::Deserialize;
use serde_json::value::RawValue;

use super::text::{MAX_MESSAGE_BYTES, printable, without_bom};
use crate::cancellation::{Operation, OperationStatus};
use crate::message::{MAX_JSON_DEPTH, has_half_character, json_depth};

/// Why a body is no operation.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAnOperation {
    #[error("the answer is nested deeper than {MAX_JSON_DEPTH} levels")]
    TooDeep,
    #[error("the answer is not JSON: {0}")]
    NotJson(String),
    #[error("the answer has half of a surrogate pair in a string")]
    HalfCharacter,
    #[error("the answer is JSON, but not an operation: {0}")]
    OtherJson(String),
    #[error("the answer is about another operation: its `name` ends in {0:?}")]
    AnotherOperation(String),
}

/// What decisions need of a `google.longrunning.Operation`.
#[derive(Deserialize)]
struct WireOperation<'a> {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    done: Option<bool>,
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
}

/// `google.rpc.Status`; proto3 JSON leaves out what has its default value.
#[derive(Deserialize)]
struct WireStatus<'a> {
    #[serde(default, borrow)]
    code: Option<&'a RawValue>,
    #[serde(default)]
    message: Option<String>,
}

/// An int32 in any spelling that proto3 JSON admits: `1`, `"1"`, `1.0`, `1e0`; `None` for anything else.
fn int32(json: &str) -> Option<i32> {
    let number = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(json);
    if let Ok(whole) = number.parse() {
        return Some(whole);
    }
    let number: f64 = serde_json::from_str(number).ok()?;
    let whole = number as i32;
    (f64::from(whole) == number).then_some(whole)
}

/// Reads the body of a get of the operation with this id.
pub(super) fn operation(body: &[u8], id: &str) -> Result<Operation, NotAnOperation> {
    let body = without_bom(body);
    let other = |error: serde_json::Error| NotAnOperation::OtherJson(printable(&error.to_string(), 200));
    if json_depth(body) > MAX_JSON_DEPTH {
        return Err(NotAnOperation::TooDeep);
    }
    let resource: Box<RawValue> =
        serde_json::from_slice(body).map_err(|error| NotAnOperation::NotJson(printable(&error.to_string(), 200)))?;
    if has_half_character(resource.get()) {
        return Err(NotAnOperation::HalfCharacter);
    }
    let wire: WireOperation<'_> = object(resource.get()).map_err(other)?;
    // The id alone: Google answers with the project's number for its id. An empty name is none, as proto3 JSON has it.
    let answered = wire.name.as_deref().filter(|name| !name.is_empty()).and_then(|name| name.rsplit('/').next());
    if let Some(other) = answered.filter(|answered| *answered != id) {
        return Err(NotAnOperation::AnotherOperation(printable(other, 100)));
    }
    let error = wire.error.map(|error| status(error.get())).transpose().map_err(other)?;
    Ok(Operation { done: wire.done.unwrap_or(false), error, resource: resource.into() })
}

fn status(json: &str) -> Result<OperationStatus, serde_json::Error> {
    let WireStatus { code, message } = object(json)?;
    let code = match code {
        Some(code) => int32(code.get()).ok_or_else(|| serde::de::Error::custom("`error.code` is no int32"))?,
        None => 0,
    };
    Ok(OperationStatus { code, message: printable(&message.unwrap_or_default(), MAX_MESSAGE_BYTES) })
}

/// A JSON object; serde's structs would take an array, field by field, too.
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, serde_json::Error> {
    if json.starts_with('{') {
        serde_json::from_str(json)
    } else {
        Err(serde::de::Error::custom("an object is needed"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(json: &str) -> (bool, Option<(i32, String)>) {
        let operation = operation(json.as_bytes(), "o").expect(json);
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
        for code in ["1", "\"1\"", "1.0", "1e0", "10e-1"] {
            assert_eq!(
                decoded(&format!(r#"{{"done":true,"error":{{"code":{code}}}}}"#)),
                (true, Some((1, String::new())))
            );
        }
        let marked = operation("\u{feff}{\"done\":true}".as_bytes(), "o").expect("an operation");
        assert!(marked.done && marked.resource.get() == "{\"done\":true}");
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
            (r#"{"done":true,"error":{"code":1.5}}"#, "not an operation"),
            (r#"{"done":true,"error":{"code":[1]}}"#, "not an operation"),
        ] {
            let error = operation(body.as_bytes(), "o").expect_err(body).to_string();
            assert!(error.contains(words), "{body}: {error}");
        }
        assert!(operation(b"{\"done\":true,\"x\":\"\xff\"}", "o").is_err());
    }

    #[test]
    fn nesting_is_allowed_to_a_hundred_levels_and_brackets_in_strings_are_none() {
        let nested = |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        assert!(operation(nested(100).as_bytes(), "o").is_ok());
        let error = operation(nested(101).as_bytes(), "o").expect_err("too deep").to_string();
        assert!(error.contains("deeper than 100 levels"), "{error}");
        assert!(operation(nested(300_000).as_bytes(), "o").is_err());
        let brackets = "[{".repeat(200);
        assert_eq!(decoded(&format!(r#"{{"done":true,"x":"\\\"{brackets}"}}"#)), (true, None));
        let wide = vec!["[[]]"; 200].join(",");
        assert_eq!(decoded(&format!(r#"{{"x":[{wide}]}}"#)), (false, None));
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
            let operation = operation(json.as_bytes(), "o").expect("an operation");
            prop_assert_eq!(operation.resource.get(), &json);
            prop_assert_eq!(operation.done, done == Some(true));
            prop_assert_eq!(operation.error.map(|error| error.code), Some(code));
        }
    }
}
