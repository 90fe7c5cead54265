use config::{Config, Value, ValueKind};

use super::amqp_uri::AmqpUri;
use super::error::is_secret;
use super::redact::{HIDDEN, unless_secret};

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

/// Every setting in force, in order of its key. Those of `overrides` come from the command line.
pub(super) fn list(merged: &Config, overrides: &[(&str, String)]) -> Vec<Effective> {
    let mut effective = Vec::new();
    each(merged, &mut |key, value| {
        let overridden = overrides.iter().any(|(name, _)| *name == key);
        let source = if overridden { "the command line" } else { value.origin().unwrap_or("built-in") };
        let (value, source) = (shown(key, &value.kind), source.to_owned());
        effective.push(Effective { key: key.to_owned(), value, source });
    });
    effective.sort_by(|a, b| a.key.cmp(&b.key));
    effective
}

/// Visits every value that is no table.
pub(super) fn each(merged: &Config, visit: &mut impl FnMut(&str, &Value)) {
    flatten("", &merged.cache, visit);
}

fn flatten(key: &str, value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    match &value.kind {
        ValueKind::Table(table) => {
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&key, value, visit);
            }
        }
        _ => visit(key, value),
    }
}

fn shown(key: &str, kind: &ValueKind) -> String {
    match kind {
        ValueKind::Array(values) => {
            let items: Vec<String> = values.iter().map(|value| shown(key, &value.kind)).collect();
            format!("[{}]", items.join(", "))
        }
        // One that is in force was parsed; one that a file goes before may be anything.
        kind if is_secret(key) => {
            let uris = kind.to_string();
            let uris = uris.split([',', '\n', '\r']).map(str::trim).filter(|uri| !uri.is_empty());
            let shown =
                uris.map(|uri| uri.parse::<AmqpUri>().map_or_else(|_| HIDDEN.to_owned(), |uri| uri.to_string()));
            shown.collect::<Vec<_>>().join(", ")
        }
        kind => unless_secret(kind.to_string()),
    }
}
