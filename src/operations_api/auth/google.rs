use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderValue;
use tokio::time::{Instant, sleep_until};

use super::adc::AdcConfig;
use super::login::{Login, State};
use super::{AuthError, Authorization};
use crate::settings::shown_file;

/// Between two fetches for a token that was refused, or could not be had: at first this, then each time twice as long.
/// A token that works puts an end to that.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(32);

/// Credentials that were in use for this long were good ones.
const GOOD: Duration = Duration::from_secs(60);

/// Google's credentials: fetched at first use, kept fresh, and built anew when the API refuses the token, when it has
/// ended and the next is not there, and when there is none.
pub(in super::super) struct Google {
    plan: Arc<AdcConfig>,
    known: Mutex<TokenCache>,
    /// Held by the one call that sees to new credentials, while others wait.
    turn: tokio::sync::Mutex<()>,
}

/// What is known of the present credentials.
struct TokenCache {
    login: Option<Arc<Login>>,
    /// The API refused its token.
    refused: bool,
    /// Why there are none.
    trouble: Option<CredentialsError>,
    /// When the last ones were built.
    built: Option<Instant>,
    /// Troubles in a row make it longer.
    pause: Duration,
}

/// Why there is no token, without anything secret.
#[derive(Clone, Debug, thiserror::Error)]
pub(in super::super) enum CredentialsError {
    /// The credentials file cannot be read.
    #[error("read the credentials in {}: {error}; make the file readable for this user, or correct {named_by}", shown_file(.path))]
    Unreadable { path: PathBuf, named_by: &'static str, error: String },
    /// It holds no credentials.
    #[error("use the credentials in {}: {problem}; correct the file, or {named_by}", shown_file(.path))]
    Unusable { path: PathBuf, named_by: &'static str, problem: String },
    /// The library or the system refuses.
    #[error("set up Google's credentials: {problem}")]
    Build { problem: String },
    /// Whoever issues tokens does not.
    #[error("get a token for {who}: {problem}; {advice}")]
    NoToken { who: String, problem: String, advice: &'static str },
    /// The API does not take what was issued just now.
    #[error(
        "get a token that the API takes for {who}: it refused one that was fetched just now; check this machine's clock, api.credentials.scopes, and that the account is enabled"
    )]
    Refused { who: String },
}

/// Why new credentials are needed.
enum RefreshReason {
    /// There never were any.
    First,
    /// The token has ended.
    Expired,
    CredentialsError(CredentialsError),
}

impl Google {
    pub(super) fn new(plan: AdcConfig) -> Self {
        let known = TokenCache { login: None, refused: false, trouble: None, built: None, pause: PAUSE };
        Self { plan: Arc::new(plan), known: Mutex::new(known), turn: tokio::sync::Mutex::default() }
    }

    /// What calls carry. One fetch serves all calls that wait for it.
    ///
    /// # Errors
    /// There is no token, and when it makes sense to ask again.
    pub(super) async fn authorization(&self) -> Result<Authorization, AuthError> {
        if let Some(authorization) = self.present() {
            return Ok(authorization);
        }
        let _turn = self.turn.lock().await;
        let (login, refused) = {
            let known = self.known();
            (known.login.clone(), known.refused)
        };
        let need = match login.as_ref().map(|login| (login, login.state())) {
            None => self.known().trouble.clone().map_or(RefreshReason::First, RefreshReason::CredentialsError),
            Some((login, State::Token(_))) if refused => {
                RefreshReason::CredentialsError(CredentialsError::Refused { who: login.who().to_owned() })
            }
            // Somebody else has seen to it while this call waited for its turn.
            Some((_, State::Token(authorization))) => return Ok(authorization),
            Some((login, State::Fetching)) => return self.first(login).await,
            Some((_, State::Expired)) => RefreshReason::Expired,
            Some((_, State::Failed(trouble))) => RefreshReason::CredentialsError(trouble),
        };
        self.wait_for_next(need).await?;
        let login = self.begin().await?;
        self.first(&login).await
    }

    /// The service refused `refused`: new credentials are needed, unless there are some already.
    pub(super) fn renew(&self, refused: &HeaderValue) {
        let login = self.known().login.clone();
        let Some(login) = login else { return };
        // A call that was under way with an older token says nothing about the present one.
        let present = matches!(login.state(), State::Token(token) if token.is(refused));
        let mut known = self.known();
        if present && known.login.as_ref().is_some_and(|known| Arc::ptr_eq(known, &login)) {
            known.refused = true;
        }
    }

    /// Whose credentials these are.
    pub(super) fn who(&self) -> String {
        let known = self.known();
        known.login.as_ref().map_or_else(|| "nobody yet".to_owned(), |login| login.who().to_owned())
    }

    /// The token that is there, if it is good.
    fn present(&self) -> Option<Authorization> {
        let login = {
            let known = self.known();
            known.login.clone().filter(|_| !known.refused)
        }?;
        match login.state() {
            State::Token(authorization) => Some(authorization),
            State::Fetching | State::Expired | State::Failed(_) => None,
        }
    }

    /// Keeps apart the fetches that troubles lead to: whoever comes between gets the trouble. A token that has merely
    /// ended is waited for.
    async fn wait_for_next(&self, need: RefreshReason) -> Result<(), AuthError> {
        let now = Instant::now();
        let due = self.known().due(&need, now);
        match need {
            RefreshReason::CredentialsError(trouble) if due > now => {
                return Err(AuthError::Google { trouble, wait: due - now });
            }
            RefreshReason::CredentialsError(trouble) => {
                tracing::debug!("building the credentials anew after failing to {trouble}")
            }
            RefreshReason::First | RefreshReason::Expired => sleep_until(due).await,
        }
        Ok(())
    }

    async fn begin(&self) -> Result<Arc<Login>, AuthError> {
        let plan = Arc::clone(&self.plan);
        let begun = tokio::task::spawn_blocking(move || Login::begin(&plan)).await;
        // A panic's own words are not passed on: they may quote a secret.
        let begun =
            begun.unwrap_or_else(|_| Err(CredentialsError::Build { problem: "it panicked, see the log".to_owned() }));
        let mut known = self.known();
        known.built = Some(Instant::now());
        known.refused = false;
        match begun {
            Ok(login) => {
                let login = Arc::new(login);
                known.trouble = None;
                known.login = Some(Arc::clone(&login));
                Ok(login)
            }
            Err(trouble) => {
                known.login = None;
                known.trouble = Some(trouble.clone());
                Err(AuthError::Google { trouble, wait: known.pause })
            }
        }
    }

    async fn first(&self, login: &Login) -> Result<Authorization, AuthError> {
        login.first().await.map_err(|trouble| AuthError::Google { trouble, wait: self.known().pause })
    }

    fn known(&self) -> MutexGuard<'_, TokenCache> {
        // Nothing panics while it is held; if something did, what is known is still known.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenCache {
    /// When the next credentials may be built. Sets the pause after those.
    fn due(&mut self, need: &RefreshReason, now: Instant) -> Instant {
        let Some(built) = self.built else { return now };
        match need {
            RefreshReason::First | RefreshReason::Expired => {
                self.pause = PAUSE;
                built + PAUSE
            }
            RefreshReason::CredentialsError(_) => {
                if now.duration_since(built) >= GOOD {
                    self.pause = PAUSE;
                }
                let due = built + self.pause;
                if due <= now {
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
                due
            }
        }
    }
}
