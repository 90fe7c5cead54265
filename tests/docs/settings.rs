//! The settings in `config/README.md` are those of `config/default.toml`, with their defaults.

use std::collections::BTreeMap;

use crate::markdown::{read, table};

#[test]
fn the_table_of_settings_has_every_setting_with_its_default() {
    let rows = table(&read("config/README.md"), "| setting |");
    let said: BTreeMap<String, String> =
        rows.iter().map(|row| (row[0].trim_matches('`').to_owned(), row[1].trim_matches('`').to_owned())).collect();
    assert_eq!(said.len(), rows.len(), "no setting twice");
    let defaults = defaults(&read("config/default.toml"));
    assert_eq!(said, defaults, "on the left what the table says, on the right what config/default.toml does");
    let loaded = cancel_worker::settings::load(&[], &[]).unwrap();
    for setting in &loaded.effective {
        let is_known = said.keys().any(|key| setting.key == *key || setting.key.starts_with(&format!("{key}.")));
        assert!(is_known, "the table misses {}", setting.key);
    }
}

/// Each setting with its default as TOML. Those without one stand in comments, by an empty value or only by name.
fn defaults(toml: &str) -> BTreeMap<String, String> {
    let unset = |key: &str| (key.to_owned(), "unset".to_owned());
    let mut defaults = BTreeMap::from([unset("amqp.uri_file"), unset("api.credentials.token_file")]);
    let mut section = "";
    for line in toml.lines() {
        let uncommented = line.strip_prefix("# ").unwrap_or(line);
        let is_comment = uncommented.len() < line.len();
        if let Some(name) = uncommented.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            if is_comment {
                defaults.extend([unset(name)]);
            } else {
                section = name;
            }
        } else if let Some((key, value)) = uncommented.split_once(" = ")
            && key.chars().all(|character| character.is_ascii_lowercase() || character == '_')
            && (!is_comment || value == "\"\"")
        {
            let value = if is_comment { "unset" } else { value };
            defaults.insert(format!("{section}.{key}"), value.to_owned());
        }
    }
    defaults
}
