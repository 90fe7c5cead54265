use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use tracing_subscriber::EnvFilter;

use super::amqp_uri::unless_secret;
use super::api::{Api, CredentialsKind};
use super::endpoint::Endpoint;
use super::error::{SettingsError, invalid};
use super::file_name::{NO_FILE_NAME, is_content};
use super::values::HumanDuration;
use super::worker::Settings;
use crate::pacing::{Backoff, InvalidBackoff};

/// Refuses values that parse but make no sense: one rule, one sentence. What is accepted can be added to any clock and
/// multiplied by what the worker multiplies it by.
pub(super) fn check(settings: &Settings) -> Result<(), SettingsError> {
    amqp(settings)?;
    api(&settings.api)?;
    let retry = &settings.retry;
    let lengths = [("retry.initial", retry.initial), ("retry.max", retry.max)];
    let shape = [("retry.multiplier", retry.multiplier), ("retry.jitter", retry.jitter)];
    intervals(retry.intervals(), lengths, shape)?;
    let polling = &settings.polling;
    let lengths = [("polling.initial", polling.initial), ("polling.max", polling.max)];
    let shape = [("polling.multiplier", polling.multiplier), ("polling.jitter", polling.jitter)];
    intervals(polling.intervals(), lengths, shape)?;
    pacing(settings)?;
    worker(settings)
}

fn require(holds: bool, setting: &'static str, problem: &str) -> Result<(), SettingsError> {
    if holds { Ok(()) } else { Err(invalid(setting, problem)) }
}

/// Refuses a value outside of a range, and says which it is.
fn within<T: PartialOrd + Display>(
    setting: impl Into<String>,
    value: T,
    range: RangeInclusive<T>,
) -> Result<(), SettingsError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(invalid(setting, format!("it is {value}, and must be from {} to {}", range.start(), range.end())))
}

const fn millis(millis: u64) -> HumanDuration {
    HumanDuration(Duration::from_millis(millis))
}

const fn hours(hours: u64) -> HumanDuration {
    HumanDuration(Duration::from_hours(hours))
}

/// The settings that intervals are made of, each with its name: initial and longest, multiplier and jitter.
fn intervals(
    made: Result<Backoff, InvalidBackoff>,
    [initial, max]: [(&str, HumanDuration); 2],
    [multiplier, jitter]: [(&str, f64); 2],
) -> Result<(), SettingsError> {
    let Err(error) = made else { return Ok(()) };
    let (setting, value) = match error {
        InvalidBackoff::InitialTooShort => (initial.0, initial.1.to_string()),
        InvalidBackoff::MaxTooLong => (max.0, max.1.to_string()),
        InvalidBackoff::MaxBelowInitial => (max.0, format!("{}, and {} is {}", max.1, initial.0, initial.1)),
        InvalidBackoff::Multiplier => (multiplier.0, multiplier.1.to_string()),
        InvalidBackoff::Jitter => (jitter.0, jitter.1.to_string()),
    };
    Err(invalid(setting, format!("it is {value}: {error}")))
}

/// More would be thousands of queues.
const MOST_WAIT_LEVELS: usize = 32;

fn amqp(settings: &Settings) -> Result<(), SettingsError> {
    let amqp = &settings.amqp;
    within("amqp.prefetch", amqp.prefetch, 1..=u16::MAX)?;
    within("amqp.heartbeat", amqp.heartbeat, millis(1000)..=hours(1))?;
    within("amqp.connect_timeout", amqp.connect_timeout, millis(1)..=hours(1))?;
    within("amqp.confirm_timeout", amqp.confirm_timeout, millis(1)..=hours(1))?;
    let lengths = [("amqp.reconnect_initial", amqp.reconnect_initial), ("amqp.reconnect_max", amqp.reconnect_max)];
    // Their shape is no setting.
    intervals(amqp.reconnect(), lengths, [("amqp.reconnect_initial", 2.0), ("amqp.reconnect_max", 0.25)])?;
    let topology = &amqp.topology;
    require(
        !topology.prefix.is_empty() && topology.prefix.len() <= 200 && !topology.prefix.starts_with("amq."),
        "amqp.topology.prefix",
        "it must have 1 to 200 bytes and not begin with \"amq.\", which the broker keeps for itself",
    )?;
    within("amqp.topology.delivery_limit", topology.delivery_limit, 1..=i32::MAX.unsigned_abs())?;
    let levels = &topology.wait_levels.0;
    require(!levels.is_empty(), "amqp.topology.wait_levels", "at least one wait level is needed, such as \"1s\"")?;
    if levels.len() > MOST_WAIT_LEVELS {
        let problem =
            format!("there are {}, and at most {MOST_WAIT_LEVELS} are possible: each is a queue", levels.len());
        return Err(invalid("amqp.topology.wait_levels", problem));
    }
    levels.iter().try_for_each(|level| within("amqp.topology.wait_levels", *level, millis(100)..=hours(24)))
}

