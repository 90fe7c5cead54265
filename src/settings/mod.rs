//! Settings: built-in defaults, then files, then the environment, into validated types.
//!
//! Unknown keys are refused and named. Durations are written as `"15m"`, sizes as `"1MiB"`. Secrets cannot be printed.

mod admin;
mod amqp;
mod amqp_uri;
mod amqp_uri_parser;
mod api;
mod effective;
mod endpoint;
mod environment;
mod error;
mod file_name;
mod load;
mod pacing;
mod toml_file;
mod uris;
mod validate;
mod values;
mod worker;

#[cfg(test)]
mod amqp_uri_tests;
#[cfg(test)]
mod limits_tests;
#[cfg(test)]
mod secrets_tests;

pub use admin::Admin;
pub use amqp::{Amqp, ExternalNames, Topology};
pub use amqp_uri::{AmqpUri, AuthMechanism, UriParameters};
pub use amqp_uri_parser::UriProblem;
pub use api::{Api, CancelBody, Credentials, CredentialsKind};
pub use effective::Effective;
pub use endpoint::{ENDPOINT_FORM, Endpoint, InvalidEndpoint, may_receive_secrets};
pub use environment::ENV_PREFIX;
pub use error::SettingsError;
pub use file_name::shown_file;
pub use load::{DEFAULTS, Loaded, load};
pub use pacing::{Breaker, Polling, RateLimit, Retry};
pub use uris::{UriNews, UriSource};
pub use values::{HumanDuration, HumanDurations};
pub use worker::{EventMode, Events, Log, LogFormat, Runtime, Settings, Worker};
