//! RabbitMQ: the only user of lapin.
//!
//! A [`Session`] is two connections, one to consume and one to publish, with everything on them. Nothing in it
//! recovers: the first fault ends it for all its parts with one cause ([`Over`]), and whoever owns it drops it and
//! opens the next. Acknowledging a [`Delivery`] takes a [`Confirmed`], which only a [`Publisher`] makes, from the
//! broker's confirm of a persistent message that reached a queue.
//!
//! | file | subject |
//! |---|---|
//! | `session` | opening, closing, and what ends a session |
//! | `address`, `dial`, `connection` | where the broker is; the first of its addresses that answers; a connection that can always be cut |
//! | `names`, `part`, `topology`, `inspection` | what things are called; declaring them or verifying them; looking without touching |
//! | `remedy` | what a refused declaration means, and what to do |
//! | `upkeep` | looking after queues and exchanges while a session lasts |
//! | `consumer`, `delivery`, `content` | deliveries from both queues, their answers, their contents |
//! | `publisher`, `outbound`, `ledger` | publishing; what goes onto the wire; which publishes are safe |
//! | `replies` | direct replies, kept apart: a bad address makes the broker close the connection |
//! | `io_runtime` | what lapin needs when a connection ends, started in time |
//! | `parking` | which wait queue |
//! | `tap` | watching events, for the command line |
//! | `error`, `over` | faults, and the end of a session |

mod address;
mod connection;
mod consumer;
mod content;
mod delivery;
mod dial;
mod error;
mod inspection;
mod io_runtime;
mod ledger;
mod names;
mod outbound;
mod over;
mod parking;
mod part;
mod publisher;
mod remedy;
mod replies;
mod session;
mod tap;
mod topology;
mod upkeep;

pub use connection::Role;
pub use content::Content;
pub use delivery::{Delivery, Source};
pub use error::BrokerError;
pub use inspection::{Finding, Inspection, Status, inspect};
pub use io_runtime::start_io_runtime;
pub use ledger::Confirmed;
pub use names::Target;
pub use over::Over;
pub use parking::{Ladder, Level};
pub use publisher::{PublishError, Publisher};
pub use session::Session;
pub use tap::EventTap;
