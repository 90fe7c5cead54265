use std::fmt::Write as _;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use time::OffsetDateTime;
use url::Url;

use super::error_envelope::{ErrorBody, ErrorEnvelope};
use super::operation_json;
use super::retry_delay;
use super::text::{MAX_MESSAGE_BYTES, printable};
use crate::cancellation::{ErrorDetail, Failure, FailureKind, Reply};
use crate::google_rpc::Code;
use crate::message::OperationName;

/// A service that asks for a longer wait is not believed.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// What a person checks when an answer shows that the host does not know the URL.
const WRONG_ENDPOINT: &str = "this endpoint does not serve the call; check api.endpoint, api.endpoints and api.version";

/// What a person checks when the host serves the API, but not the operation's location.
const WRONG_LOCATION: &str =
    "this endpoint does not serve the operation's location; check api.endpoint, api.endpoints and api.rep_locations";

/// With these words, and the code of any wrong argument, Google's regional hosts refuse what belongs to another host.
const ANOTHER_HOST: &str = "to find the correct endpoint";

/// The two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `POST …:cancel`.
    Cancel,
    /// `GET …`.
    Get,
}

/// What an answer means. Of a cancel that was answered with 2xx the body does not matter; of a get it has to be the operation
/// that was asked for.
#[must_use]
pub fn reply(
    call: Call,
    name: &OperationName,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    now: OffsetDateTime,
) -> Reply {
    match call {
        _ if !status.is_success() => Reply::Failure(failure(status, headers, body, now)),
        Call::Cancel => Reply::Accepted,
        Call::Get => match operation_json::operation(body, name.id()) {
            Ok(operation) => Reply::Operation(operation),
            Err(error) => Reply::Undecodable { detail: error.to_string() },
        },
    }
}

fn failure(status: StatusCode, headers: &HeaderMap, body: &[u8], now: OffsetDateTime) -> Failure {
    let (envelope, unreadable) = match ErrorBody::decode(body) {
        ErrorBody::Envelope(envelope) => (Some(envelope), None),
        ErrorBody::Unreadable(problem) => (None, Some(problem)),
        ErrorBody::Other => (None, None),
    };
    let named = envelope.as_ref().and_then(|envelope| Code::from_name(envelope.status.as_deref()?));
    // 400, 409 and 500 each stand for several codes: the envelope's word goes first.
    let (code, kind) = match named {
        Some(code) => (Some(code), kind(code)),
        None => by_status(status, envelope.is_some() || unreadable.is_some()),
    };
    let rate_limited = envelope.as_ref().is_some_and(|envelope| envelope.rate_limited);
    let kind = if kind == FailureKind::PermissionDenied && rate_limited { FailureKind::RateLimited } else { kind };
    let another_host = envelope.as_ref().is_some_and(|envelope| envelope.message.contains(ANOTHER_HOST));
    let kind = if kind == FailureKind::Rejected && another_host { FailureKind::NoEndpoint } else { kind };
    let message = match &envelope {
        Some(envelope) if kind == FailureKind::NoEndpoint => {
            format!("{WRONG_LOCATION}: {}", enveloped_message(status, envelope))
        }
        Some(envelope) => enveloped_message(status, envelope),
        None => match unreadable {
            Some(problem) => {
                format!("the API answered {} with an error envelope that cannot be read: {problem}", status.as_u16())
            }
            None => bare_message(status, kind, headers, body),
        },
    };
    Failure {
        kind,
        error: ErrorDetail { code: code.map(Code::number), status: code.map(|code| code.name().to_owned()), message },
        retry_after: retry_after(envelope.as_ref(), headers, now),
    }
}

/// The longest wait that the answer asks for.
fn retry_after(envelope: Option<&ErrorEnvelope>, headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let header = headers.get_all(RETRY_AFTER).iter();
    let header = header.filter_map(|value| retry_delay::retry_after(value.to_str().ok()?, now)).max();
    envelope.and_then(|envelope| envelope.retry_delay).max(header).map(|wait| wait.min(MAX_RETRY_AFTER))
}

