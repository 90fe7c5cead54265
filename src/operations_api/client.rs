use std::error::Error as _;
use std::time::Duration;

use bytesize::ByteSize;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue};
use reqwest::{Method, Request, Response, redirect};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};

use super::auth::{AuthError, Credentials, TokenFile};
use super::body::{drain, read_body};
use super::classify::{self, Call};
use super::endpoints::{Endpoints, InvalidEndpoint, NoEndpoint, Target};
use super::reuse::{NoteConnecting, noting_reuse};
use super::wire::{MAX_WORDS, words};
use crate::cancellation::{ErrorDetail, Failure, FailureKind, Reply};
use crate::message::OperationName;
use crate::settings::{self, CredentialsKind};

/// Of an error answer no more is read, in bytes; the rest is cut off.
const ERROR_LIMIT: usize = 64 * 1024;

/// The rest of an accepted cancel's answer is read so that the connection can serve the next call. A new connection is
/// cheaper than a longer wait.
const DRAIN: Duration = Duration::from_secs(1);

/// An HTTP/2 connection on which calls are open and nothing arrives is asked for a sign of life after this long, and
/// given up after as long again. Otherwise every call on a dead connection would run into its own time-out.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// So many old connections may turn out to be closed, one after the other, before a call counts as failed.
const REPEATS: u32 = 3;

/// No setting makes a call last longer: beyond this the clock's arithmetic could overflow.
const LONGEST_CALL: Duration = Duration::from_hours(24);

/// The Operations API, as far as a cancellation needs it.
pub trait Operations: Send + Sync + 'static {
    /// `POST {endpoint}/{version}/{name}:cancel`: [`Reply::Accepted`] or a failure. Safe to repeat.
    fn cancel(&self, name: &OperationName) -> impl Future<Output = Reply> + Send;

    /// `GET {endpoint}/{version}/{name}`: the operation as it is now, or why it is not known.
    fn get(&self, name: &OperationName) -> impl Future<Output = Reply> + Send;
}

