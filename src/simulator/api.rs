use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method as HttpMethod};
use axum::response::Response;
use tokio::time::Instant;

use super::connection::Connection;
use super::fault::Fault;
use super::operation::{Answer, Method};
use super::response;
use super::shared::Shared;
use super::state::{Call, CallHeaders};
use super::target::{Resource, Target, query_value};

/// Longest body of a cancel that is read.
const MAX_BODY: usize = 64 << 10;

/// Longest value of a header that is kept.
const MAX_HEADER_VALUE: usize = 256;

const DEFAULT_PAGE_SIZE: usize = 50;

const MAX_PAGE_SIZE: usize = 1000;

/// Answers everything that is not the control endpoint: the Operations API, and the front end before it.
pub(super) async fn serve(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let response = respond(&shared, &connection, &parts, body).await;
    tracing::trace!(method = %parts.method, path = parts.uri.path(), status = response.status().as_u16(), "simulated");
    response
}

async fn respond(shared: &Shared, connection: &Connection, parts: &Parts, body: Body) -> Response {
    let path = parts.uri.path();
    let is_post = parts.method == HttpMethod::POST;
    if is_post && !parts.headers.contains_key(CONTENT_LENGTH) && !parts.headers.contains_key(TRANSFER_ENCODING) {
        return unknown(shared, 411, path);
    }
    match Target::of_path(path) {
        Some(Target::Cancel(resource)) if is_post => {
            let body_is_empty = is_empty_body(&parts.headers, body).await;
            call(shared, connection, Method::Cancel, &resource, &parts.headers, body_is_empty).await
        }
        Some(Target::Operation(resource)) if parts.method == HttpMethod::GET => {
            call(shared, connection, Method::Get, &resource, &parts.headers, true).await
        }
        Some(Target::List(parent)) if parts.method == HttpMethod::GET => {
            list(shared, connection, &parent, parts.uri.query(), &parts.headers).await
        }
        Some(_) => unknown(shared, 405, path),
        None => unknown(shared, 404, path),
    }
}

fn unknown(shared: &Shared, status: u16, path: &str) -> Response {
    shared.state().count_unknown(status);
    response::front_end(status, path)
}

async fn call(
    shared: &Shared,
    connection: &Connection,
    method: Method,
    resource: &Resource<'_>,
    headers: &HeaderMap,
    body_is_empty: bool,
) -> Response {
    let call = Call { method, resource, headers: call_headers(headers), body_is_empty };
    let (answer, latency) = shared.state().call(&call, Instant::now());
    deliver(shared, connection, answer, latency).await;
    response::of_answer(answer, resource)
}

async fn list(
    shared: &Shared,
    connection: &Connection,
    parent: &Resource<'_>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Response {
    let (listed, latency) = shared.state().list(parent, &call_headers(headers), page(query), Instant::now());
    match listed {
        Ok(listed) => {
            shared.pause(latency).await;
            response::list(&listed, parent.version)
        }
        Err(answer) => {
            deliver(shared, connection, answer, latency).await;
            response::of_answer(answer, parent)
        }
    }
}

/// Waits until the answer is due. One that never comes is due when the simulator closes, and then closes its connection.
async fn deliver(shared: &Shared, connection: &Connection, answer: Answer, latency: Duration) {
    shared.pause(latency).await;
    match answer {
        Answer::Fault(Fault::Hang) => {
            shared.closing().await;
            connection.cut();
        }
        Answer::Fault(Fault::Cut) => connection.cut(),
        _ => {}
    }
}

/// Whether a cancel's body is empty or `{}`.
async fn is_empty_body(headers: &HeaderMap, body: Body) -> bool {
    if content_length(headers) == Some(0) {
        return true;
    }
    let Ok(bytes) = axum::body::to_bytes(body, MAX_BODY).await else { return false };
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    text.is_empty() || text == b"{}"
}

/// The position where the page begins, and its size. `None` if the query is invalid.
fn page(query: Option<&str>) -> Option<(u64, usize)> {
    let from = match query_value(query, "pageToken").as_deref() {
        None | Some("") => 0,
        Some(token) => token.parse().ok()?,
    };
    let max = match query_value(query, "pageSize").as_deref() {
        None | Some("0") => DEFAULT_PAGE_SIZE,
        Some(size) => size.parse::<usize>().ok()?.min(MAX_PAGE_SIZE),
    };
    Some((from, max))
}

fn call_headers(headers: &HeaderMap) -> CallHeaders<'_> {
    const USER_PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    CallHeaders {
        authorization: text(AUTHORIZATION),
        content_length: content_length(headers),
        user_project: text(USER_PROJECT).filter(|value| value.len() <= MAX_HEADER_VALUE),
    }
}

fn content_length(headers: &HeaderMap) -> Option<u32> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
