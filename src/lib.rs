#![doc = include_str!("README.md")]

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
