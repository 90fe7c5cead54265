use std::path::{Path, PathBuf};

use config::{Config, ConfigError, Environment, File, FileFormat, Value, ValueKind};
use secrecy::{ExposeSecret, SecretString};

use super::amqp::Uris;
use super::validate;
use super::worker::Settings;

/// The built-in defaults: every setting, with its meaning.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Environment variables that are settings begin with this and two underscores. One underscore would collide with
/// what Kubernetes injects for a service called `cancel-worker` (`CANCEL_WORKER_SERVICE_HOST`).
pub const ENV_PREFIX: &str = "CANCEL_WORKER";

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file that cannot be read or parsed, an unknown key, a wrong type.
    #[error("read the settings: {0}; `cancel-worker check` lists every setting with its source")]
    Unreadable(String),
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
        setting: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

/// Settings, and where each came from.
#[derive(Debug)]
pub struct Loaded {
    /// Validated.
    pub settings: Settings,
    /// Every setting in force, in order of its key.
    pub effective: Vec<Effective>,
}

/// One setting as `check` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Such as `amqp.prefetch`.
    pub key: String,
    /// Its value; secrets are hidden.
    pub value: String,
    /// `built-in`, a file, `the environment`, or `the command line`.
    pub source: String,
}

/// Loads settings: defaults, then `files`, then the environment, then `overrides` (key and value, from the command line).
///
/// # Errors
/// Names the file or setting, and what is wrong with it.
pub fn load(files: &[PathBuf], overrides: &[(&str, String)]) -> Result<Loaded, SettingsError> {
    load_from(files, overrides, None)
}

fn load_from(
    files: &[PathBuf],
    overrides: &[(&str, String)],
    environment: Option<std::collections::HashMap<String, String>>,
) -> Result<Loaded, SettingsError> {
    let merged = merge(files, overrides, environment).map_err(unreadable)?;
    let effective = list(&merged, overrides);
    let mut settings: Settings = merged.try_deserialize().map_err(unreadable)?;
    if let Some(path) = settings.amqp.uri_file.clone() {
        let text = read_secret("amqp.uri_file", &path)?;
        settings.amqp.uri = Uris(text.split(',').map(|uri| SecretString::from(uri.trim())).collect());
    }
    settings.amqp.topology.wait_levels.0.sort();
    settings.amqp.topology.wait_levels.0.dedup();
    validate::check(&settings)?;
    Ok(Loaded { settings, effective })
}

fn merge(
    files: &[PathBuf],
    overrides: &[(&str, String)],
    environment: Option<std::collections::HashMap<String, String>>,
) -> Result<Config, ConfigError> {
    let mut builder = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
    for file in files {
        builder = builder.add_source(File::from(file.as_path()).format(FileFormat::Toml).required(true));
    }
    // The separator would also stand between prefix and key unless this one is given: it is given all the same, to say so.
    builder = builder
        .add_source(Environment::with_prefix(ENV_PREFIX).prefix_separator("__").separator("__").source(environment));
    for (key, value) in overrides {
        builder = builder.set_override(*key, value.clone())?;
    }
    builder.build()
}

fn unreadable(error: ConfigError) -> SettingsError {
    SettingsError::Unreadable(error.to_string())
}

/// The file's text without surrounding white space.
fn read_secret(setting: &'static str, path: &Path) -> Result<String, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|error| SettingsError::SecretFile {
        setting,
        path: path.to_owned(),
        error,
    })?;
    Ok(text.trim().to_owned())
}

fn list(merged: &Config, overrides: &[(&str, String)]) -> Vec<Effective> {
    let mut effective = Vec::new();
    flatten("", &merged.cache, &mut effective);
    for (key, _) in overrides {
        for setting in effective.iter_mut().filter(|setting| setting.key == *key) {
            "the command line".clone_into(&mut setting.source);
        }
    }
    effective.sort_by(|a, b| a.key.cmp(&b.key));
    effective
}

fn flatten(key: &str, value: &Value, into: &mut Vec<Effective>) {
    match &value.kind {
        ValueKind::Table(table) => {
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&key, value, into);
            }
        }
        kind => into.push(Effective {
            key: key.to_owned(),
            value: shown(key, kind),
            source: value.origin().map_or_else(|| "built-in".to_owned(), ToOwned::to_owned),
        }),
    }
}

fn shown(key: &str, kind: &ValueKind) -> String {
    match kind {
        ValueKind::Array(values) => {
            let items: Vec<String> = values.iter().map(|value| shown(key, &value.kind)).collect();
            format!("[{}]", items.join(", "))
        }
        _ if key == "amqp.uri" => hide_passwords(&kind.to_string()),
        kind => kind.to_string(),
    }
}

/// An AMQP URI (or several with commas between them) without its password.
fn hide_passwords(uris: &str) -> String {
    let hidden = uris.split(',').map(|uri| redacted(&SecretString::from(uri.trim())));
    hidden.collect::<Vec<_>>().join(", ")
}