/// The real API, over HTTP. Share it by `Arc`: it holds the connections.
pub struct Client {
    /// Goes through the proxy that the environment names, if any.
    http: reqwest::Client,
    /// Never goes through a proxy: what a loopback address means, another machine does not know, and a token that may
    /// go over http to this machine may go nowhere else.
    loopback: reqwest::Client,
    endpoints: Endpoints,
    credentials: Credentials,
    connect_timeout: Duration,
    call_timeout: Duration,
    response_limit: usize,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The TLS library or the system's certificates.
    #[error("set up the HTTP client: {0}")]
    Setup(String),
    /// An endpoint that is none.
    #[error("use the setting {setting}: it must be of the form https://host or https://host:port, without a path")]
    Endpoint {
        /// The setting's key.
        setting: String,
    },
    /// No file is named.
    #[error("find the token: api.credentials.kind is \"token_file\", but api.credentials.token_file names no file")]
    NoTokenFile,
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0}")]
    NoEndpoint(#[from] NoEndpoint),
    #[error("failed to {0}")]
    Credentials(#[from] AuthError),
    #[error("the credentials could not be read within {0:?} (api.call_timeout)")]
    CredentialsTimeout(Duration),
    #[error("no connection to {host} within {timeout:?} (api.connect_timeout)")]
    ConnectTimeout { host: String, timeout: Duration },
    #[error("no connection to {host}: {cause}")]
    Connect { host: String, cause: String },
    #[error("no answer from {host} within {timeout:?} (api.call_timeout)")]
    AnswerTimeout { host: String, timeout: Duration },
    #[error("the answer from {host} had not ended after {timeout:?} (api.call_timeout)")]
    BodyTimeout { host: String, timeout: Duration },
    #[error("the connection to {host} failed before the answer had ended: {cause}")]
    Broken { host: String, cause: String },
}

impl Operations for Client {
    async fn cancel(&self, name: &OperationName) -> Reply {
        self.call(Call::Cancel, name).await
    }

    async fn get(&self, name: &OperationName) -> Reply {
        self.call(Call::Get, name).await
    }
}

impl Client {
    /// A client for these settings. It connects when it is first used.
    ///
    /// # Errors
    /// Settings that make no sense, or a system without usable certificates.
    pub fn new(settings: &settings::Api) -> Result<Self, ClientError> {
        let endpoints =
            Endpoints::new(settings).map_err(|InvalidEndpoint(setting)| ClientError::Endpoint { setting })?;
        let setup = |error: reqwest::Error| ClientError::Setup(causes(&error));
        Ok(Self {
            http: http(settings).build().map_err(setup)?,
            loopback: http(settings).no_proxy().build().map_err(setup)?,
            endpoints,
            credentials: credentials(&settings.credentials)?,
            connect_timeout: *settings.connect_timeout,
            call_timeout: (*settings.call_timeout).min(LONGEST_CALL),
            response_limit: usize::try_from(settings.response_limit.as_u64()).unwrap_or(usize::MAX),
        })
    }

    async fn call(&self, call: Call, name: &OperationName) -> Reply {
        match self.answer(call, name).await {
            Ok(reply) => reply,
            Err(error) => Reply::Failure(error.into_failure()),
        }
    }

    /// One call, ended by its deadline.
    async fn answer(&self, call: Call, name: &OperationName) -> Result<Reply, CallError> {
        let target = self.endpoints.target(call, name)?;
        let deadline = Instant::now() + self.call_timeout;
        let authorization = timeout_at(deadline, self.credentials.authorization())
            .await
            .map_err(|_| CallError::CredentialsTimeout(self.call_timeout))??;
        let response = self.send_again(call, &target, authorization.as_ref(), deadline).await?;
        let reply = self.read(call, &target, response, deadline).await?;
        if let (Reply::Failure(Failure { kind: FailureKind::Unauthenticated, .. }), Some(refused)) =
            (&reply, &authorization)
        {
            self.credentials.renew(refused);
        }
        Ok(reply)
    }

    /// Sends, and again where the connection was an old one that broke before the answer began: most likely the server
    /// had closed it already, and never saw the call. Both calls may be repeated.
    async fn send_again(
        &self,
        call: Call,
        target: &Target,
        authorization: Option<&HeaderValue>,
        deadline: Instant,
    ) -> Result<Response, CallError> {
        let mut left = REPEATS;
        loop {
            let (sent, reused) = noting_reuse(self.send(call, target, authorization, deadline)).await;
            if !(reused && left > 0 && matches!(sent, Err(CallError::Broken { .. }))) {
                return sent;
            }
            left -= 1;
        }
    }

    async fn send(
        &self,
        call: Call,
        target: &Target,
        authorization: Option<&HeaderValue>,
        deadline: Instant,
    ) -> Result<Response, CallError> {
        let http = if target.loopback { &self.loopback } else { &self.http };
        let sent = http.execute(request(call, target.url.clone(), authorization));
        match timeout_at(deadline, sent).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() && error.is_timeout() => {
                Err(CallError::ConnectTimeout { host: target.host(), timeout: self.connect_timeout })
            }
            Ok(Err(error)) if error.is_connect() => {
                Err(CallError::Connect { host: target.host(), cause: causes(&error) })
            }
            Ok(Err(error)) => Err(CallError::Broken { host: target.host(), cause: causes(&error) }),
            Err(_) => Err(CallError::AnswerTimeout { host: target.host(), timeout: self.call_timeout }),
        }
    }

    /// Reads no more of the answer than its kind allows, and says what it means.
    async fn read(
        &self,
        call: Call,
        target: &Target,
        mut response: Response,
        deadline: Instant,
    ) -> Result<Reply, CallError> {
        let status = response.status();
        if call == Call::Cancel && status.is_success() {
            // It is accepted whatever happens to the rest of the answer.
            let _ = timeout_at(deadline.min(Instant::now() + DRAIN), drain(response, self.response_limit)).await;
            return Ok(Reply::Accepted);
        }
        let limit = if status.is_success() { self.response_limit } else { ERROR_LIMIT };
        let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
        if status.is_success() && announced.is_some_and(|length| length > limit) {
            return Ok(self.too_large());
        }
        let headers = std::mem::take(response.headers_mut());
        let body = match timeout_at(deadline, read_body(response, limit)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => return Err(CallError::Broken { host: target.host(), cause: causes(&error) }),
            Err(_) => return Err(CallError::BodyTimeout { host: target.host(), timeout: self.call_timeout }),
        };
        let bytes = body.bytes();
        if status.is_success() && bytes.len() > limit {
            return Ok(self.too_large());
        }
        let bytes = bytes.get(..limit).unwrap_or(bytes);
        Ok(classify::reply(call, status, &headers, bytes, wall_clock()))
    }

    fn too_large(&self) -> Reply {
        let limit = ByteSize::b(u64::try_from(self.response_limit).unwrap_or(u64::MAX));
        Reply::Undecodable { detail: format!("the answer is larger than {limit} (api.response_limit)") }
    }
}

