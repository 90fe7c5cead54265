//! The client of the Operations API: `POST …:cancel` and `GET …`, each answered with one [`Reply`].
//!
//! The only user of reqwest. Whatever the service, the network or a proxy does, a call ends within `api.call_timeout`
//! with a [`Reply`] that the decision table knows; there is no error beside it.
//!
//! | file | subject |
//! |---|---|
//! | `operations` | the port: what a cancellation asks of the API |
//! | `client` | its adapter, one call: deadline, resending, reading |
//! | `call_error` | why a call has no answer, and what to do about it |
//! | `http` | the two kinds of connections, and the requests |
//! | `tls` | certificates and keys from files |
//! | `body` | bounded reading |
//! | `reuse` | was the connection a new one? |
//! | `shortage` | what the system refuses before a call is made |
//! | `endpoints` | location → host, name → URL |
//! | `auth` | where the bearer token comes from |
//! | `classify` | status, headers and body → [`Reply`], pure |
//! | `operation_json` | the JSON of an operation |
//! | `error_envelope` | the JSON of an error |
//! | `retry_delay` | how long a service asks callers to wait |
//! | `causes` | the causes of an error, for people |
//! | `text` | the texts of others, made fit for people |
//! | `tests` | the client against a server |
//!
//! Redirects are never followed, and a bearer token goes to no host that settings do not name.
//!
//! [`Reply`]: crate::cancellation::Reply

mod auth;
mod body;
mod call_error;
mod causes;
mod classify;
mod client;
mod endpoints;
mod error_envelope;
mod http;
mod operation_json;
mod operations;
mod retry_delay;
mod reuse;
mod shortage;
#[cfg(test)]
mod tests;
mod text;
mod tls;

pub use classify::{Call, reply as classify};
pub use client::{Client, ClientError};
pub use operations::{CallSent, Operations, ServingEndpoint, ToldTime};
pub use tls::TlsError;
