//! RabbitMQ: the adapter behind the port of [`broker`](super), and the only user of lapin.
//!
//! A [`Session`] is two connections, one to consume and one to publish, with everything on them. Nothing in it
//! recovers: the first fault ends it for all its parts with one cause ([`SessionEnd`]), and its owner drops it and opens the
//! next. Acknowledging a [`Delivery`] takes a [`Confirmed`], which only a [`Publisher`] makes, from the broker's confirm of
//! a persistent message that reached a queue.
//!
//! | file | subject |
//! |---|---|
//! | `broker` | [`RabbitMq`]: opens one session after the other |
//! | `session`, `session_end` | opening and closing a session; its one end, shared by all its parts |
//! | `address`, `dial`, `connection` | where the broker is; the first of its addresses that answers; a connection that can always be cut |
//! | `connection_pair` | one connection to consume and one to publish, with one end |
//! | `connection_watch` | ends the session with its connection |
//! | `names`, `topology_item`, `topology`, `inspection` | what things are called; declaring them or verifying them; looking without touching |
//! | `management/` | RabbitMQ's management API, for the doctor |
//! | `refusal`, `remedy` | what lapin's errors mean; what a refused declaration means, and what to do |
//! | `upkeep` | looking after queues and exchanges while a session lasts |
//! | `consumers`, `delivery`, `content` | deliveries from both queues, their answers, their contents |
//! | `publisher`, `outbound`, `confirms/` | publishing; what goes onto the wire; which publishes are safe |
//! | `replies` | direct replies, kept apart: a bad address makes the broker close the connection |
//! | `dead_queue` | reading dead letters, for the command line |
//! | `event_subscription` | watching events, for the command line |
//! | `io_runtime` | what lapin needs when a connection ends, started in time |

mod address;
mod broker;
mod confirms;
mod connection;
mod connection_pair;
mod connection_watch;
mod consumers;
mod content;
mod dead_queue;
mod delivery;
mod dial;
mod event_subscription;
mod inspection;
mod io_runtime;
mod management;
mod names;
mod outbound;
mod publisher;
mod refusal;
mod remedy;
mod replies;
mod session;
mod session_end;
mod topology;
mod topology_item;
mod upkeep;

pub use broker::RabbitMq;
pub use confirms::Confirmed;
pub use content::Content;
pub use dead_queue::{DeadLetter, DeadQueue, LetterTag};
pub use delivery::Delivery;
pub use event_subscription::EventSubscription;
pub use inspection::{Finding, Inspection, MANY_RESULTS, Status, inspect};
pub use io_runtime::start_io_runtime;
pub use management::{Diagnosis, ManagementError, Severity, examine};
pub use publisher::Publisher;
pub use session::Session;
pub use session_end::SessionEnd;