/// What a service means by a code.
const fn kind(code: Code) -> FailureKind {
    match code {
        Code::Cancelled | Code::AlreadyExists | Code::Aborted => FailureKind::Conflict,
        Code::Unknown | Code::DeadlineExceeded | Code::Internal | Code::Unavailable | Code::DataLoss => {
            FailureKind::Unavailable
        }
        Code::InvalidArgument | Code::OutOfRange => FailureKind::Rejected,
        Code::NotFound => FailureKind::NotFound,
        Code::PermissionDenied => FailureKind::PermissionDenied,
        Code::ResourceExhausted => FailureKind::RateLimited,
        Code::FailedPrecondition => FailureKind::FailedPrecondition,
        Code::Unimplemented => FailureKind::Unimplemented,
        Code::Unauthenticated => FailureKind::Unauthenticated,
    }
}

/// What an HTTP status means by itself: the answer has no envelope, or one without a known status name.
fn by_status(status: StatusCode, enveloped: bool) -> (Option<Code>, FailureKind) {
    match (Code::from_http_status(status.as_u16()), status.as_u16()) {
        // A front end that does not know the URL answers with a page; only the service itself writes envelopes.
        (Some(code @ Code::NotFound), _) if !enveloped => (Some(code), FailureKind::BadEndpoint),
        (Some(code), _) => (Some(code), kind(code)),
        (None, 405) if !enveloped => (Some(Code::FailedPrecondition), FailureKind::BadEndpoint),
        (None, 408) => (Some(Code::DeadlineExceeded), FailureKind::Unavailable),
        (None, 416) => (Some(Code::OutOfRange), FailureKind::Rejected),
        _ if status.is_redirection() => (None, FailureKind::BadEndpoint),
        _ if status.is_client_error() => (Some(Code::FailedPrecondition), FailureKind::Rejected),
        _ if status.is_server_error() => (Some(Code::Internal), FailureKind::Unavailable),
        // 1xx is no final answer, and 600 and above is no HTTP: nothing is known.
        _ => (None, FailureKind::Unavailable),
    }
}

/// `the API answered 403 PERMISSION_DENIED (SERVICE_DISABLED): the service's words`.
fn enveloped_message(status: StatusCode, envelope: &ErrorEnvelope) -> String {
    let mut message = format!("the API answered {}", status.as_u16());
    if let Some(name) = &envelope.status {
        let _ = write!(message, " {}", printable(name, 64));
    }
    if let Some(reason) = &envelope.reason {
        let _ = write!(message, " ({})", printable(reason, 64));
    }
    if !envelope.message.is_empty() {
        let _ = write!(message, ": {}", printable(&envelope.message, MAX_MESSAGE_BYTES));
    }
    message
}

/// `the API answered 502 Bad Gateway without an error envelope: the beginning of what it wrote`.
fn bare_message(status: StatusCode, kind: FailureKind, headers: &HeaderMap, body: &[u8]) -> String {
    let mut message = format!("the API answered {}", status.as_u16());
    if let Some(reason) = status.canonical_reason() {
        let _ = write!(message, " {reason}");
    }
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if status.is_redirection() {
        message.push_str(", and redirects are not followed");
        if let Some(host) = redirect_host(headers) {
            let _ = write!(message, " (to {})", printable(&host, 300));
        }
    } else if text.starts_with('<') {
        message.push_str(" with an HTML page instead of an error envelope");
    } else {
        message.push_str(" without an error envelope");
    }
    if kind == FailureKind::BadEndpoint {
        let _ = write!(message, ": {WRONG_ENDPOINT}");
    } else if !text.is_empty() && !text.starts_with('<') {
        let _ = write!(message, ": {}", printable(text, 200));
    }
    message
}

