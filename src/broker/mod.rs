//! RabbitMQ: the only user of lapin.
//!
//! A [`Session`] is two connections, one to consume and one to publish, with everything on them. Nothing in it
//! recovers: the first fault ends it for all its parts with one cause ([`SessionEnd`]), and whoever owns it drops it and
//! opens the next. Acknowledging a [`Delivery`] takes a [`Confirmed`], which only a [`Publisher`] makes, from the
//! broker's confirm of a persistent message that reached a queue.
//!
//! | file | subject |
//! |---|---|
//! | `session` | opening, closing, and what ends a session |
//! | `address`, `dial`, `connection` | where the broker is; the first of its addresses that answers; a connection that can always be cut |
//! | `names`, `topology_item`, `topology`, `inspection` | what things are called; declaring them or verifying them; looking without touching |
//! | `remedy` | what a refused declaration means, and what to do |
//! | `upkeep` | looking after queues and exchanges while a session lasts |
//! | `consumers`, `delivery`, `content` | deliveries from both queues, their answers, their contents |
//! | `publisher`, `outbound`, `confirms` | publishing; what goes onto the wire; which publishes are safe |
//! | `replies` | direct replies, kept apart: a bad address makes the broker close the connection |
//! | `io_runtime` | what lapin needs when a connection ends, started in time |
//! | `wait_levels` | which wait queue |
//! | `event_subscription` | watching events, for the command line |
//! | `error`, `session_end` | faults, and the end of a session |

mod address;
mod confirms;
mod connection;
mod consumers;
mod content;
mod delivery;
mod dial;
mod error;
mod event_subscription;
mod inspection;
mod io_runtime;
mod names;
mod outbound;
mod publisher;
mod remedy;
mod replies;
mod session;
mod session_end;
mod topology;
mod topology_item;
mod upkeep;
mod wait_levels;

pub use confirms::Confirmed;
pub use connection::Role;
pub use content::Content;
pub use delivery::{Delivery, Source};
pub use error::BrokerError;
pub use event_subscription::EventSubscription;
pub use inspection::{Finding, Inspection, Status, inspect};
pub use io_runtime::start_io_runtime;
pub use names::Target;
pub use publisher::{PublishError, Publisher};
pub use session::Session;
pub use session_end::SessionEnd;
pub use wait_levels::{WaitLevel, WaitLevels};
