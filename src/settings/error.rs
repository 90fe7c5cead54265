use std::path::PathBuf;

use config::ConfigError;

use super::redact::{HIDDEN, may_hold_login};

/// Why there are no settings. Never quotes a line of a settings file, nor a value that may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file that is not there, an unknown key, a wrong type.
    #[error("read the settings: {0}; config/README.md names every setting")]
    Unreadable(String),
    /// A settings file that is no TOML.
    #[error("read the settings: {} is no TOML at line {line}, column {column}{}: {problem}", path.display(), of_key(.key.as_deref()))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// The setting in that line, where it is one.
        key: Option<String>,
        /// What TOML expects there.
        problem: String,
    },
    /// A secret's file that cannot be read.
    #[error("read {setting} from {}: {error}; make the file readable for this user, or correct the setting", path.display())]
    SecretFile {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A value that makes no sense.
    #[error("use the setting {setting}: {problem}")]
    Invalid {
        /// The setting's key.
        setting: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A variable of the environment that is no text.
    #[error("read the settings: the value of the environment variable {0} is not in UTF-8")]
    NotText(String),
}

fn of_key(key: Option<&str>) -> String {
    key.map_or_else(String::new, |key| format!(" (key `{key}`)"))
}

/// A value that makes no sense.
pub(super) fn invalid(setting: impl Into<String>, problem: impl Into<String>) -> SettingsError {
    SettingsError::Invalid { setting: setting.into(), problem: problem.into() }
}

impl From<ConfigError> for SettingsError {
    /// The library's errors quote source lines and values.
    fn from(error: ConfigError) -> Self {
        let Parts { key, origin, message } = Parts::of(&error);
        let is_secret = key.as_deref().is_some_and(is_secret);
        let message = if is_secret {
            "it must be a text in quotes, or a list of such".to_owned()
        } else if may_hold_login(&message) {
            format!("the value is of no use here {HIDDEN}")
        } else {
            message
        };
        // A key is what stands left of "=": whatever that was.
        let key = key.map(|key| if may_hold_login(&key) && !is_secret { HIDDEN.to_owned() } else { key });
        let key = key.map_or_else(String::new, |key| format!(" for key `{key}`"));
        let origin = origin.map_or_else(String::new, |origin| format!(" in {origin}"));
        Self::Unreadable(format!("{message}{key}{origin}"))
    }
}

/// Whether a setting's value is never shown, whatever it is.
pub(super) fn is_secret(key: &str) -> bool {
    key == "amqp.uri" || key.starts_with("amqp.uri.") || key.starts_with("amqp.uri[")
}

struct Parts {
    key: Option<String>,
    origin: Option<String>,
    message: String,
}

impl Parts {
    fn of(error: &ConfigError) -> Self {
        match error {
            ConfigError::At { error, origin, key } => {
                let inner = Self::of(error);
                Self { key: key.clone().or(inner.key), origin: origin.clone().or(inner.origin), ..inner }
            }
            ConfigError::Type { origin, unexpected, expected, key } => Self {
                key: key.clone(),
                origin: origin.clone(),
                message: format!("invalid type: {unexpected}, expected {expected}"),
            },
            // Its cause quotes the source; files are looked at before, see `toml_file`.
            ConfigError::FileParse { uri, .. } => {
                Self { key: None, origin: uri.clone(), message: "it is no TOML".to_owned() }
            }
            other => Self { key: None, origin: None, message: other.to_string() },
        }
    }
}
