//! The broker as the worker needs it: a port, and below it the adapter for RabbitMQ.
//!
//! The port is four traits. A [`Broker`] opens a [`Session`], which gives [`Delivery`]s and a [`Publisher`]. Acknowledging a
//! delivery takes a proof that what it led to is safe. The proof is a type of the adapter's own: only its publisher makes
//! one, from the broker's confirm.
//!
//! | file | subject |
//! |---|---|
//! | `port` | [`Broker`], [`Session`], [`Delivery`], [`Publisher`] |
//! | `error` | [`BrokerError`]: why there is no session, or no longer, and what to do |
//! | `publish_error` | [`PublishError`]: why a message is not known to be safe |
//! | `role` | [`Role`]: what a connection is for |
//! | `session_kind` | [`SessionKind`]: work, or the quarantine |
//! | `delivery_kind`, `target` | [`DeliveryKind`]: what a delivery is; [`Target`]: where a message goes |
//! | `wait_levels` | [`WaitLevels`]: which wait queue |
//! | `rabbitmq/` | [the adapter](rabbitmq): everything that knows lapin |

pub mod rabbitmq;

mod delivery_kind;
mod error;
mod port;
mod publish_error;
mod role;
mod session_kind;
mod target;
mod wait_levels;

pub use delivery_kind::DeliveryKind;
pub use error::BrokerError;
pub use port::{Broker, Delivery, Publisher, Session};
pub use publish_error::PublishError;
pub use role::Role;
pub use session_kind::SessionKind;
pub use target::Target;
pub use wait_levels::{WaitLevel, WaitLevels};
