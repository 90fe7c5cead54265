//! The worker: takes deliveries, pursues their operations, publishes what came of it, and only then acknowledges.
//!
//! ```text
//! run ─▶ session ─▶ for each delivery: handle ─▶ Disposition ─▶ settle ─▶ ack
//! ```
//!
//! - [`run`] builds sessions for ever, one after the other, until it is told to stop.
//! - `session` takes deliveries of one session and has each handled and settled in a task of its own.
//! - `in_hand` finishes what it holds when the queue that it came from is gone.
//! - `handle` decides what becomes of a delivery; it talks to the Operations API, never to the broker.
//! - `settle` does it; nothing else publishes or acknowledges.
//! - [`Gatekeeper`] lets calls through: circuit breaker and rate limit.
//! - [`Broker`] and its kin are what the worker needs of a broker: RabbitMQ, or a simulated one.
//! - [`pursue`] makes the calls and waits that `cancellation` decides on. The `cancel` command uses it as well.

mod broker_link;
mod clock;
mod counters;
mod disposition;
mod gatekeeper;
mod handle;
mod in_hand;
mod patience;
mod pursue;
mod run;
mod session;
mod settle;

pub use broker_link::{Broker, Delivery, Publisher, Session};
pub use clock::{Clock, now};
pub use gatekeeper::Gatekeeper;
pub use patience::{Cause, Patience, Pause, Unlimited};
pub use pursue::pursue;
pub use run::{RunError, policy, run, run_on};
