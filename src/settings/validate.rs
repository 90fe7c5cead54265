use std::time::Duration;

use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;
use url::{Host, Url};

use super::api::{Api, CredentialsKind};
use super::load::SettingsError;
use super::worker::Settings;

/// Refuses values that parse but make no sense: one rule, one sentence.
pub(super) fn check(settings: &Settings) -> Result<(), SettingsError> {
    amqp(settings)?;
    api(&settings.api)?;
    settings.retry.intervals().map_err(|error| invalid("retry", error.to_string()))?;
    settings.polling.intervals().map_err(|error| invalid("polling", error.to_string()))?;
    pacing(settings)?;
    worker(settings)
}

fn invalid(setting: &'static str, problem: impl Into<String>) -> SettingsError {
    SettingsError::Invalid { setting, problem: problem.into() }
}

fn require(holds: bool, setting: &'static str, problem: &str) -> Result<(), SettingsError> {
    if holds { Ok(()) } else { Err(invalid(setting, problem)) }
}

fn amqp(settings: &Settings) -> Result<(), SettingsError> {
    let amqp = &settings.amqp;
    require(!amqp.uri.0.is_empty(), "amqp.uri", "it is empty; give amqp://user:password@host:5672/%2f")?;
    for uri in &amqp.uri.0 {
        // The text is never quoted: it may hold a password.
        let scheme = Url::parse(uri.expose_secret()).map(|url| url.scheme().to_owned()).unwrap_or_default();
        require(
            scheme == "amqp" || scheme == "amqps",
            "amqp.uri",
            "it is not of the form amqp://user:password@host:5672/%2f or amqps://…",
        )?;
    }
    require(amqp.prefetch >= 1, "amqp.prefetch", "it must be at least 1")?;
    let heartbeat = *amqp.heartbeat;
    require(
        heartbeat >= Duration::from_secs(1) && heartbeat <= Duration::from_secs(3600),
        "amqp.heartbeat",
        "it must be from 1s to 1h",
    )?;
    require(!amqp.connect_timeout.is_zero(), "amqp.connect_timeout", "it must be longer than 0s")?;
    require(!amqp.confirm_timeout.is_zero(), "amqp.confirm_timeout", "it must be longer than 0s")?;
    amqp.reconnect().map_err(|error| invalid("amqp.reconnect_*", error.to_string()))?;
    let topology = &amqp.topology;
    require(
        !topology.prefix.is_empty() && topology.prefix.len() <= 200 && !topology.prefix.starts_with("amq."),
        "amqp.topology.prefix",
        "it must have 1 to 200 bytes and not begin with \"amq.\", which the broker keeps for itself",
    )?;
    require(topology.delivery_limit >= 1, "amqp.topology.delivery_limit", "it must be at least 1")?;
    let levels = &topology.wait_levels.0;
    require(!levels.is_empty(), "amqp.topology.wait_levels", "at least one wait level is needed, such as \"1s\"")?;
    require(
        levels.iter().all(|level| **level >= Duration::from_millis(100) && **level <= Duration::from_hours(24)),
        "amqp.topology.wait_levels",
        "each wait level must be from 100ms to 1day",
    )
}

