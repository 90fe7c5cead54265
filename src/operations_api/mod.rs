//! The client of the Operations API: `POST …:cancel` and `GET …`, each answered with one [`Reply`].
//!
//! The only user of reqwest. Whatever the service, the network or a proxy does, a call ends within `api.call_timeout`
//! with a [`Reply`] that the decision table knows; there is no error beside it.
//!
//! | file | what |
//! |---|---|
//! | `client` | one call: deadline, connection, failure |
//! | `body` | bounded reading |
//! | `reuse` | was the connection a new one? |
//! | `shortage` | what the system refuses before a call is made |
//! | `endpoints` | location → host, name → URL |
//! | `tls` | certificates and keys from files |
//! | `auth` | where the bearer token comes from |
//! | `classify` | status, headers and body → [`Reply`], pure |
//! | `wire` | the JSON and header forms that answers are written in |
//!
//! Redirects are never followed, and a bearer token goes to no host that settings do not name.
//!
//! [`Reply`]: crate::cancellation::Reply

mod auth;
mod body;
mod classify;
mod client;
mod endpoints;
mod reuse;
mod shortage;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

pub use classify::{Call, reply as classify};
pub use client::{Client, ClientError, Operations};
pub use tls::TlsError;
