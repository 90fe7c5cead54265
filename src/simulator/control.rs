use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use axum::routing::{delete, get, put};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::injected_faults::FaultRequest;
use super::operation::{Method, Operation, Record};
use super::response::json;
use super::script::Script;
use super::shared::Shared;
use super::state::SimulatorState;
use super::target::query_value;

/// The calls of the control endpoint.
pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/control/health", get(async || done()))
        .route("/control/operations", delete(reset))
        .route("/control/operations/{id}", put(set_script))
        .route("/control/calls", get(calls))
        .route("/control/stats", get(stats))
        .route("/control/weather", put(inject_faults))
        .route("/control/token", put(set_token))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptSpec {
    script: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenSpec {
    token: Option<String>,
}

#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
}

/// The calls for an operation, as `GET /control/calls` tells them.
#[derive(Serialize)]
struct Calls<'a> {
    /// `null`: no call yet.
    name: Option<&'a str>,
    script: Option<String>,
    cancel_calls: u32,
    get_calls: u32,
    too_early: u32,
    /// Of the last cancel; `null` if it had none.
    content_length: Option<u32>,
    /// `x-goog-user-project` of the last call.
    user_project: Option<&'a str>,
    /// The first 64.
    calls: Vec<OneCall>,
}

#[derive(Serialize)]
struct OneCall {
    call: &'static str,
    at_ms: i128,
    /// `null`: no answer.
    status: Option<u16>,
    too_early: bool,
    /// Whether there was an `Authorization` header.
    authorization: bool,
}

async fn reset(State(shared): State<Arc<Shared>>) -> Response {
    shared.state().reset();
    done()
}

async fn set_script(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: Bytes) -> Response {
    let spec: ScriptSpec = match read(&body) {
        Ok(spec) => spec,
        Err(reason) => return refused(400, &reason),
    };
    match Script::parse(&spec.script) {
        Ok(script) => answer(shared.state().store.set_script(id, script)),
        Err(error) => refused(400, &error.to_string()),
    }
}

async fn inject_faults(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    match read::<FaultRequest>(&body) {
        Ok(request) => answer(shared.state().injected_faults.set(request)),
        Err(reason) => refused(400, &reason),
    }
}

async fn set_token(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let Ok(spec) = serde_json::from_slice::<TokenSpec>(&body) else {
        // Without serde's message: it may quote the token.
        return refused(400, r#"the body is not {"token":"…"} or {"token":null}"#);
    };
    shared.state().set_token(spec.token);
    done()
}

async fn stats(State(shared): State<Arc<Shared>>) -> Response {
    let totals = shared.state().totals(Instant::now());
    json(200, &totals)
}

async fn calls(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    let Some(id) = query_value(query.as_deref(), "id") else {
        return refused(400, "the query has no id=…");
    };
    let state = shared.state();
    match state.store.find(&id).as_slice() {
        [] => json(200, &Calls::none()),
        [(name, operation)] => json(200, &Calls::of(name, operation, &state)),
        _ => refused(409, "several operations have this id: ask with the full name"),
    }
}

impl<'a> Calls<'a> {
    fn none() -> Self {
        Self {
            name: None,
            script: None,
            cancel_calls: 0,
            get_calls: 0,
            too_early: 0,
            content_length: None,
            user_project: None,
            calls: Vec::new(),
        }
    }

    fn of(name: &'a str, operation: &'a Operation, state: &SimulatorState) -> Self {
        let log = &operation.log;
        Self {
            name: Some(name),
            script: Some(format!("{:?}", operation.script)),
            cancel_calls: log.cancels,
            get_calls: log.gets,
            too_early: log.too_early,
            content_length: log.content_length,
            user_project: log.user_project.as_deref(),
            calls: log.calls.iter().map(|record| OneCall::of(record, state)).collect(),
        }
    }
}

impl OneCall {
    fn of(record: &Record, state: &SimulatorState) -> Self {
        Self {
            call: match record.method {
                Method::Cancel => "cancel",
                Method::Get => "get",
            },
            at_ms: state.unix_millis(record.at),
            status: (record.status != 0).then_some(record.status),
            too_early: record.too_early,
            authorization: record.authorized,
        }
    }
}

/// Reads a body, or says why not.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("the body cannot be read: {error}"))
}

fn answer<E: std::error::Error>(result: Result<(), E>) -> Response {
    result.map_or_else(|error| refused(400, &error.to_string()), |()| done())
}

fn done() -> Response {
    json(200, &serde_json::Map::new())
}

fn refused(status: u16, error: &str) -> Response {
    json(status, &Refusal { error })
}