/// An AMQP URI for people: the password is hidden, and so is a text that is no URI.
#[must_use]
pub fn redacted(uri: &SecretString) -> String {
    match url::Url::parse(uri.expose_secret()) {
        Ok(mut url) => {
            if url.password().is_some() && url.set_password(Some("***")).is_err() {
                return "(hidden)".to_owned();
            }
            url.set_query(None);
            url.to_string()
        }
        Err(_) => "(hidden: not a URI)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Write as _;

    use super::*;

    fn with_env(pairs: &[(&str, &str)]) -> Result<Loaded, SettingsError> {
        let environment = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<HashMap<_, _>>();
        load_from(&[], &[], Some(environment))
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    #[test]
    fn the_built_in_defaults_are_valid() {
        let loaded = with_env(&[]).expect("valid");
        assert_eq!(loaded.settings.amqp.prefetch, 256);
        assert_eq!(loaded.settings.amqp.topology.wait_levels.0.len(), 9);
    }

    #[test]
    fn a_file_overrides_the_defaults_and_the_environment_overrides_the_file() {
        let file = file("[amqp]\nprefetch = 10\nheartbeat = \"20s\"\n");
        let environment = HashMap::from([("CANCEL_WORKER__AMQP__PREFETCH".to_owned(), "20".to_owned())]);
        let loaded = load_from(&[file.path().to_owned()], &[], Some(environment)).expect("valid");
        assert_eq!(loaded.settings.amqp.prefetch, 20);
        assert_eq!(loaded.settings.amqp.heartbeat.as_secs(), 20);
        let source = |key: &str| loaded.effective.iter().find(|e| e.key == key).expect("listed").source.clone();
        assert!(source("amqp.prefetch").contains("environment"), "{}", source("amqp.prefetch"));
        assert!(source("amqp.heartbeat").contains(".toml"), "{}", source("amqp.heartbeat"));
    }

    #[test]
    fn lists_come_from_the_environment_with_commas() {
        let loaded = with_env(&[("CANCEL_WORKER__AMQP__TOPOLOGY__WAIT_LEVELS", "10s,1s")]).expect("valid");
        let levels: Vec<u64> = loaded.settings.amqp.topology.wait_levels.0.iter().map(|l| l.as_secs()).collect();
        assert_eq!(levels, [1, 10]);
    }

    #[test]
    fn variables_that_kubernetes_injects_are_no_settings() {
        assert!(with_env(&[("CANCEL_WORKER_SERVICE_HOST", "10.0.0.1")]).is_ok());
    }

    #[test]
    fn a_wrong_setting_is_named_with_what_is_wrong() {
        for (key, value, words) in [
            ("CANCEL_WORKER__AMQP__PREFECTH", "5", &["prefecth", "amqp"][..]),
            ("CANCEL_WORKER__AMQP__PREFETCH", "many", &["amqp.prefetch", "many"]),
            ("CANCEL_WORKER__AMQP__PREFETCH", "0", &["amqp.prefetch", "at least 1"]),
            ("CANCEL_WORKER__AMQP__HEARTBEAT", "10", &["amqp.heartbeat", "15m"]),
            ("CANCEL_WORKER__AMQP__URI", "localhost", &["amqp.uri", "amqp://"]),
            ("CANCEL_WORKER__API__RESPONSE_LIMIT", "much", &["api.response_limit"]),
            ("CANCEL_WORKER__API__ENDPOINT", "dialogflow.googleapis.com", &["api.endpoint", "https://"]),
            ("CANCEL_WORKER__API__CREDENTIALS__KIND", "token_file", &["api.credentials.token_file"]),
            ("CANCEL_WORKER__RETRY__MULTIPLIER", "0.5", &["retry", "multiplier"]),
            ("CANCEL_WORKER__RATE_LIMIT__PER_SECOND", "-1", &["rate_limit.per_second", "0 for no limit"]),
            ("CANCEL_WORKER__BREAKER__SILENCE", "0s", &["breaker.silence", "100ms"]),
            ("CANCEL_WORKER__EVENTS__MODE", "xml", &["events.mode", "structured"]),
            ("CANCEL_WORKER__LOG__FILTER", "info,=x=", &["log.filter"]),
        ] {
            let error = with_env(&[(key, value)]).expect_err(key).to_string();
            for word in words {
                assert!(error.contains(word), "{key}={value}: {error:?} does not mention {word:?}");
            }
        }
    }

    #[test]
    fn passwords_are_never_shown() {
        let loaded = with_env(&[("CANCEL_WORKER__AMQP__URI", "amqp://me:s3cret@a/%2f,amqp://me:s3cret@b/%2f")]);
        let loaded = loaded.expect("valid");
        assert!(!format!("{loaded:?}").contains("s3cret"));
        let error = with_env(&[("CANCEL_WORKER__AMQP__URI", "s3cret")]).expect_err("no URI");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }

    #[test]
    fn a_uri_file_goes_before_the_uri_and_an_unreadable_one_is_named() {
        let secret = file("amqp://me:s3cret@elsewhere/%2f\n");
        let path = secret.path().to_str().expect("UTF-8");
        let loaded = with_env(&[("CANCEL_WORKER__AMQP__URI_FILE", path)]).expect("valid");
        assert_eq!(loaded.settings.amqp.uri.0[0].expose_secret(), "amqp://me:s3cret@elsewhere/%2f");
        let error = with_env(&[("CANCEL_WORKER__AMQP__URI_FILE", "/nowhere/uri")]).expect_err("no file").to_string();
        assert!(error.contains("/nowhere/uri") && error.contains("amqp.uri_file"), "{error}");
    }
}
