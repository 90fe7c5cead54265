//! Tests against real parts: a RabbitMQ node, the binary as a process, HTTP over sockets.
//!
//! `harness` tests what the others stand on; `broker_*` test the library's broker side. The others are the worker's
//! acceptance tests: each has a [`test_env`] of its own (queues, a simulated API, workers), and says what upstream gets
//! for what it asked. `cargo test --test integration NAME` runs some of them, on a private node that it starts itself.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "shared with tests/chaos, which needs more of it")]
mod support;

#[path = "../support/rust_source.rs"]
#[expect(dead_code, reason = "shared with tests/layers, which needs more of it")]
mod rust_source;

mod event;
mod google_stub;
mod mailbox;
mod test_env;
mod wire;

mod broker_delivery;
mod broker_publisher;
mod broker_session;
mod broker_setup;
mod broker_topology;
mod clock;
mod command_line;
mod credentials;
mod dead_letters;
mod decision_table;
mod delivery_counts;
mod descriptors;
mod dialling;
mod doctor;
mod endpoints;
mod endurance;
mod hanging_operations;
mod harness;
mod hostile_names;
mod hostile_servers;
mod http_versions;
mod logs;
mod messages;
mod metrics;
mod misconfiguration;
mod odd_properties;
mod pacing;
mod pacing_env;
mod parts_deleted;
mod poison;
mod prometheus;
mod readiness;
mod refusals;
mod reload;
mod remedies;
mod rotation;
mod status;
mod unsettled;
mod unusable;
mod worker_faults;
mod worker_flow;