/// Only the origin: the rest of a redirect, to a login page for example, may hold secrets.
fn redirect_host(headers: &HeaderMap) -> Option<String> {
    let url = Url::parse(headers.get(LOCATION)?.to_str().ok()?).ok()?;
    url.has_host().then(|| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;
    use time::macros::datetime;

    use super::FailureKind as Kind;
    use super::*;

    fn name() -> OperationName {
        OperationName::parse("projects/p/operations/o").expect("a name")
    }

    const NOW: OffsetDateTime = datetime!(2025-06-01 12:00 UTC);
    const HTML: &str = "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>";

    fn fails(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Failure {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        let reply = |call| match reply(call, &name(), status, &map, body.as_bytes(), NOW) {
            Reply::Failure(failure) => failure,
            other => panic!("{other:?}"),
        };
        let (cancel, get) = (reply(Call::Cancel), reply(Call::Get));
        assert_eq!((cancel.kind, &cancel.error, cancel.retry_after), (get.kind, &get.error, get.retry_after));
        cancel
    }

    fn envelope(http: u16, name: &str) -> String {
        format!(r#"{{"error":{{"code":{http},"message":"the words","status":"{name}"}}}}"#)
    }

    const TABLE: [(&str, i32, u16, Kind); 16] = [
        ("CANCELLED", 1, 499, Kind::Conflict),
        ("UNKNOWN", 2, 500, Kind::Unavailable),
        ("INVALID_ARGUMENT", 3, 400, Kind::Rejected),
        ("DEADLINE_EXCEEDED", 4, 504, Kind::Unavailable),
        ("NOT_FOUND", 5, 404, Kind::NotFound),
        ("ALREADY_EXISTS", 6, 409, Kind::Conflict),
        ("PERMISSION_DENIED", 7, 403, Kind::PermissionDenied),
        ("RESOURCE_EXHAUSTED", 8, 429, Kind::RateLimited),
        ("FAILED_PRECONDITION", 9, 400, Kind::FailedPrecondition),
        ("ABORTED", 10, 409, Kind::Conflict),
        ("OUT_OF_RANGE", 11, 400, Kind::Rejected),
        ("UNIMPLEMENTED", 12, 501, Kind::Unimplemented),
        ("INTERNAL", 13, 500, Kind::Unavailable),
        ("UNAVAILABLE", 14, 503, Kind::Unavailable),
        ("DATA_LOSS", 15, 500, Kind::Unavailable),
        ("UNAUTHENTICATED", 16, 401, Kind::Unauthenticated),
    ];

    #[test]
    fn every_code_of_the_table_is_known_by_its_name_whatever_the_http_status() {
        for (name, code, http, kind) in TABLE {
            for status in [http, 400, 409, 500, 302] {
                let failure = fails(status, &[], &envelope(http, name));
                assert_eq!(failure.kind, kind, "{name} with HTTP {status}");
                assert_eq!((failure.error.code, failure.error.status.as_deref()), (Some(code), Some(name)));
                assert_eq!(failure.error.message, format!("the API answered {status} {name}: the words"));
            }
        }
    }

    #[test]
    fn without_an_envelope_the_http_status_decides() {
        for (http, code, kind) in [
            (301, None, Kind::BadEndpoint),
            (302, None, Kind::BadEndpoint),
            (304, None, Kind::BadEndpoint),
            (307, None, Kind::BadEndpoint),
            (308, None, Kind::BadEndpoint),
            (400, Some(3), Kind::Rejected),
            (401, Some(16), Kind::Unauthenticated),
            (402, Some(9), Kind::Rejected),
            (403, Some(7), Kind::PermissionDenied),
            (404, Some(5), Kind::BadEndpoint),
            (405, Some(9), Kind::BadEndpoint),
            (408, Some(4), Kind::Unavailable),
            (409, Some(10), Kind::Conflict),
            (411, Some(9), Kind::Rejected),
            (413, Some(9), Kind::Rejected),
            (416, Some(11), Kind::Rejected),
            (429, Some(8), Kind::RateLimited),
            (499, Some(1), Kind::Conflict),
            (500, Some(13), Kind::Unavailable),
            (501, Some(12), Kind::Unimplemented),
            (502, Some(13), Kind::Unavailable),
            (503, Some(14), Kind::Unavailable),
            (504, Some(4), Kind::Unavailable),
            (599, Some(13), Kind::Unavailable),
            (103, None, Kind::Unavailable),
            (999, None, Kind::Unavailable),
        ] {
            for body in ["", HTML, "upstream connect error", r#"{"error":"invalid_grant"}"#, "[1]"] {
                let failure = fails(http, &[], body);
                assert_eq!((failure.kind, failure.error.code), (kind, code), "HTTP {http} with {body:?}");
                let name = code.and_then(|code| TABLE.iter().find(|row| row.1 == code)).map(|row| row.0);
                assert_eq!(failure.error.status.as_deref(), name);
                assert!(failure.error.message.starts_with(&format!("the API answered {http}")));
            }
        }
    }

    #[test]
    fn an_envelope_without_a_known_status_name_goes_by_the_http_status() {
        for body in [envelope(404, "MISLAID"), envelope(404, "OK"), r#"{"error":{"code":404,"message":"m"}}"#.into()] {
            let missing = fails(404, &[], &body);
            assert_eq!((missing.kind, missing.error.code), (Kind::NotFound, Some(5)), "{body}");
            assert_eq!(fails(405, &[], &body).kind, Kind::Rejected);
            assert_eq!(fails(503, &[], &body).kind, Kind::Unavailable);
            assert_eq!(fails(302, &[], &body).kind, Kind::BadEndpoint);
        }
        assert_eq!(fails(404, &[], &envelope(404, "MISLAID")).error.message, "the API answered 404 MISLAID: the words");
    }

    #[test]
    fn a_page_or_a_redirect_says_which_settings_to_check() {
        let page = fails(404, &[], HTML).error.message;
        assert_eq!(
            page,
            "the API answered 404 Not Found with an HTML page instead of an error envelope: \
             this endpoint does not serve the call; check api.endpoint, api.endpoints and api.version"
        );
        assert!(fails(405, &[], "").error.message.contains("check api.endpoint, api.endpoints and api.version"));
        let redirect = fails(302, &[("location", "https://login.example.com/?token=s3cret")], "").error.message;
        assert!(
            redirect.contains("302 Found, and redirects are not followed (to https://login.example.com)"),
            "{redirect}"
        );
        assert!(redirect.contains("api.version") && !redirect.contains("s3cret"), "{redirect}");
        let gateway = fails(502, &[], "upstream\r\nconnect error").error.message;
        assert_eq!(gateway, "the API answered 502 Bad Gateway without an error envelope: upstream  connect error");
    }

    #[test]
    fn a_host_that_points_to_another_does_not_serve_the_location() {
        let words =
            "Please refer to https://cloud.google.com/dialogflow/docs/reference/rest to find the correct endpoint.";
        let body = |name: &str| format!(r#"{{"error":{{"code":400,"message":"{words}","status":"{name}"}}}}"#);
        let elsewhere = fails(400, &[], &body("INVALID_ARGUMENT"));
        assert_eq!((elsewhere.kind, elsewhere.error.code), (Kind::NoEndpoint, Some(3)));
        assert_eq!(
            elsewhere.error.message,
            format!(
                "this endpoint does not serve the operation's location; check api.endpoint, api.endpoints and \
                 api.rep_locations: the API answered 400 INVALID_ARGUMENT: {words}"
            )
        );
        assert_eq!(fails(400, &[], &body("FAILED_PRECONDITION")).kind, Kind::FailedPrecondition);
        assert_eq!(fails(404, &[], &body("NOT_FOUND")).kind, Kind::NotFound);
        assert_eq!(fails(400, &[], &envelope(400, "INVALID_ARGUMENT")).kind, Kind::Rejected);
    }

    #[test]
    fn a_403_for_the_rate_is_a_rate_limit_and_others_are_not() {
        let with = |reason: &str| {
            format!(
                r#"{{"error":{{"code":403,"message":"m","status":"PERMISSION_DENIED","details":[
                {{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"{reason}","domain":"googleapis.com"}}]}}}}"#
            )
        };
        let limited = fails(403, &[], &with("RATE_LIMIT_EXCEEDED"));
        assert_eq!((limited.kind, limited.error.code), (Kind::RateLimited, Some(7)));
        assert_eq!(limited.error.message, "the API answered 403 PERMISSION_DENIED (RATE_LIMIT_EXCEEDED): m");
        assert_eq!(fails(403, &[], &with("SERVICE_DISABLED")).kind, Kind::PermissionDenied);
        let unnamed = r#"{"error":{"code":403,"details":[{"reason":"RATE_LIMIT_EXCEEDED"}]}}"#;
        assert_eq!(fails(403, &[], unnamed).kind, Kind::RateLimited);
        assert_eq!(fails(404, &[], unnamed).kind, Kind::NotFound);
    }

    #[test]
    fn the_longer_of_retry_info_and_retry_after_is_asked_for_up_to_a_day() {
        let info = |delay: &str| {
            format!(
                r#"{{"error":{{"status":"UNAVAILABLE","details":[
                {{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{delay}"}}]}}}}"#
            )
        };
        let wait = |headers: &[(&'static str, &'static str)], body: &str| {
            fails(503, headers, body).retry_after.map(|wait| wait.as_secs_f64())
        };
        assert_eq!(wait(&[], ""), None);
        assert_eq!(wait(&[], &info("1.5s")), Some(1.5));
        assert_eq!(wait(&[("retry-after", "3")], &info("1.5s")), Some(3.0));
        assert_eq!(wait(&[("retry-after", "1")], &info("1.5s")), Some(1.5));
        assert_eq!(wait(&[("retry-after", "soon")], &info("-3s")), None);
        assert_eq!(wait(&[("retry-after", "7"), ("retry-after", "9")], ""), Some(9.0));
        assert_eq!(wait(&[("retry-after", "Sun, 01 Jun 2025 12:00:20 GMT")], ""), Some(20.0));
        assert_eq!(wait(&[("retry-after", "Sun, 01 Jun 2025 11:59:59 GMT")], ""), None);
        assert_eq!(wait(&[("retry-after", "Fri, 01 Jun 2035 12:00:00 GMT")], ""), Some(86_400.0));
        assert_eq!(wait(&[("retry-after", "18446744073709551615")], ""), Some(86_400.0));
    }

    #[test]
    fn a_services_words_are_bounded_and_hold_no_control_characters() {
        let body = serde_json::json!({"error": {"status": "INTERNAL", "message": format!("a\u{1b}[31m\n{}", "ü".repeat(2000))}});
        let message = fails(500, &[], &body.to_string()).error.message;
        let words = message.strip_prefix("the API answered 500 INTERNAL: ").expect("prefixed");
        assert!(
            words.starts_with("a [31m ü") && words.len() <= MAX_MESSAGE_BYTES && words.len() > MAX_MESSAGE_BYTES - 4
        );
    }

    #[test]
    fn an_accepted_cancel_needs_no_body_and_a_get_needs_an_operation() {
        for body in ["", "{}", "[", HTML] {
            let cancel = reply(Call::Cancel, &name(), StatusCode::NO_CONTENT, &HeaderMap::new(), body.as_bytes(), NOW);
            assert!(matches!(cancel, Reply::Accepted), "{body:?}");
        }
        let get = |body: &str| reply(Call::Get, &name(), StatusCode::OK, &HeaderMap::new(), body.as_bytes(), NOW);
        assert!(matches!(get("{\"done\":true}"), Reply::Operation(operation) if operation.done));
        for same in ["", "o", "projects/7/locations/global/operations/o"] {
            assert!(matches!(get(&format!("{{\"name\":\"{same}\",\"done\":true}}")), Reply::Operation(_)), "{same}");
        }
        let other = r#"{"name":"projects/p/operations/o2","done":true,"error":{"code":1}}"#;
        let ends = r#"ends in "o2""#;
        assert!(matches!(get(other), Reply::Undecodable { detail } if detail.contains(ends)));
        assert!(matches!(get(HTML), Reply::Undecodable { detail } if detail.contains("not JSON")));
    }

    proptest! {
        #[test]
        fn any_answer_gets_a_reply_that_is_no_success_without_2xx(
            status in 100_u16..1000,
            body in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..300),
                "\\{\"error\":\\{\"(status|message|code|details)\":(\"[A-Z_]{0,20}\"|[0-9]{1,25}|\\[\\{\\}\\])\\}\\}"
                    .prop_map(String::into_bytes),
            ],
            retry_after in proptest::collection::vec(any::<u8>(), 0..40),
            cancel in any::<bool>(),
        ) {
            let status = StatusCode::from_u16(status).expect("a status");
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&retry_after) {
                headers.insert(LOCATION, value.clone());
                headers.insert(RETRY_AFTER, value);
            }
            let call = if cancel { Call::Cancel } else { Call::Get };
            match reply(call, &name(), status, &headers, &body, NOW) {
                Reply::Accepted => prop_assert!(status.is_success() && cancel),
                Reply::Operation(_) | Reply::Undecodable { .. } => prop_assert!(status.is_success() && !cancel),
                Reply::Failure(failure) => {
                    prop_assert!(!status.is_success());
                    prop_assert!(failure.error.message.len() < 1300);
                    prop_assert!(!failure.error.message.chars().any(char::is_control));
                    prop_assert!(failure.retry_after.is_none_or(|wait| wait <= MAX_RETRY_AFTER));
                }
                Reply::NotMade(_) => prop_assert!(false, "it was answered"),
            }
        }
    }
}
