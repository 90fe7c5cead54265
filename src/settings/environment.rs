use std::collections::HashMap;
use std::ffi::OsString;

use super::error::SettingsError;

/// Environment variables that are settings begin with this and two underscores. One underscore would collide with
/// what Kubernetes injects for a service called `cancel-worker` (`CANCEL_WORKER_SERVICE_HOST`).
pub const ENV_PREFIX: &str = "CANCEL_WORKER";

/// The variables that begin with the prefix.
///
/// # Errors
/// Names one whose value is no text, without quoting it.
pub(super) fn ours(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<HashMap<String, String>, SettingsError> {
    let named = variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let ours = named.filter(|(name, _)| name.to_ascii_uppercase().starts_with(ENV_PREFIX));
    ours.map(|(name, value)| match value.into_string() {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(SettingsError::NotText(name)),
    })
    .collect()
}

/// One sentence on variables that look like settings and are none, if there are any: they have no effect. `keys` are the
/// names of the settings.
pub(super) fn strays(variables: &HashMap<String, String>, keys: &[&str]) -> Option<String> {
    let mut strays: Vec<String> = variables
        .iter()
        .filter_map(|(name, value)| {
            let upper = name.to_ascii_uppercase();
            let rest = upper.strip_prefix(ENV_PREFIX)?.strip_prefix('_').filter(|rest| !rest.starts_with('_'))?;
            let known = is_of_kubernetes(rest, value) || rest.starts_with("TEST_");
            (!known).then(|| format!("{name}{}", meant(rest, keys)))
        })
        .collect();
    strays.sort();
    (!strays.is_empty()).then(|| {
        format!(
            "environment variables that begin with {ENV_PREFIX}_ and are no settings have no effect (settings have two underscores: {ENV_PREFIX}__SECTION__KEY): {}",
            strays.join(", ")
        )
    })
}

/// The setting whose name has the same letters.
fn meant(rest: &str, keys: &[&str]) -> String {
    let letters = |text: &str| text.replace(['_', '.'], "").to_ascii_uppercase();
    let key = keys.iter().find(|key| letters(key) == letters(rest));
    key.map_or_else(String::new, |key| format!(" (for {}?)", variable(key)))
}

/// The variable of a setting.
fn variable(key: &str) -> String {
    format!("{ENV_PREFIX}__{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// What Kubernetes injects for services called `cancel-worker` or `cancel-worker-…`.
fn is_of_kubernetes(rest: &str, value: &str) -> bool {
    let of_service = |end: &str| rest == end || rest.ends_with(&format!("_{end}"));
    if of_service("SERVICE_HOST") || of_service("SERVICE_PORT") || format!("_{rest}").contains("_SERVICE_PORT_") {
        return true;
    }
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    if of_service("PORT") && is_url {
        return true;
    }
    // `PORT_5672_TCP`, and the same with `_ADDR`, `_PORT` or `_PROTO`.
    let rest = ["_ADDR", "_PORT", "_PROTO"].iter().find_map(|end| rest.strip_suffix(end)).unwrap_or(rest);
    let number = ["_TCP", "_UDP", "_SCTP"].iter().find_map(|end| rest.strip_suffix(end));
    let Some((before, number)) = number.and_then(|rest| rest.rsplit_once('_')) else { return false };
    let is_port = before == "PORT" || before.ends_with("_PORT");
    is_port && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &str)]) -> Option<String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        strays(&variables, &["amqp.uri", "amqp.uri_file", "log.filter"])
    }

    #[test]
    fn a_setting_with_one_underscore_is_told_of_with_the_right_name_and_without_its_value() {
        for (name, meant) in [
            ("CANCEL_WORKER_AMQP__URI", "CANCEL_WORKER__AMQP__URI"),
            ("CANCEL_WORKER_AMQP_URI", "CANCEL_WORKER__AMQP__URI"),
            ("cancel_worker_amqp_uri_file", "CANCEL_WORKER__AMQP__URI_FILE"),
            ("CANCEL_WORKER_LOG_FILTER", "CANCEL_WORKER__LOG__FILTER"),
        ] {
            let told = told(&[(name, "amqp://ann:s3cret@host")]).expect(name);
            assert!(told.ends_with(&format!(": {name} (for {meant}?)")), "{told}");
            assert!(!told.contains("s3cret"), "{told}");
        }
        let two = told(&[("CANCEL_WORKER_B", "1"), ("CANCEL_WORKER_A", "1")]).expect("two");
        assert!(two.ends_with(": CANCEL_WORKER_A, CANCEL_WORKER_B"), "one sentence, in order: {two}");
        assert!(told(&[("CANCEL_WORKER_ADMIN_PORT", "9464")]).is_some());
    }

    #[test]
    fn what_kubernetes_injects_and_what_is_no_business_of_ours_is_not_told_of() {
        for (name, value) in [
            ("CANCEL_WORKER_SERVICE_HOST", "10.0.0.1"),
            ("CANCEL_WORKER_SERVICE_PORT", "9464"),
            ("CANCEL_WORKER_SERVICE_PORT_HTTP", "9464"),
            ("CANCEL_WORKER_PORT", "tcp://10.0.0.1:9464"),
            ("CANCEL_WORKER_PORT_5672_TCP", "tcp://10.0.0.1:5672"),
            ("CANCEL_WORKER_PORT_5672_TCP_ADDR", "10.0.0.1"),
            ("CANCEL_WORKER_PORT_5672_TCP_PORT", "5672"),
            ("CANCEL_WORKER_PORT_5672_TCP_PROTO", "tcp"),
            ("CANCEL_WORKER_PORT_53_UDP", "udp://10.0.0.1:53"),
            ("CANCEL_WORKER_ADMIN_SERVICE_HOST", "10.0.0.1"),
            ("CANCEL_WORKER_ADMIN_SERVICE_PORT_PROBES", "9464"),
            ("CANCEL_WORKER_ADMIN_PORT", "tcp://10.0.0.1:9464"),
            ("CANCEL_WORKER_ADMIN_PORT_9464_TCP_ADDR", "10.0.0.1"),
            ("CANCEL_WORKER_TEST_AMQP", "amqp://127.0.0.1"),
            ("CANCEL_WORKER__AMQP__URI", "amqp://127.0.0.1"),
            ("CANCEL_WORKERS", "4"),
        ] {
            assert_eq!(told(&[(name, value)]), None, "{name}");
        }
    }
}
