//! Settings: built-in defaults, then files, then the environment, into validated types.
//!
//! Unknown keys are refused and named. Durations are written as `"15m"`, sizes as `"1MiB"`. Secrets cannot be printed.

mod admin;
mod amqp;
mod api;
mod load;
mod pacing;
mod validate;
mod values;
mod worker;

pub use admin::Admin;
pub use amqp::{Amqp, OwnNames, Topology, Uris};
pub use api::{Api, CancelBody, Credentials, CredentialsKind};
pub use load::{DEFAULTS, ENV_PREFIX, Effective, Loaded, SettingsError, load, redacted};
pub use pacing::{Breaker, Polling, RateLimit, Retry};
pub use values::{Span, Spans};
pub use worker::{EventMode, Events, Log, LogFormat, Runtime, Settings, Worker};
