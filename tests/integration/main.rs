//! Tests against real parts: a RabbitMQ node, the binary as a process, HTTP over sockets.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

#[path = "../support/mod.rs"]
mod support;

mod broker_delivery;
mod broker_publisher;
mod broker_session;
mod broker_setup;
mod broker_topology;
mod harness;
mod pacing;
mod pacing_scene;
