//! Settings: built-in defaults, then files, then the environment, into validated types.
//!
//! Unknown keys are refused and named. Durations are written as `"15m"`, sizes as `"1MiB"`. Secrets cannot be printed.
//!
//! | file | subject |
//! |---|---|
//! | `sections` | all sections, and the order in which they are checked |
//! | `amqp` | `[amqp]` and its tables: fields and checks |
//! | `api` | `[api]` and its tables: fields and checks |
//! | `endpoint` | an endpoint of the API: reads it, knows loopback, and decides whether a token may go there |
//! | `pacing` | `[retry]`, `[polling]`, `[rate_limit]`, `[breaker]`: fields and checks |
//! | `worker` | `[worker]`: fields and checks |
//! | `events` | `[events]`: fields and checks |
//! | `admin` | `[admin]`: its one field, checked as it is read |
//! | `log` | `[log]`: fields and checks |
//! | `runtime` | `[runtime]`: fields and checks |
//! | `values` | durations, lists and words as people write them |
//! | `checks` | what the checks of all sections are made of |
//! | `error` | why there are no settings |
//! | `load` | defaults, files, environment and command line, merged and read |
//! | `toml_file` | where a file is broken, without quoting the line |
//! | `environment` | which variables are settings, and which only look like it |
//! | `effective` | every setting in force with its source, for `check` |
//! | `uris` | the broker's URIs: fixed, or read from a file again and again |
//! | `amqp_uri` | one such URI, printed without its password |
//! | `amqp_uri_parser` | which texts are such URIs |
//! | `file_name` | a file's name, or what belongs into the file |
//! | `redact` | hides what may hold a password |
//! | `amqp_uri_tests`, `checks_tests`, `redact_tests` | tests of the file that is named, by way of all settings |
//!
//! # How to add a setting
//!
//! 1. `config/default.toml`: its default, and above it what it does. One without a default stands there commented out, and
//!    its key in `OPTIONAL` in `load.rs`.
//! 2. The section's file (see the table): a documented field. Durations are `HumanDuration`, sizes `ByteSize`; words are an
//!    enum, read with `choice`; lists are read with `one_or_many`.
//! 3. The same file, `check`: what is refused, by `within` or `require`, so that the error names the setting, its value and
//!    what would be right.
//! 4. `checks_tests.rs` tries silly values of every number, duration and size by itself: do in `use_them` what the worker does
//!    with this one. Other rules get a line in the tests of `load.rs`.
//! 5. Where it is used, pass the value on, not the settings.
//!
//! A new section is a file here with a struct and its `check`, a field of [`Settings`], and a line of `Settings::check`.

mod admin;
mod amqp;
mod amqp_uri;
mod amqp_uri_parser;
mod api;
mod checks;
mod effective;
mod endpoint;
mod environment;
mod error;
mod events;
mod file_name;
mod load;
mod log;
mod pacing;
mod redact;
mod runtime;
mod sections;
mod toml_file;
mod uris;
mod values;
mod worker;

#[cfg(test)]
mod amqp_uri_tests;
#[cfg(test)]
mod checks_tests;
#[cfg(test)]
mod redact_tests;

pub use admin::Admin;
pub use amqp::{Amqp, ExternalNames, Topology};
pub use amqp_uri::{AmqpUri, AuthMechanism, UriParameters};
pub use amqp_uri_parser::UriProblem;
pub use api::{Api, CancelBody, Credentials, CredentialsKind};
pub use effective::Effective;
pub use endpoint::{ENDPOINT_FORM, Endpoint, InvalidEndpoint, may_receive_secrets};
pub use environment::ENV_PREFIX;
pub use error::SettingsError;
pub use events::Events;
pub use file_name::shown_file;
pub use load::{DEFAULTS, Loaded, load};
pub use log::Log;
pub use pacing::{Breaker, Polling, RateLimit, Retry};
pub use runtime::Runtime;
pub use sections::Settings;
pub use uris::{UriNews, UriSource};
pub use values::{HumanDuration, HumanDurations};
pub use worker::Worker;
