use std::path::PathBuf;
use std::time::Duration;

use super::google::CredentialsError;

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
    #[error("{trouble}")]
    Google {
        /// Why.
        trouble: CredentialsError,
        /// Nothing is tried before this has passed.
        wait: Duration,
    },
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
