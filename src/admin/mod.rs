//! The admin listener: what a supervisor asks a worker over HTTP.
//!
//! | call | what |
//! |---|---|
//! | `GET /livez` | 200: the process runs. If it does not answer, restart it |
//! | `GET /readyz` | 200 `{"ready":true,"reasons":[]}`, or 503 with why the worker cannot do its work now |
//! | `GET /metrics` | 200: what the worker counts and measures, for Prometheus |
//!
//! A worker that is not ready recovers as soon as what it waits for is there: restarting it does not help.
//!
//! | file | subject |
//! |---|---|
//! | `server` | binds the address and answers the calls |
//! | `limited_listener` | few connections at once, and none for long |
//! | `descriptor_reserve` | file descriptors kept for connections |

mod descriptor_reserve;
mod limited_listener;
mod server;

pub use server::{Admin, AdminError};
