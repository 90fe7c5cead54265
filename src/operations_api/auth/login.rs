use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::FutureExt as _;
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use google_cloud_auth::errors::CredentialsError as GoogleError;
use reqwest::header::HeaderMap;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout_at};

use super::adc::{AdcConfig, BuiltCredentials};
use super::authorization::Authorization;
use super::error::CredentialsError;
use super::redact::Redactor;

/// A token server that has not answered by then is given up. The library itself waits for ever.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// One set of credentials of the official library, from its building until the API refuses its token, or it has none.
///
/// The library keeps the token fresh in a task of its own: it fetches the next one minutes before the present one ends.
/// That task cannot learn of a refused token, ends after an error that it takes for permanent, and waits for ever for
/// a server that does not answer. So each set has a runtime, with one thread, that ends with it, whatever its task waits
/// for; signing and fetching tokens also keeps no call waiting that way.
pub(super) struct Login {
    credentials: Credentials,
    who: String,
    advice: &'static str,
    redactor: Redactor,
    began_at: Instant,
    /// There was a token.
    had_token: AtomicBool,
    runtime: Option<Runtime>,
}

/// What a login has at this moment.
pub(super) enum State {
    Token(Authorization),
    /// The first token is being fetched.
    Fetching,
    /// There was a token, it has ended, and the next is not there.
    Expired,
    Failed(CredentialsError),
}

impl Login {
    /// Reads files and starts a thread.
    pub(super) fn begin(config: &AdcConfig) -> Result<Self, CredentialsError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("credentials").enable_all().build();
        let runtime = runtime.map_err(|error| CredentialsError::Build { problem: error.to_string() })?;
        let built = {
            let _within = runtime.enter();
            config.build()
        };
        let (runtime, built) = match built {
            Ok(BuiltCredentials { credentials, who, advice, redactor }) => {
                (runtime, (credentials, who, advice, redactor))
            }
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let (credentials, who, advice, redactor) = built;
        Ok(Self {
            credentials,
            who,
            advice,
            redactor,
            began_at: Instant::now(),
            had_token: AtomicBool::new(false),
            runtime: Some(runtime),
        })
    }

    pub(super) fn who(&self) -> &str {
        &self.who
    }

    pub(super) fn age(&self) -> Duration {
        self.began_at.elapsed()
    }

    /// What there is, without waiting.
    pub(super) fn state(&self) -> State {
        match self.credentials.headers(Default::default()).now_or_never() {
            Some(headers) => self.state_of(headers),
            None if self.had_token.load(Relaxed) => State::Expired,
            None if self.age() < FETCH_TIMEOUT => State::Fetching,
            None => State::Failed(self.no_answer()),
        }
    }

    /// Waits for the first token.
    pub(super) async fn first(&self) -> Result<Authorization, CredentialsError> {
        let headers = timeout_at(self.began_at + FETCH_TIMEOUT, self.credentials.headers(Default::default())).await;
        match headers.map(|headers| self.state_of(headers)) {
            Ok(State::Token(authorization)) => Ok(authorization),
            Ok(State::Failed(error)) => Err(error),
            Ok(State::Fetching | State::Expired) | Err(_) => Err(self.no_answer()),
        }
    }

    fn state_of(&self, headers: Result<CacheableResource<HeaderMap>, GoogleError>) -> State {
        let problem = match headers {
            Ok(CacheableResource::New { data, .. }) => match Authorization::from_headers(data) {
                Some(authorization) => {
                    self.had_token.store(true, Relaxed);
                    return State::Token(authorization);
                }
                None => "it holds no token".to_owned(),
            },
            Ok(CacheableResource::NotModified) => "there is nothing new".to_owned(),
            Err(error) => self.redactor.causes(&error),
        };
        State::Failed(CredentialsError::NoToken { who: self.who.clone(), problem, advice: self.advice })
    }

    fn no_answer(&self) -> CredentialsError {
        let problem = format!("no answer within {FETCH_TIMEOUT:?}");
        CredentialsError::NoToken { who: self.who.clone(), problem, advice: self.advice }
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
