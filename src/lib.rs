//! A worker that cancels long-running operations on request from a message queue, and answers
//! each request with one truthful result event.
//!
//! An upstream service publishes "cancel this operation" to RabbitMQ. The worker calls
//! `POST {endpoint}/{version}/{name}:cancel`, follows the operation until it is done, and publishes
//! **cancelled**, **completed** (it finished all the same), **unimplemented**, or, where none of the
//! three can be known, **failed** with the reason. No accepted request is lost or left without an
//! answer, and no answer is a guess.
//!
//! # The flow
//!
//! ```text
//! upstream ─▶ (requests) ─▶ [requests] ─▶ worker ─ POST …:cancel ─▶ Operations API
//!                                           │  ╰─── GET … ─────────▶
//!                        not done yet, or   │
//!                        API in trouble     ├─▶ (wait) ─▶ [wait.1s] … ─ TTL ─▶ (followups) ─▶ [followups] ─▶ worker
//!                        final              ├─▶ (events)  cancelled | completed | unimplemented | failed ─▶ [results]
//!                        unusable, failed   └─▶ (dead) ─▶ [dead]
//!                        and only after the confirm of what it published: ack
//! ```
//!
//! `( )` exchange, `[ ]` queue. The worker keeps no state of its own: what has to wait, waits in the broker.
//!
//! # The layers
//!
//! Imports go downwards only; modules of one row never import each other, but for `cancellation`, which takes its
//! intervals from `pacing` and the names of codes from `google_rpc`, and `settings`, which read the log format of
//! `telemetry`. `tests/layers` checks it.
//!
//! | layer | modules | what |
//! |---|---|---|
//! | 6 | `main`, [`cli`] | the commands |
//! | 5 | [`worker`] | handle, settle, session, shutdown |
//! | 4 | [`operations_api`], [`broker`], [`simulator`], [`admin`] | the only users of reqwest, of lapin ([`broker::rabbitmq`], behind the port), of axum (the last two) |
//! | 3 | [`settings`], [`telemetry`] | settings as validated types; logs, readiness |
//! | 2 | [`message`] | what is read from and written to queues |
//! | 1 | [`cancellation`], [`pacing`], [`google_rpc`] | the decisions, without I/O; the codes that errors are told by |

pub mod admin;
pub mod broker;
pub mod cancellation;
pub mod cli;
pub mod google_rpc;
pub mod message;
pub mod operations_api;
pub mod pacing;
pub mod settings;
pub mod simulator;
pub mod telemetry;
pub mod worker;
