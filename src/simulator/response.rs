use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::clock::wall_clock;
use super::fault::Fault;
use super::google_error::{Detail, Envelope, message};
use super::html_page;
use super::operation::Answer;
use super::script::Ending;
use super::store::Listed;
use super::target::Resource;
use crate::google_rpc::Code;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=UTF-8");
const CHALLENGE: HeaderValue =
    HeaderValue::from_static(r#"Bearer realm="https://accounts.google.com/", error="invalid_token""#);
/// A path that nothing is served at.
const REDIRECT_LOCATION: HeaderValue = HeaderValue::from_static("/redirected");
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
/// More than the 1 MiB that clients accept.
const BIG_PADDING: usize = 5 << 18;

/// `google.longrunning.Operation` in proto3 JSON: what is false or unset is left out.
#[derive(Serialize)]
struct Operation<'a> {
    name: &'a str,
    metadata: Metadata<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Document<'a>>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(rename = "@type")]
    kind: AnyOf<'a>,
    state: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    padding: &'a str,
}

/// `google.rpc.Status`; without a code it is `{}`.
#[derive(Serialize)]
struct Error {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "@type")]
    kind: AnyOf<'a>,
    #[serde(rename = "displayName")]
    display_name: &'static str,
}

/// The type URL of one of Dialogflow's messages in a version of the API.
struct AnyOf<'a> {
    version: &'a str,
    message: &'static str,
}

impl Serialize for AnyOf<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { version, message } = self;
        serializer.collect_str(&format_args!("type.googleapis.com/google.cloud.dialogflow.{version}.{message}"))
    }
}

#[derive(Serialize)]
struct List<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    operations: Vec<Operation<'a>>,
    #[serde(rename = "nextPageToken", skip_serializing_if = "Option::is_none")]
    next_page_token: Option<String>,
}

impl<'a> Operation<'a> {
    fn new(version: &'a str, name: &'a str, ending: Option<Ending>) -> Self {
        let error = match ending {
            Some(Ending::Cancelled) => Some(Error::of(Code::Cancelled)),
            Some(Ending::Error(code)) => Some(Error::of(code)),
            Some(Ending::EmptyError) => Some(Error { code: None, message: None }),
            Some(Ending::Completed | Ending::Empty) | None => None,
        };
        let document =
            || Document { kind: AnyOf { version, message: "Document" }, display_name: "finished all the same" };
        let kind = AnyOf { version, message: "KnowledgeOperationMetadata" };
        let state = if ending.is_some() { "DONE" } else { "RUNNING" };
        Self {
            name,
            metadata: Metadata { kind, state, padding: "" },
            done: ending.is_some(),
            error,
            response: (ending == Some(Ending::Completed)).then(document),
        }
    }
}

impl Error {
    const fn of(code: Code) -> Self {
        Self { code: Some(code.number()), message: Some(message(code)) }
    }
}

/// An answer as HTTP. `Fault::Hang` and `Fault::Cut` have no response: the caller closes the connection.
pub(super) fn of_answer(answer: Answer, resource: &Resource<'_>) -> Response {
    match answer {
        Answer::Accepted => with_body(200, JSON, b"{}".to_vec()),
        Answer::Operation(ending) => json(200, &Operation::new(resource.version, &resource.name, ending)),
        Answer::BadBody => {
            let message = "Invalid JSON payload received. The request body must be empty.";
            with_body(400, JSON, Envelope::invalid_argument(message).to_json())
        }
        Answer::Fault(fault) => faulty(fault, resource),
    }
}

/// A page of a list.
pub(super) fn list(listed: &Listed, version: &str) -> Response {
    let operations = listed.operations.iter().map(|(name, ending)| Operation::new(version, name, *ending)).collect();
    json(200, &List { operations, next_page_token: listed.next.map(|position| position.to_string()) })
}

/// An answer of the front end.
pub(super) fn front_end(status: u16, path: &str) -> Response {
    with_body(status, HTML, html_page::html(status, path))
}

/// Any JSON.
pub(super) fn json(status: u16, value: &impl Serialize) -> Response {
    // Strings, numbers and maps with plain keys only: it cannot fail.
    with_body(status, JSON, serde_json::to_vec(value).unwrap_or_default())
}

fn faulty(fault: Fault, resource: &Resource<'_>) -> Response {
    let status = fault.status().unwrap_or(503);
    let page = || with_body(status, HTML, html_page::html(status, &format!("/{}/{}", resource.version, resource.name)));
    match fault {
        Fault::Code(Code::Unauthenticated) => {
            let details = vec![Detail::error_info("ACCESS_TOKEN_EXPIRED")];
            with_header(envelope(Code::Unauthenticated, details), WWW_AUTHENTICATE, CHALLENGE)
        }
        Fault::Code(Code::PermissionDenied) => {
            envelope(Code::PermissionDenied, vec![Detail::error_info("IAM_PERMISSION_DENIED")])
        }
        Fault::Code(code) => envelope(code, Vec::new()),
        Fault::Limited { wait } => {
            envelope(Code::ResourceExhausted, vec![Detail::quota_failure(), Detail::retry_info(wait)])
        }
        Fault::Quota403 { wait } => {
            let details = vec![Detail::error_info("RATE_LIMIT_EXCEEDED"), Detail::retry_info(wait)];
            envelope(Code::PermissionDenied, details)
        }
        Fault::RetryAfter { seconds, .. } => with_header(page(), RETRY_AFTER, seconds.into()),
        Fault::RetryDate { seconds } => match http_date_after(wall_clock(), seconds) {
            Some(date) => with_header(page(), RETRY_AFTER, date),
            None => page(),
        },
        Fault::Redirect => with_header(page(), LOCATION, REDIRECT_LOCATION),
        Fault::NotJson => with_body(status, HTML, b"<html>this is not JSON</html>".to_vec()),
        Fault::Big => {
            let padding = "x".repeat(BIG_PADDING);
            let mut operation = Operation::new(resource.version, &resource.name, Some(Ending::Cancelled));
            operation.metadata.padding = &padding;
            json(status, &operation)
        }
        Fault::Html(_) | Fault::Hang | Fault::Cut => page(),
    }
}

fn envelope(code: Code, details: Vec<Detail>) -> Response {
    with_body(code.http_status(), JSON, Envelope::new(code, details).to_json())
}

/// The first full second that is at least this many seconds from now.
fn http_date_after(now: OffsetDateTime, seconds: u32) -> Option<HeaderValue> {
    let whole = i64::from(seconds) + i64::from(now.nanosecond() > 0);
    let date = now.checked_add(time::Duration::seconds(whole))?.format(HTTP_DATE).ok()?;
    HeaderValue::try_from(date).ok()
}

fn with_body(status: u16, content_type: HeaderValue, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn with_header(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn an_http_date_never_comes_before_the_wait_is_over() {
        let date = |now| http_date_after(now, 2).expect("a date");
        assert_eq!(date(datetime!(2025-01-31 23:59:58 UTC)), "Sat, 01 Feb 2025 00:00:00 GMT");
        assert_eq!(date(datetime!(2025-01-31 23:59:58.001 UTC)), "Sat, 01 Feb 2025 00:00:01 GMT");
    }
}