fn api(api: &Api) -> Result<(), SettingsError> {
    let label = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let region = |text: &String| text == "*" || label(text);
    require(label(&api.service), "api.service", "it must be a host name's label, such as \"dialogflow\"")?;
    require(
        !api.version.is_empty() && api.version.bytes().all(|b| b.is_ascii_alphanumeric()),
        "api.version",
        "it must be one path segment such as \"v2beta1\"",
    )?;
    require(
        api.rep_locations.iter().all(region),
        "api.rep_locations",
        "it must be a list of locations such as \"us\", or [\"*\"] for every region",
    )?;
    require(
        api.client_certificate_file.is_some() || api.client_key_file.is_none(),
        "api.client_certificate_file",
        "it must name the certificate that belongs to the key of api.client_key_file",
    )?;
    require(
        api.client_key_file.is_some() || api.client_certificate_file.is_none(),
        "api.client_key_file",
        "it must name the private key that belongs to api.client_certificate_file",
    )?;
    require(
        !api.mtls || api.client_certificate_file.is_some(),
        "api.mtls",
        "Google's mTLS hosts want a client certificate: set api.client_certificate_file and api.client_key_file",
    )?;
    let with_token = api.credentials.kind != CredentialsKind::None;
    if let Some(endpoint) = &api.endpoint {
        check_endpoint("api.endpoint", &endpoint.replace("{location}", "location"), with_token)?;
    }
    for endpoint in api.endpoints.values() {
        check_endpoint("api.endpoints", endpoint, with_token)?;
    }
    require(!api.call_timeout.is_zero(), "api.call_timeout", "it must be longer than 0s")?;
    require(!api.connect_timeout.is_zero(), "api.connect_timeout", "it must be longer than 0s")?;
    require(api.response_limit.as_u64() >= 1024, "api.response_limit", "it must be at least 1KiB")?;
    require(
        api.credentials.kind != CredentialsKind::TokenFile || api.credentials.token_file.is_some(),
        "api.credentials.token_file",
        "it must name the file that holds the token, since api.credentials.kind is \"token_file\"",
    )?;
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    require(
        !api.credentials.scopes.is_empty() && api.credentials.scopes.iter().all(|scope| plain(scope)),
        "api.credentials.scopes",
        "at least one is needed, without spaces, such as \"https://www.googleapis.com/auth/cloud-platform\"",
    )?;
    require(
        api.credentials.quota_project.as_deref().is_none_or(plain),
        "api.credentials.quota_project",
        "it must be a project's id or number",
    )
}

/// A token is sent over https or to a loopback address only.
fn check_endpoint(setting: &'static str, endpoint: &str, with_token: bool) -> Result<(), SettingsError> {
    let form = "it must be of the form https://host or https://host:port, without a path";
    let url = Url::parse(endpoint).map_err(|_| invalid(setting, format!("{endpoint:?}: {form}")))?;
    let plain = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !plain {
        return Err(invalid(setting, format!("{:?}: {form}", url.host_str().unwrap_or_default())));
    }
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if with_token && url.scheme() == "http" && !loopback {
        let problem = format!(
            "{endpoint:?} is not https, and credentials are sent over http to loopback addresses only; set api.credentials.kind to \"none\" if it wants none"
        );
        return Err(invalid(setting, problem));
    }
    Ok(())
}

fn pacing(settings: &Settings) -> Result<(), SettingsError> {
    let (limit, breaker) = (&settings.rate_limit, &settings.breaker);
    let rate = "it must be from 0.01 to 100000 calls a second, or 0 for no limit";
    let sensible = |rate: f64| rate == 0.0 || (0.01..=100_000.0).contains(&rate);
    require(sensible(limit.per_second), "rate_limit.per_second", rate)?;
    require(sensible(limit.project_per_second), "rate_limit.project_per_second", rate)?;
    require(limit.burst >= 1, "rate_limit.burst", "it must be at least 1")?;
    require(limit.project_burst >= 1, "rate_limit.project_burst", "it must be at least 1")?;
    require(breaker.failures >= 1, "breaker.failures", "it must be at least 1")?;
    let spans = Duration::from_millis(100)..=Duration::from_mins(5);
    require(spans.contains(&*breaker.probe_interval), "breaker.probe_interval", "it must be from 100ms to 5m")?;
    require(spans.contains(&*breaker.silence), "breaker.silence", "it must be from 100ms to 5m")
}

fn worker(settings: &Settings) -> Result<(), SettingsError> {
    let worker = &settings.worker;
    require(
        *worker.inline_wait <= Duration::from_mins(10),
        "worker.inline_wait",
        "it must be at most 10m: a delivery that is held for 30m makes the broker close the channel",
    )?;
    require(!worker.default_timeout.is_zero(), "worker.default_timeout", "it must be longer than 0s")?;
    require(worker.request_limit.as_u64() >= 1024, "worker.request_limit", "it must be at least 1KiB")?;
    require(!settings.events.type_prefix.is_empty(), "events.type_prefix", "it must not be empty")?;
    require(!settings.events.source.is_empty(), "events.source", "it must not be empty")?;
    EnvFilter::try_new(&settings.log.filter).map_err(|error| invalid("log.filter", error.to_string()))?;
    require((1..=64).contains(&settings.runtime.threads), "runtime.threads", "it must be from 1 to 64")
}
