use std::collections::HashMap;
use std::path::{Path, PathBuf};

use config::{Config, ConfigError, Environment, File, FileFormat, Value, ValueKind};

use super::effective::{Effective, each, list};
use super::environment::{ENV_PREFIX, ours, strays};
use super::error::{SettingsError, invalid};
use super::redact::quoted;
use super::sections::Settings;
use super::toml_file;
use super::uris::{GivenUris, UriSource, UrisProblem};

/// The built-in defaults: every setting, with its meaning.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Settings without a default.
const OPTIONAL: [&str; 15] = [
    "amqp.uri_file",
    "amqp.topology.external.requests_exchange",
    "amqp.topology.external.requests_queue",
    "amqp.topology.external.events_exchange",
    "amqp.topology.external.results_queue",
    "amqp.topology.external.dead_exchange",
    "amqp.topology.external.dead_queue",
    "api.endpoint",
    "api.endpoints",
    "api.client_certificate_file",
    "api.client_key_file",
    "api.ca_file",
    "api.credentials.token_file",
    "api.credentials.file",
    "api.credentials.quota_project",
];

/// Settings, and where each came from.
#[derive(Debug)]
pub struct Loaded {
    /// Validated.
    pub settings: Settings,
    /// Every setting in force, in order of its key.
    pub effective: Vec<Effective>,
    /// What has no effect, and was meant to have one: a sentence each.
    pub warnings: Vec<String>,
}

/// Loads settings: defaults, then `files`, then the environment, then `overrides` (key and value, from the command line).
///
/// # Errors
/// Names the file or setting, and what is wrong with it.
pub fn load(files: &[PathBuf], overrides: &[(&str, String)]) -> Result<Loaded, SettingsError> {
    load_from(files, overrides, ours(std::env::vars_os())?)
}

pub(super) fn load_from(
    files: &[PathBuf],
    overrides: &[(&str, String)],
    environment: HashMap<String, String>,
) -> Result<Loaded, SettingsError> {
    let defaults = defaults().build()?;
    let mut keys = OPTIONAL.map(str::to_owned).to_vec();
    each(&defaults, &mut |key, _| keys.push(key.to_owned()));
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for file in files {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        toml_file::check(file, |name| keys.iter().any(|key| *key == name || last(key) == name))?;
    }
    let warnings = strays(&environment, &keys).into_iter().collect();
    let merged = merge(files, overrides, environment)?;
    numbers(&defaults, &merged)?;
    let mut effective = list(&merged, overrides);
    let mut settings: Settings = merged.try_deserialize()?;
    settings.amqp.uris = uris(settings.amqp.uri_file.as_deref(), &settings.amqp.given_uris)?;
    if let Some(path) = &settings.amqp.uri_file {
        for setting in effective.iter_mut().filter(|setting| setting.key == "amqp.uri") {
            setting.value = settings.amqp.uris.to_string();
            setting.source = path.display().to_string();
        }
    }
    settings.amqp.topology.wait_levels.0.sort();
    settings.amqp.topology.wait_levels.0.dedup();
    settings.check()?;
    Ok(Loaded { settings, effective, warnings })
}

fn defaults() -> config::ConfigBuilder<config::builder::DefaultState> {
    Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml))
}

fn merge(
    files: &[PathBuf],
    overrides: &[(&str, String)],
    environment: HashMap<String, String>,
) -> Result<Config, ConfigError> {
    let mut builder = defaults();
    for file in files {
        builder = builder.add_source(File::from(file.as_path()).format(FileFormat::Toml).required(true));
    }
    // The separator would also stand between prefix and key unless this one is given: it is given all the same, to say so.
    let environment =
        Environment::with_prefix(ENV_PREFIX).prefix_separator("__").separator("__").source(Some(environment));
    builder = builder.add_source(environment);
    for (key, value) in overrides {
        builder = builder.set_override(*key, value.clone())?;
    }
    builder.build()
}

/// Refuses what the library would round to a whole number, or take for a number: `1.5`, `nan`, `true`, `"on"`.
fn numbers(defaults: &Config, merged: &Config) -> Result<(), SettingsError> {
    let (mut whole, mut any) = (Vec::new(), Vec::new());
    each(defaults, &mut |key, value| match value.kind {
        ValueKind::I64(_) => whole.push(key.to_owned()),
        ValueKind::Float(_) => any.push(key.to_owned()),
        _ => {}
    });
    let mut result = Ok(());
    each(merged, &mut |key, Value { kind, .. }| {
        let is_in = |keys: &[String]| keys.iter().any(|name| name == key);
        let problem = if is_in(&whole) && !is_whole(kind) {
            "is not a whole number"
        } else if is_in(&any) && !is_whole(kind) && !is_fraction(kind) {
            "is not a number"
        } else {
            return;
        };
        if result.is_ok() {
            result = Err(invalid(key, format!("{} {problem}", quoted(&kind.to_string()))));
        }
    });
    result
}

