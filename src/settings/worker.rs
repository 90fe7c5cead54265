use bytesize::ByteSize;
use serde::Deserialize;

use super::admin::Admin;
use super::amqp::Amqp;
use super::api::Api;
use super::pacing::{Breaker, Polling, RateLimit, Retry};
use super::values::{HumanDuration, choice};

/// All settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `[amqp]`
    pub amqp: Amqp,
    /// `[api]`
    pub api: Api,
    /// `[retry]`
    pub retry: Retry,
    /// `[polling]`
    pub polling: Polling,
    /// `[rate_limit]`
    pub rate_limit: RateLimit,
    /// `[breaker]`
    pub breaker: Breaker,
    /// `[worker]`
    pub worker: Worker,
    /// `[events]`
    pub events: Events,
    /// `[admin]`
    pub admin: Admin,
    /// `[log]`
    pub log: Log,
    /// `[runtime]`
    pub runtime: Runtime,
}

/// `[worker]`: how deliveries are handled.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// Longest total wait for which a delivery is held.
    pub inline_wait: HumanDuration,
    /// Deliveries held for waits at once.
    pub inline_slots: usize,
    /// Deadline of requests that set none, from when they are first seen.
    pub default_timeout: HumanDuration,
    /// From SIGTERM to the end.
    pub shutdown_grace: HumanDuration,
    /// Longest request body.
    pub request_limit: ByteSize,
    /// Whether failed requests are kept in the dead queue.
    pub keep_failed: bool,
}

/// `[events]`: result events.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// What event types begin with.
    pub type_prefix: String,
    /// CloudEvents `source`.
    pub source: String,
    /// Content mode.
    #[serde(deserialize_with = "choice")]
    pub mode: EventMode,
}

/// CloudEvents content modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventMode {
    /// The whole event is the body.
    Structured,
    /// Attributes are headers, data is the body.
    Binary,
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Layout of a line.
    #[serde(deserialize_with = "choice")]
    pub format: LogFormat,
    /// As in `RUST_LOG`.
    pub filter: String,
}

/// Layouts of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// `[runtime]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Threads that run tasks.
    pub threads: usize,
}
