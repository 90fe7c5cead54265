use std::path::PathBuf;
use std::time::Duration;

use crate::settings::shown_file;

/// Why there is no token. Never holds any secret text.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum AuthError {
    /// No file, no permission, an I/O error.
    #[error("read the token from {}: {error}; make the file readable for this user, or correct api.credentials.token_file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file that holds no token.
    #[error("use the token from {}: {problem}; the file of api.credentials.token_file must hold a bearer token and nothing else", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Google's credentials give no token.
    #[error("{error}")]
    Google {
        /// Why.
        error: CredentialsError,
        /// Nothing is tried before this has passed.
        wait: Duration,
    },
}

/// Why Google's credentials give no token. Never holds any secret text.
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
    /// The issuer of tokens gives none.
    #[error("get a token for {who}: {problem}; {advice}")]
    NoToken { who: String, problem: String, advice: &'static str },
    /// The API does not take what was issued just now.
    #[error(
        "get a token that the API takes for {who}: it refused one that was fetched just now; check this machine's clock, api.credentials.scopes, and that the account is enabled"
    )]
    Refused { who: String },
}

impl AuthError {
    /// How long it takes at least until there can be a token, where that is known.
    pub(in super::super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Google { wait, .. } => Some(*wait),
            Self::Unreadable { .. } | Self::Unusable { .. } => None,
        }
    }
}
