//! What the integration tests stand on: a real broker, the real binary as a process, and a plain AMQP client.
//!
//! Helpers panic where something is wrong: a test ends where it fails.

mod amqp;
mod amqp_proxy;
mod broker;
mod certificates;
mod dead_address;
mod http;
mod names;
mod port;
mod process;
mod simulated;
mod tls_server;

pub use amqp::{Amqp, persistent};
pub use amqp_proxy::AmqpProxy;
pub use broker::Broker;
pub use certificates::Certificates;
pub use dead_address::DeadAddress;
pub use http::{Act, RawServer, Request, get, get_json};
pub use names::{event_id, key_of, keys_of, operation, request_key, variable};
pub use port::free_port;
pub use process::{Process, worker_command};
pub use simulated::SimulatedApi;
pub use tls_server::{ConnectProxy, TlsServer};
