//! What issues tokens and what takes them, on one loopback port: Google's token server, security token service, IAM
//! credentials, metadata server, and an Operations API that takes only tokens which are still good.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How long after its end a token may still arrive: what a call takes on a busy machine.
const SKEW: Duration = Duration::from_secs(1);

/// The stub. It stops when it is dropped.
pub struct Stub {
    address: String,
    state: Arc<Mutex<World>>,
    task: AbortHandle,
}

/// How the stub behaves, and what it saw.
#[derive(Default)]
pub struct World {
    /// How long an issued token is good.
    pub lifetime: Option<Duration>,
    /// What the token server answers instead of a token.
    pub token_fault: Option<(u16, String)>,
    /// The token server takes requests and never answers.
    pub silent: bool,
    /// The API refuses every token.
    pub refuse_all: bool,
    /// The API repeats a refused token in its answer.
    pub echo: bool,
    /// Part of every token.
    pub canary: String,
    /// Answers to token requests, and the requests: method, path, headers, body.
    pub fetches: Vec<(String, HeaderMap, String)>,
    /// What the API was sent, in order.
    pub calls: Vec<HeaderMap>,
    /// Calls that were refused.
    pub refused: usize,
    /// Calls with a token that had ended longer than a moment ago.
    pub expired: usize,
    issued: HashMap<String, Option<Instant>>,
    revoked: HashSet<String>,
}

impl Stub {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(World { canary: "t0ken".repeat(8), ..World::default() }));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }).abort_handle();
        Self { address, state, task }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.state.lock().unwrap()
    }

    /// How many tokens were asked for.
    pub fn fetches(&self) -> usize {
        self.world().fetches.len()
    }

    /// The API takes none of the tokens that were issued so far.
    pub fn revoke_all(&self) {
        let mut world = self.world();
        let issued: Vec<String> = world.issued.keys().cloned().collect();
        world.revoked.extend(issued);
    }

    /// What gcloud writes for a user, with this stub as the token server.
    pub fn authorized_user(&self) -> Value {
        json!({"type": "authorized_user", "client_id": "me.apps.googleusercontent.com", "client_secret": "cl1ent-s3cret",
            "refresh_token": "1//r3fresh-t0ken", "token_uri": self.url("/token")})
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl World {
    fn issue(&mut self) -> String {
        let token = format!("ya29.{}-{}", self.canary, self.issued.len());
        self.issued.insert(token.clone(), self.lifetime.map(|lifetime| Instant::now() + lifetime));
        token
    }

    fn takes(&mut self, headers: &HeaderMap) -> bool {
        let token = bearer(headers).unwrap_or_default().to_owned();
        // A token that a service account signs itself is not issued by anybody.
        let known = self.issued.get(&token).copied().or(token.starts_with("eyJ").then_some(None));
        let good = !self.refuse_all && !self.revoked.contains(&token);
        match known {
            Some(Some(end)) if end + SKEW < Instant::now() => {
                self.expired += 1;
                false
            }
            // As ended as it may be: the API takes it, as Google's would for a moment.
            Some(_) => good,
            None => false,
        }
    }
}

pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

async fn answer(
    State(state): State<Arc<Mutex<World>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    if path.starts_with("/v2beta1/") {
        return api(&mut state.lock().unwrap(), &path, headers);
    }
    let silent = {
        let mut world = state.lock().unwrap();
        world.fetches.push((format!("{method} {uri}"), headers, String::from_utf8(body.into()).unwrap()));
        world.silent
    };
    if silent {
        std::future::pending::<()>().await;
    }
    // What a real server takes, during which calls pile up.
    tokio::time::sleep(Duration::from_millis(50)).await;
    token(&mut state.lock().unwrap(), &path)
}

fn token(world: &mut World, path: &str) -> Response {
    if let Some((status, body)) = &world.token_fault {
        return (StatusCode::from_u16(*status).unwrap(), body.clone()).into_response();
    }
    let token = world.issue();
    let seconds = world.lifetime.map_or(3600, |lifetime| lifetime.as_secs());
    let answer = if path.ends_with(":generateAccessToken") {
        json!({"accessToken": token, "expireTime": "2099-01-01T00:00:00Z"})
    } else {
        json!({"access_token": token, "expires_in": seconds, "token_type": "Bearer",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})
    };
    Json(answer).into_response()
}

fn api(world: &mut World, path: &str, headers: HeaderMap) -> Response {
    let good = world.takes(&headers);
    world.calls.push(headers.clone());
    if !good {
        world.refused += 1;
        let shown = if world.echo { bearer(&headers).unwrap_or("no token").to_owned() } else { "invalid".to_owned() };
        let message = format!("Request had invalid authentication credentials: {shown}");
        let error = json!({"error": {"code": 401, "message": message, "status": "UNAUTHENTICATED"}});
        return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
    }
    if path.ends_with(":cancel") {
        return Json(json!({})).into_response();
    }
    let name = path.trim_start_matches("/v2beta1/");
    Json(json!({"name": name, "done": true, "error": {"code": 1, "message": "cancelled"}})).into_response()
}