fn is_whole(kind: &ValueKind) -> bool {
    match kind {
        ValueKind::I64(_) | ValueKind::U64(_) | ValueKind::I128(_) | ValueKind::U128(_) => true,
        ValueKind::String(text) => text.parse::<i128>().is_ok(),
        _ => false,
    }
}

fn is_fraction(kind: &ValueKind) -> bool {
    match kind {
        ValueKind::Float(_) => true,
        ValueKind::String(text) => text.parse::<f64>().is_ok(),
        _ => false,
    }
}

fn uris(file: Option<&Path>, given: &GivenUris) -> Result<UriSource, SettingsError> {
    let Some(path) = file else {
        return UriSource::fixed(given).map_err(|problem| invalid("amqp.uri", problem.to_string()));
    };
    let setting = "amqp.uri_file";
    UriSource::file(path).map_err(|problem| match problem {
        UrisProblem::File(error) => SettingsError::SecretFile { setting, path: path.to_owned(), error },
        UrisProblem::NoFileName => invalid(setting, problem.to_string()),
        problem => invalid(setting, format!("{}: {problem}", path.display())),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use secrecy::ExposeSecret as _;

    use super::*;

    fn with_env(pairs: &[(&str, &str)]) -> Result<Loaded, SettingsError> {
        let environment = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<HashMap<_, _>>();
        load_from(&[], &[], environment)
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
        let loaded = load_from(&[file.path().to_owned()], &[], environment).expect("valid");
        assert_eq!(loaded.settings.amqp.prefetch, 20);
        assert_eq!(loaded.settings.amqp.heartbeat.as_secs(), 20);
        let source = |key: &str| loaded.effective.iter().find(|e| e.key == key).expect("listed").source.clone();
        assert!(source("amqp.prefetch").contains("environment"), "{}", source("amqp.prefetch"));
        assert!(source("amqp.heartbeat").contains(".toml"), "{}", source("amqp.heartbeat"));
    }

    /// As container platforms set what they have no value for.
    #[test]
    fn an_optional_setting_of_nothing_is_not_set() {
        let keys = [
            "AMQP__URI_FILE",
            "AMQP__TOPOLOGY__EXTERNAL__REQUESTS_EXCHANGE",
            "AMQP__TOPOLOGY__EXTERNAL__DEAD_QUEUE",
            "API__ENDPOINT",
            "API__CLIENT_CERTIFICATE_FILE",
            "API__CLIENT_KEY_FILE",
            "API__CA_FILE",
            "API__CREDENTIALS__TOKEN_FILE",
            "API__CREDENTIALS__FILE",
            "API__CREDENTIALS__QUOTA_PROJECT",
        ]
        .map(|key| format!("CANCEL_WORKER__{key}"));
        let pairs: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "")).collect();
        let settings = with_env(&pairs).expect("valid").settings;
        assert!(settings.amqp.uri_file.is_none() && settings.amqp.topology.external.dead_queue.is_none());
        assert!(settings.api.endpoint.is_none() && settings.api.ca_file.is_none());
        assert!(settings.api.credentials.file.is_none() && settings.api.credentials.quota_project.is_none());
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
            ("CANCEL_WORKER__AMQP__PREFETCH", "0", &["amqp.prefetch", "it is 0, and must be from 1 to 65535"]),
            ("CANCEL_WORKER__AMQP__HEARTBEAT", "10", &["amqp.heartbeat", "15m"]),
            ("CANCEL_WORKER__AMQP__URI", "localhost", &["amqp.uri", "amqp://"]),
            ("CANCEL_WORKER__API__RESPONSE_LIMIT", "much", &["api.response_limit"]),
            ("CANCEL_WORKER__API__ENDPOINT", "dialogflow.googleapis.com", &["api.endpoint", "https://"]),
            ("CANCEL_WORKER__API__CREDENTIALS__KIND", "token_file", &["api.credentials.token_file"]),
            ("CANCEL_WORKER__RETRY__MULTIPLIER", "0.5", &["retry.multiplier", "it is 0.5"]),
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
        let uri = &loaded.settings.amqp.uris.last()[0];
        assert_eq!(
            (uri.to_string().as_str(), uri.password().expose_secret()),
            ("amqp://me@elsewhere:5672/%2f", "s3cret")
        );
        let shown = loaded.effective.iter().find(|setting| setting.key == "amqp.uri").expect("listed");
        assert_eq!((shown.value.as_str(), shown.source.as_str()), ("amqp://me@elsewhere:5672/%2f", path));
        let error = with_env(&[("CANCEL_WORKER__AMQP__URI_FILE", "/nowhere/uri")]).expect_err("no file").to_string();
        assert!(error.contains("/nowhere/uri") && error.contains("amqp.uri_file"), "{error}");
    }
}
