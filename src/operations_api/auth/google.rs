use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderValue;
use tokio::time::{Instant, sleep_until};

use super::adc::AdcConfig;
use super::authorization::Authorization;
use super::error::{AuthError, CredentialsError};
use super::login::{Login, State};
use crate::telemetry::token_fetched;

/// Between two fetches for a token that was refused, or could not be had: at first the shorter one, then each time twice
/// as long. A token that works puts an end to that.
const MIN_REFRESH_DELAY: Duration = Duration::from_secs(1);
const MAX_REFRESH_DELAY: Duration = Duration::from_secs(32);

/// Credentials that were in use for this long were good ones: the next failure is the first in a row.
const MIN_GOOD_AGE: Duration = Duration::from_secs(60);

/// Google's credentials: fetched at first use, kept fresh, and built anew when the API refuses the token, when it has
/// expired and the next is not there, and when there is none.
pub(in super::super) struct GoogleCredentials {
    config: Arc<AdcConfig>,
    cache: Mutex<TokenCache>,
    /// Held by the one call that builds new credentials, while others wait.
    refresh: tokio::sync::Mutex<()>,
}

/// The present credentials.
struct TokenCache {
    login: Option<Arc<Login>>,
    /// The API refused its token.
    refused: bool,
    /// Why there are none.
    error: Option<CredentialsError>,
    /// When the last ones were built.
    built_at: Option<Instant>,
    /// Between two builds. Failures in a row make it longer.
    delay: Duration,
}

/// Why new credentials are needed.
enum RefreshReason {
    /// There never were any.
    First,
    /// The token has expired, and the next is not there.
    Expired,
    /// There is none, or none that the API takes.
    Failed(CredentialsError),
}

impl GoogleCredentials {
    pub(super) fn new(config: AdcConfig) -> Self {
        let cache = TokenCache { login: None, refused: false, error: None, built_at: None, delay: MIN_REFRESH_DELAY };
        Self { config: Arc::new(config), cache: Mutex::new(cache), refresh: tokio::sync::Mutex::default() }
    }

    /// What calls carry. One fetch serves all calls that wait for it.
    ///
    /// # Errors
    /// There is no token, and when it makes sense to ask again.
    pub(super) async fn authorization(&self) -> Result<Authorization, AuthError> {
        if let Some(authorization) = self.present() {
            return Ok(authorization);
        }
        let _refreshing = self.refresh.lock().await;
        let (login, refused) = {
            let cache = self.cache();
            (cache.login.clone(), cache.refused)
        };
        let reason = match login.as_ref().map(|login| (login, login.state())) {
            None => self.cache().error.clone().map_or(RefreshReason::First, RefreshReason::Failed),
            Some((login, State::Token(_))) if refused => {
                RefreshReason::Failed(CredentialsError::Refused { who: login.who().to_owned() })
            }
            // Another call has fetched it while this one waited.
            Some((_, State::Token(authorization))) => return Ok(authorization),
            Some((login, State::Fetching)) => return self.first(login).await,
            Some((_, State::Expired)) => RefreshReason::Expired,
            Some((_, State::Failed(error))) => RefreshReason::Failed(error),
        };
        self.wait_for_next(reason).await?;
        let login = self.begin().await?;
        self.first(&login).await
    }

    /// The service refused `refused`: new credentials are needed, unless there are some already.
    pub(super) fn renew(&self, refused: &HeaderValue) {
        let login = self.cache().login.clone();
        let Some(login) = login else { return };
        // A call that was under way with an older token says nothing about the present one.
        let present = matches!(login.state(), State::Token(token) if token.is(refused));
        let mut cache = self.cache();
        if present && cache.login.as_ref().is_some_and(|current| Arc::ptr_eq(current, &login)) {
            cache.refused = true;
        }
    }

    /// Whose credentials these are.
    pub(super) fn who(&self) -> String {
        let cache = self.cache();
        cache.login.as_ref().map_or_else(|| "nobody yet".to_owned(), |login| login.who().to_owned())
    }

    /// The token that is there, if it is good.
    fn present(&self) -> Option<Authorization> {
        let login = {
            let cache = self.cache();
            cache.login.clone().filter(|_| !cache.refused)
        }?;
        match login.state() {
            State::Token(authorization) => Some(authorization),
            State::Fetching | State::Expired | State::Failed(_) => None,
        }
    }

    /// Keeps apart the fetches that failures lead to: a call that comes between gets the failure. A token that has merely
    /// expired is waited for.
    async fn wait_for_next(&self, reason: RefreshReason) -> Result<(), AuthError> {
        let now = Instant::now();
        let due = self.cache().due(&reason, now);
        match reason {
            RefreshReason::Failed(error) if due > now => {
                return Err(AuthError::Google { error, wait: due - now });
            }
            RefreshReason::Failed(error) => {
                tracing::debug!("building the credentials anew after failing to {error}")
            }
            RefreshReason::First | RefreshReason::Expired => sleep_until(due).await,
        }
        Ok(())
    }

    async fn begin(&self) -> Result<Arc<Login>, AuthError> {
        let config = Arc::clone(&self.config);
        let begun = tokio::task::spawn_blocking(move || Login::begin(&config)).await;
        // A panic's own message is not passed on: it may quote a secret.
        let begun =
            begun.unwrap_or_else(|_| Err(CredentialsError::Build { problem: "it panicked, see the log".to_owned() }));
        let mut cache = self.cache();
        cache.built_at = Some(Instant::now());
        cache.refused = false;
        match begun {
            Ok(login) => {
                let login = Arc::new(login);
                cache.error = None;
                cache.login = Some(Arc::clone(&login));
                Ok(login)
            }
            Err(error) => {
                token_fetched(false);
                cache.login = None;
                cache.error = Some(error.clone());
                Err(AuthError::Google { error, wait: cache.delay })
            }
        }
    }

    async fn first(&self, login: &Login) -> Result<Authorization, AuthError> {
        let first = login.first().await;
        token_fetched(first.is_ok());
        first.map_err(|error| AuthError::Google { error, wait: self.cache().delay })
    }

    fn cache(&self) -> MutexGuard<'_, TokenCache> {
        // Nothing panics while it is held; if something did, what it holds is still true.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenCache {
    /// When the next credentials may be built. Sets the delay after those.
    fn due(&mut self, reason: &RefreshReason, now: Instant) -> Instant {
        let Some(built_at) = self.built_at else { return now };
        match reason {
            RefreshReason::First | RefreshReason::Expired => {
                self.delay = MIN_REFRESH_DELAY;
                built_at + MIN_REFRESH_DELAY
            }
            RefreshReason::Failed(_) => {
                if now.duration_since(built_at) >= MIN_GOOD_AGE {
                    self.delay = MIN_REFRESH_DELAY;
                }
                let due = built_at + self.delay;
                if due <= now {
                    self.delay = (self.delay * 2).min(MAX_REFRESH_DELAY);
                }
                due
            }
        }
    }
}
