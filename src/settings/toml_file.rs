use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{SettingsError, is_secret};

/// Looks at a settings file before it is used: the errors of the libraries that use it quote its lines, and say nothing of
/// the place of a number that is too large. A file that cannot be read is left to them.
///
/// # Errors
/// Says where the file is no TOML, without quoting it; `known` tells which names are those of settings.
pub(super) fn check(path: &Path, known: impl Fn(&str) -> bool) -> Result<(), SettingsError> {
    let Ok(bytes) = std::fs::read(path) else { return Ok(()) };
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes));
    let problem = match DeTable::parse(&text) {
        Ok(table) => in_table("", table.get_ref()),
        Err(error) => {
            let span = error.span().unwrap_or_default();
            Some((key_in_line(&text, span.start).filter(|key| known(key)), span, error.message().to_owned()))
        }
    };
    let Some((key, span, problem)) = problem else { return Ok(()) };
    let (line, column) = position(&text, span.start);
    Err(SettingsError::Syntax { path: path.to_owned(), line, column, key, problem })
}

type Problem = (Option<String>, Range<usize>, String);

/// The first number that no setting can hold.
fn large_number(key: &str, value: &Spanned<DeValue<'_>>) -> Option<Problem> {
    let too_large = |text: &str| {
        let shown = if is_secret(key) { "a number" } else { text };
        let problem = format!("{shown} is larger than any number that a setting may have");
        Some((Some(key.to_owned()), value.span(), problem))
    };
    match value.get_ref() {
        DeValue::Table(table) => in_table(key, table),
        DeValue::Array(values) => values.iter().find_map(|value| large_number(key, value)),
        DeValue::Integer(number) if i64::from_str_radix(number.as_str(), number.radix()).is_err() => {
            too_large(number.as_str())
        }
        DeValue::Float(number) if number.as_str().parse().is_ok_and(f64::is_infinite) => too_large(number.as_str()),
        _ => None,
    }
}

fn in_table(prefix: &str, table: &DeTable<'_>) -> Option<Problem> {
    table.iter().find_map(|(name, value)| {
        let name = name.get_ref();
        large_number(&if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") }, value)
    })
}

/// What stands left of the first "=" of the line that has this byte.
fn key_in_line(text: &str, at: usize) -> Option<String> {
    let before = text.get(..at.min(text.len()))?;
    let line = text[before.rfind('\n').map_or(0, |end| end + 1)..].lines().next()?;
    line.split_once('=').map(|(key, _)| key.trim().to_owned())
}

fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}