/// What both kinds of connections have in common.
fn http(settings: &settings::Api) -> reqwest::ClientBuilder {
    let json = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    reqwest::Client::builder()
        .user_agent(concat!("cancel-worker/", env!("CARGO_PKG_VERSION")))
        .default_headers(json)
        .redirect(redirect::Policy::none())
        .connect_timeout(*settings.connect_timeout)
        .connector_layer(tower_layer::layer_fn(NoteConnecting))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(SIGN_OF_LIFE)
        .http2_keep_alive_timeout(SIGN_OF_LIFE)
}

fn credentials(settings: &settings::Credentials) -> Result<Credentials, ClientError> {
    match (settings.kind, &settings.token_file) {
        (CredentialsKind::None, _) => Ok(Credentials::None),
        (CredentialsKind::TokenFile, Some(path)) => Ok(Credentials::TokenFile(TokenFile::new(path))),
        (CredentialsKind::TokenFile, None) => Err(ClientError::NoTokenFile),
    }
}

fn request(call: Call, url: url::Url, authorization: Option<&HeaderValue>) -> Request {
    let mut request = match call {
        Call::Cancel => {
            let mut post = Request::new(Method::POST, url);
            // Of itself, no length is sent for a request without a body, and Google answers that with 411.
            post.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            post
        }
        Call::Get => Request::new(Method::GET, url),
    };
    if let Some(value) = authorization {
        request.headers_mut().insert(AUTHORIZATION, value.clone());
    }
    request
}

impl CallError {
    fn into_failure(self) -> Failure {
        let kind = match self {
            Self::NoEndpoint(_) => FailureKind::BadEndpoint,
            Self::Credentials(_) | Self::CredentialsTimeout(_) => FailureKind::Unauthenticated,
            _ => FailureKind::Unavailable,
        };
        let message = words(&self.to_string(), MAX_WORDS);
        Failure { kind, error: ErrorDetail { message, ..ErrorDetail::default() }, retry_after: None }
    }
}

/// The causes of an error, from what was attempted to what the system said. The error's own text is left out: it is
/// only the URL and "error sending request".
fn causes(error: &reqwest::Error) -> String {
    let mut told = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !told.ends_with(&text) {
            if !told.is_empty() {
                told.push_str(": ");
            }
            told.push_str(&text);
        }
        next = cause.source();
    }
    if told.is_empty() { "the HTTP library gave no reason".to_owned() } else { told }
}

/// For the dates of `Retry-After`.
#[expect(clippy::disallowed_methods, reason = "the edge where answers arrive; what is made of the time is pure")]
fn wall_clock() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
