use std::error::Error as _;
use std::time::Duration;

use bytesize::ByteSize;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Request, Response, redirect};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};

use super::auth::{AuthError, Authorization, Source};
use super::body::{drain, read_body};
use super::classify::{self, Call};
use super::endpoints::{Endpoints, NoEndpoint, Target, WrongSetting};
use super::reuse::{NoteConnecting, noting_reuse};
use super::shortage::{self, Shortage};
use super::tls::{TlsError, TlsFiles};
use super::wire::{MAX_WORDS, words};
use crate::cancellation::{ErrorDetail, Failure, FailureKind, Reply};
use crate::message::OperationName;
use crate::pacing::Key;
use crate::settings::{self, CancelBody, ENDPOINT_FORM};

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

/// How often, and after which pause, a call looks again for a connection where the system has none to give. In all much
/// shorter than the silence that a circuit breaker takes for an outage.
const LOOKS: u32 = 8;
const LOOK_AGAIN: Duration = Duration::from_millis(125);

/// No setting makes a call last longer: beyond this the clock's arithmetic could overflow.
const LONGEST_CALL: Duration = Duration::from_hours(24);

/// The Operations API, as far as a cancellation needs it.
pub trait Operations: Send + Sync + 'static {
    /// `POST {endpoint}/{version}/{name}:cancel`: [`Reply::Accepted`] or a failure. Safe to repeat.
    fn cancel(&self, name: &OperationName) -> impl Future<Output = Reply> + Send;

    /// `GET {endpoint}/{version}/{name}`: the operation as it is now, or why it is not known.
    fn get(&self, name: &OperationName) -> impl Future<Output = Reply> + Send;

    /// Which endpoint serves the operation, for its circuit breaker and rate limit. None: no call will be made at all.
    fn endpoint(&self, name: &OperationName) -> Option<Key>;
}

