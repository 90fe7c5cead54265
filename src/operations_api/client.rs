use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytesize::ByteSize;
use reqwest::header::{AGE, DATE, HeaderMap};
use reqwest::{Response, Version};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};

use super::auth::{Authorization, Source};
use super::body::{drain, read_body};
use super::call_error::CallError;
use super::causes::causes;
use super::classify::{self, Call};
use super::endpoints::{Endpoints, Target, WrongSetting};
use super::http::{self, HttpClients};
use super::operations::{CallSent, Operations, ServingEndpoint, ToldTime};
use super::retry_delay;
use super::reuse::noting_reuse;
use super::shortage::{self, Shortage};
use super::tls::{TlsError, TlsFiles};
use crate::cancellation::{FailureKind, Reply};
use crate::message::OperationName;
use crate::settings::{self, CancelBody, ENDPOINT_FORM};

/// Of an error answer as much is read as of any other, and this at least, in bytes; the rest is cut off.
const MIN_ERROR_BYTES: usize = 64 * 1024;

/// The rest of an accepted cancel's answer is read so that the connection can serve the next call. A new connection is
/// cheaper than a longer wait.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How many old connections may turn out to be closed, one after the other, before a call counts as failed. One that many
/// calls share, as in HTTP/2, counts for all of them: were each made again so often, a server in trouble would get a storm.
const MAX_RESENDS: u32 = 3;

/// How often, and after which delay, a call asks again for a connection where the system has none to give. In all much
/// shorter than the silence that a circuit breaker takes for an outage.
const MAX_SHORTAGE_RETRIES: u32 = 8;
const SHORTAGE_RETRY_DELAY: Duration = Duration::from_millis(125);

/// No setting makes a call last longer: beyond this the clock's arithmetic could overflow.
const MAX_CALL_TIMEOUT: Duration = Duration::from_hours(24);

/// The real API, over HTTP. Share it by `Arc`: it holds the connections.
pub struct Client {
    http: HttpClients,
    endpoints: Endpoints,
    cancel_body: CancelBody,
    credentials: Source,
    connect_timeout: Duration,
    call_timeout: Duration,
    response_limit: usize,
    shortage: Shortage,
    /// The last answer came over HTTP/2, where calls share a connection.
    is_shared: AtomicBool,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The TLS library or the system's certificates.
    #[error("set up the HTTP client: {0}{remedy}", remedy = setup_remedy(.0))]
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

impl Operations for Client {
    async fn call(&self, call: Call, name: &OperationName, sent: &CallSent) -> Reply {
        match self.answer(call, name, sent).await {
            Ok(reply) => reply,
            Err(error) if error.is_before_the_call() => Reply::NotMade(error.into_failure()),
            Err(error) => Reply::Failure(error.into_failure()),
        }
    }