fn file_names(api: &Api) -> Result<(), SettingsError> {
    let named = [
        ("api.client_certificate_file", &api.client_certificate_file),
        ("api.client_key_file", &api.client_key_file),
        ("api.ca_file", &api.ca_file),
        ("api.credentials.token_file", &api.credentials.token_file),
        ("api.credentials.file", &api.credentials.file),
    ];
    let is_name = |path: &Option<PathBuf>| !path.as_deref().is_some_and(is_content);
    named.into_iter().try_for_each(|(setting, path)| require(is_name(path), setting, NO_FILE_NAME))
}

fn api(api: &Api) -> Result<(), SettingsError> {
    file_names(api)?;
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
    within("api.call_timeout", api.call_timeout, millis(1)..=hours(24))?;
    within("api.connect_timeout", api.connect_timeout, millis(1)..=hours(24))?;
    within("api.response_limit", api.response_limit, ByteSize::kib(1)..=ByteSize::gib(1))?;
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
    let parsed = if with_token { Endpoint::parse_for_tokens(endpoint) } else { Endpoint::parse(endpoint) };
    parsed.map(drop).map_err(|error| invalid(setting, error.to_string()))
}

fn pacing(settings: &Settings) -> Result<(), SettingsError> {
    let (limit, breaker) = (&settings.rate_limit, &settings.breaker);
    for (setting, rate) in
        [("rate_limit.per_second", limit.per_second), ("rate_limit.project_per_second", limit.project_per_second)]
    {
        let sensible = rate == 0.0 || (0.01..=100_000.0).contains(&rate);
        let problem = || format!("it is {rate}, and must be from 0.01 to 100000 calls a second, or 0 for no limit");
        if !sensible {
            return Err(invalid(setting, problem()));
        }
    }
    within("rate_limit.burst", limit.burst, 1..=u32::MAX)?;
    within("rate_limit.project_burst", limit.project_burst, 1..=u32::MAX)?;
    within("breaker.failures", breaker.failures, 1..=u32::MAX)?;
    let five_minutes = millis(300_000);
    within("breaker.probe_interval", breaker.probe_interval, millis(100)..=five_minutes)?;
    within("breaker.silence", breaker.silence, millis(100)..=five_minutes)
}

/// Places beyond those that deliveries of two full prefetches could take are of no use.
const MOST_INLINE_SLOTS: usize = 2 * u16::MAX as usize;

fn worker(settings: &Settings) -> Result<(), SettingsError> {
    let worker = &settings.worker;
    // A delivery that is held for 30m makes the broker close the channel.
    within("worker.inline_wait", worker.inline_wait, millis(0)..=millis(600_000))?;
    within("worker.inline_slots", worker.inline_slots, 0..=MOST_INLINE_SLOTS)?;
    let year = HumanDuration(Duration::from_secs(31_557_600));
    within("worker.default_timeout", worker.default_timeout, millis(1)..=year)?;
    within("worker.shutdown_grace", worker.shutdown_grace, millis(0)..=hours(24))?;
    // RabbitMQ takes no larger message, whatever its settings.
    within("worker.request_limit", worker.request_limit, ByteSize::kib(1)..=ByteSize::mib(512))?;
    require(!settings.events.type_prefix.is_empty(), "events.type_prefix", "it must not be empty")?;
    require(!settings.events.source.is_empty(), "events.source", "it must not be empty")?;
    EnvFilter::try_new(&settings.log.filter)
        .map_err(|error| invalid("log.filter", unless_secret(error.to_string())))?;
    within("runtime.threads", settings.runtime.threads, 1..=64)
}