/// The real API, over HTTP. Share it by `Arc`: it holds the connections.
pub struct Client {
    /// Goes through the proxy that the environment names, if any.
    http: reqwest::Client,
    /// Never goes through a proxy: what a loopback address means, another machine does not know, and a token that may
    /// go over http to this machine may go nowhere else.
    loopback: reqwest::Client,
    endpoints: Endpoints,
    cancel_body: CancelBody,
    credentials: Source,
    connect_timeout: Duration,
    call_timeout: Duration,
    response_limit: usize,
    shortage: Shortage,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The TLS library or the system's certificates.
    #[error("set up the HTTP client: {0}")]
    Setup(String),
    /// A file with certificates or a key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An endpoint that is none.
    #[error("use the setting {setting}: {ENDPOINT_FORM}")]
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
    #[error("there was no token within {0:?} (api.call_timeout)")]
    CredentialsTimeout(Duration),
    #[error("no connection to {host} within {timeout:?} (api.connect_timeout)")]
    ConnectTimeout { host: String, timeout: Duration },
    #[error("no connection to {host}: {cause}; {}", remedy(cause, setting))]
    Connect { host: String, cause: String, setting: &'static str },
    #[error("no connection to {host} could be begun: {refusal}; {remedy}")]
    Shortage { host: String, refusal: String, remedy: &'static str },
    #[error("no answer from {host} within {timeout:?} (api.call_timeout)")]
    AnswerTimeout { host: String, timeout: Duration },
    #[error("the answer from {host} had not ended after {timeout:?} (api.call_timeout)")]
    BodyTimeout { host: String, timeout: Duration },
    #[error("the connection to {host} failed before the answer had ended: {cause}{}", missing_certificate(cause))]
    Broken { host: String, cause: String },
}

impl Operations for Client {
    async fn cancel(&self, name: &OperationName) -> Reply {
        self.call(Call::Cancel, name).await
    }

    async fn get(&self, name: &OperationName) -> Reply {
        self.call(Call::Get, name).await
    }

    fn endpoint(&self, name: &OperationName) -> Option<Key> {
        self.endpoints.key(name)
    }
}

impl Client {
    /// A client for these settings. It connects when it is first used.
    ///
    /// # Errors
    /// Settings that make no sense, or a system without usable certificates.
    pub fn new(settings: &settings::Api) -> Result<Self, ClientError> {
        let endpoints = Endpoints::new(settings).map_err(|WrongSetting(setting)| ClientError::Endpoint { setting })?;
        let tls = TlsFiles::read(settings)?;
        let setup = |error: reqwest::Error| ClientError::Setup(causes(&error));
        Ok(Self {
            http: tls.clone().apply(http(settings)).build().map_err(setup)?,
            loopback: tls.apply(http(settings)).no_proxy().build().map_err(setup)?,
            endpoints,
            cancel_body: settings.cancel_body,
            credentials: Source::new(&settings.credentials).ok_or(ClientError::NoTokenFile)?,
            connect_timeout: *settings.connect_timeout,
            call_timeout: (*settings.call_timeout).min(LONGEST_CALL),
            response_limit: usize::try_from(settings.response_limit.as_u64()).unwrap_or(usize::MAX),
            shortage: Shortage::default(),
        })
    }

    /// Whose credentials a call about this operation carries. Gets a token for it.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to do. Never holds anything secret.
    pub async fn caller(&self, name: &OperationName) -> Result<String, String> {
        let authorized = async {
            let target = self.endpoints.target(Call::Get, name)?;
            let deadline = Instant::now() + self.call_timeout;
            self.authorization(&target, deadline).await
        };
        match authorized.await {
            Ok(Some(_)) => Ok(self.credentials.who()),
            Ok(None) => Ok("calls carry none (api.credentials.kind)".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn call(&self, call: Call, name: &OperationName) -> Reply {
        match self.answer(call, name).await {
            Ok(reply) => reply,
            Err(error) if error.is_before_the_call() => Reply::NotMade(error.into_failure()),
            Err(error) => Reply::Failure(error.into_failure()),
        }
    }

    /// One call, ended by its deadline.
    async fn answer(&self, call: Call, name: &OperationName) -> Result<Reply, CallError> {
        let target = self.endpoints.target(call, name)?;
        let deadline = Instant::now() + self.call_timeout;
        let authorization = self.authorization(&target, deadline).await?;
        let response = self.send_again(call, &target, authorization.as_ref(), deadline).await?;
        let mut reply = self.read(call, &target, response, deadline).await?;
        if let (Reply::Failure(failure), Some(sent)) = (&mut reply, &authorization) {
            // A service may repeat what it was sent; its words go into events and logs.
            sent.hide_in(&mut failure.error.message);
            if failure.kind == FailureKind::Unauthenticated {
                self.credentials.renew(sent);
            }
        }
        Ok(reply)
    }

    async fn authorization(&self, target: &Target, deadline: Instant) -> Result<Option<Authorization>, CallError> {
        match timeout_at(deadline, self.credentials.authorization(target.loopback)).await {
            Ok(authorization) => Ok(authorization?),
            Err(_) => Err(CallError::CredentialsTimeout(self.call_timeout)),
        }
    }

    /// Sends, and again where the connection was an old one that broke before the answer began: most likely the server
    /// had closed it already, and never saw the call. Both calls may be repeated. Where the system has no connection to
    /// give, one that another call has finished with may serve a moment later.
    async fn send_again(
        &self,
        call: Call,
        target: &Target,
        authorization: Option<&Authorization>,
        deadline: Instant,
    ) -> Result<Response, CallError> {
        let (mut left, mut looks) = (REPEATS, LOOKS);
        loop {
            let (sent, reused) = noting_reuse(self.send(call, target, authorization, deadline)).await;
            match sent {
                Err(CallError::Broken { .. }) if reused && left > 0 => left -= 1,
                Err(CallError::Shortage { .. }) if looks > 0 && Instant::now() + LOOK_AGAIN < deadline => {
                    looks -= 1;
                    sleep(LOOK_AGAIN).await;
                }
                sent => return sent,
            }
        }
    }

    async fn send(
        &self,
        call: Call,
        target: &Target,
        authorization: Option<&Authorization>,
        deadline: Instant,
    ) -> Result<Response, CallError> {
        let http = if target.loopback { &self.loopback } else { &self.http };
        let sent = http.execute(self.request(call, target.url.clone(), authorization));
        match timeout_at(deadline, sent).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() && error.is_timeout() => {
                Err(CallError::ConnectTimeout { host: target.host(), timeout: self.connect_timeout })
            }
            Ok(Err(error)) if error.is_connect() => Err(self.not_connected(target, &error)),
            Ok(Err(error)) => Err(CallError::Broken { host: target.host(), cause: causes(&error) }),
            Err(_) => Err(CallError::AnswerTimeout { host: target.host(), timeout: self.call_timeout }),
        }
    }

    /// Why there is no connection: the system has none to give, or the host cannot be reached.
    fn not_connected(&self, target: &Target, error: &reqwest::Error) -> CallError {
        let host = target.host();
        let Some(refusal) = shortage::refusal(error) else {
            return CallError::Connect { host, cause: causes(error), setting: target.setting };
        };
        self.shortage.note(refusal);
        CallError::Shortage { host, refusal: refusal.to_string(), remedy: shortage::remedy(refusal) }
    }

    fn request(&self, call: Call, url: url::Url, authorization: Option<&Authorization>) -> Request {
        let mut request = Request::new(if call == Call::Cancel { Method::POST } else { Method::GET }, url);
        let headers = request.headers_mut();
        if let Some(authorization) = authorization {
            authorization.add_to(headers);
        }
        match (call, self.cancel_body) {
            (Call::Get, _) => {}
            // Of itself, no length is sent for a request without a body, and Google answers that with 411.
            (Call::Cancel, CancelBody::None) => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            (Call::Cancel, CancelBody::EmptyObject) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                *request.body_mut() = Some("{}".into());
            }
        }
        request
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

impl CallError {
    /// Whether nothing was asked of the service: whatever it is, it says nothing about it.
    const fn is_before_the_call(&self) -> bool {
        matches!(self, Self::Credentials(_) | Self::CredentialsTimeout(_) | Self::Shortage { .. })
    }

    fn into_failure(self) -> Failure {
        let kind = match &self {
            Self::NoEndpoint(_) => FailureKind::BadEndpoint,
            Self::Credentials(_) | Self::CredentialsTimeout(_) => FailureKind::Unauthenticated,
            _ => FailureKind::Unavailable,
        };
        let retry_after = match &self {
            Self::Credentials(error) => error.retry_after(),
            _ => None,
        };
        let message = words(&self.to_string(), MAX_WORDS);
        Failure { kind, error: ErrorDetail { message, ..ErrorDetail::default() }, retry_after }
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

/// What to do about a host that cannot be reached.
fn remedy(cause: &str, setting: &str) -> String {
    if cause.contains("UnknownIssuer") {
        "if its certificate is right, name its CA in api.ca_file".to_owned()
    } else if cause.contains("tunnel error") {
        "the proxy comes from HTTPS_PROXY or ALL_PROXY in the environment, and NO_PROXY names hosts to be called without it".to_owned()
    } else {
        format!("the host comes from {setting}")
    }
}

/// What to do about a connection that broke. In TLS 1.3 a client is told only afterwards that its certificate was missed.
fn missing_certificate(cause: &str) -> &'static str {
    if cause.contains("CertificateRequired") {
        "; it wants a client certificate: set api.client_certificate_file and api.client_key_file"
    } else {
        ""
    }
}

/// For the dates of `Retry-After`.
#[expect(clippy::disallowed_methods, reason = "the edge where answers arrive; what is made of the time is pure")]
fn wall_clock() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