    fn endpoint(&self, name: &OperationName) -> Option<ServingEndpoint> {
        self.endpoints.serving(name)
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
        let setup = |error: reqwest::Error| ClientError::Setup(cause_of(&error));
        Ok(Self {
            http: HttpClients::new(settings, tls).map_err(setup)?,
            endpoints,
            cancel_body: settings.cancel_body,
            credentials: Source::new(&settings.credentials).ok_or(ClientError::NoTokenFile)?,
            connect_timeout: *settings.connect_timeout,
            call_timeout: (*settings.call_timeout).min(MAX_CALL_TIMEOUT),
            response_limit: usize::try_from(settings.response_limit.as_u64()).unwrap_or(usize::MAX),
            shortage: Shortage::default(),
            is_shared: AtomicBool::new(false),
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

    /// One call, ended by its deadline.
    async fn answer(&self, call: Call, name: &OperationName, sent: &CallSent) -> Result<Reply, CallError> {
        let target = self.endpoints.target(call, name)?;
        let deadline = Instant::now() + self.call_timeout;
        let authorization = self.authorization(&target, deadline).await?;
        sent.tell();
        let response = self.send_again(call, &target, authorization.as_ref(), deadline, sent).await?;
        let mut reply = self.read(call, name, &target, response, deadline).await?;
        if let (Reply::Failure(failure), Some(sent)) = (&mut reply, &authorization) {
            // A service may repeat what it was sent; its message goes into events and logs.
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
        sent: &CallSent,
    ) -> Result<Response, CallError> {
        let (mut resends_left, mut retries_left) = (MAX_RESENDS, MAX_SHORTAGE_RETRIES);
        loop {
            let began = Instant::now();
            let (answered, reused) = noting_reuse(self.send(call, target, authorization, deadline)).await;
            if let Ok(response) = &answered {
                self.is_shared.store(response.version() == Version::HTTP_2, Relaxed);
                if let Some(time) = told_time(response.headers()) {
                    sent.tell_time(ToldTime { time, round_trip: began.elapsed(), arrived: Instant::now() });
                }
            }
            match answered {
                Err(CallError::Broken { .. }) if reused && resends_left > 0 => {
                    resends_left = if self.is_shared.load(Relaxed) { 0 } else { resends_left - 1 };
                }
                Err(CallError::Shortage { .. })
                    if retries_left > 0 && Instant::now() + SHORTAGE_RETRY_DELAY < deadline =>
                {
                    retries_left -= 1;
                    sleep(SHORTAGE_RETRY_DELAY).await;
                }
                answered => return answered,
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
        let request = http::request(call, target.url.clone(), authorization, self.cancel_body);
        let sent = self.http.of(target.loopback).execute(request);
        match timeout_at(deadline, sent).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() && error.is_timeout() => {
                Err(CallError::ConnectTimeout { host: target.host(), timeout: self.connect_timeout })
            }
            Ok(Err(error)) if error.is_connect() => Err(self.not_connected(target, &error)),
            Ok(Err(error)) => Err(CallError::Broken { host: target.host(), cause: cause_of(&error) }),
            Err(_) => Err(CallError::AnswerTimeout { host: target.host(), timeout: self.call_timeout }),
        }
    }

    /// Why there is no connection: the system has none to give, or the host cannot be reached.
    fn not_connected(&self, target: &Target, error: &reqwest::Error) -> CallError {
        let host = target.host();
        let Some(refusal) = shortage::refusal(error) else {
            return CallError::Connect { host, cause: cause_of(error), setting: target.setting };
        };
        self.shortage.note(refusal);
        CallError::Shortage { host, refusal: refusal.to_string(), remedy: shortage::remedy(refusal) }
    }

    /// Reads no more of the answer than its kind allows, and says what it means.
    async fn read(
        &self,
        call: Call,
        name: &OperationName,
        target: &Target,
        mut response: Response,
        deadline: Instant,
    ) -> Result<Reply, CallError> {
        let status = response.status();
        if call == Call::Cancel && status.is_success() {
            // It is accepted whatever happens to the rest of the answer.
            let _ =
                timeout_at(deadline.min(Instant::now() + DRAIN_TIMEOUT), drain(response, self.response_limit)).await;
            return Ok(Reply::Accepted);
        }
        let limit = if status.is_success() { self.response_limit } else { self.response_limit.max(MIN_ERROR_BYTES) };
        let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
        if status.is_success() && announced.is_some_and(|length| length > limit) {
            return Ok(self.too_large());
        }
        let headers = std::mem::take(response.headers_mut());
        let body = match timeout_at(deadline, read_body(response, limit)).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => return Err(CallError::Broken { host: target.host(), cause: cause_of(&error) }),
            Err(_) => return Err(CallError::BodyTimeout { host: target.host(), timeout: self.call_timeout }),
        };
        let bytes = body.bytes();
        if status.is_success() && bytes.len() > limit {
            return Ok(self.too_large());
        }
        let bytes = bytes.get(..limit).unwrap_or(bytes);
        Ok(classify::reply(call, name, status, &headers, bytes, told_time(&headers).unwrap_or_else(wall_clock)))
    }

    fn too_large(&self) -> Reply {
        let limit = ByteSize::b(u64::try_from(self.response_limit).unwrap_or(u64::MAX));
        Reply::Undecodable { detail: format!("the answer is larger than {limit} (api.response_limit)") }
    }
}

/// What to do about a system without certificates, which a minimal container image is.
fn setup_remedy(problem: &str) -> &'static str {
    let without = problem.contains("No CA certificates");
    if without { "; install the package ca-certificates, or name a file of them in SSL_CERT_FILE" } else { "" }
}

/// Why a call failed. The error's own text is left out: it is only the URL and "error sending request".
fn cause_of(error: &reqwest::Error) -> String {
    let causes = error.source().and_then(|cause| causes(cause, std::convert::identity));
    causes.unwrap_or_else(|| "the HTTP library gave no reason".to_owned())
}

/// The time by which the service writes the dates of its answer. A cache's answer tells an old one.
fn told_time(headers: &HeaderMap) -> Option<OffsetDateTime> {
    let date = headers.get(DATE).filter(|_| !headers.contains_key(AGE))?;
    retry_delay::date(date.to_str().ok()?)
}

/// For the dates of `Retry-After`, where the service does not say what time it is there.
#[expect(clippy::disallowed_methods, reason = "the edge where answers arrive; what is made of the time is pure")]
fn wall_clock() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
