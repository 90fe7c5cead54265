use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use secrecy::SecretString;

use super::dead::Dead;
use super::settings_arguments::SettingsArguments;

/// Cancels long-running operations on request from a message queue, and answers each request with one result event.
#[derive(Debug, Parser)]
#[command(version, about, disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Work: consume requests until SIGTERM or SIGINT
    Run(Run),
    /// Cancel operations right now, without a broker; one JSON line for each outcome
    Cancel(Cancel),
    /// Publish requests as an upstream service would
    Request(Request),
    /// Check the settings and, with --online, everything they point to
    Check(Check),
    /// Look after the dead queue
    Dead(Dead),
    /// What the queues hold, what is wrong with them, and what the worker on this machine says
    Status(Status),
    /// Ask the worker on this machine whether it lives, or is ready; 0 if it is
    Probe(Probe),
    /// Serve a scripted Operations API for demos and tests
    Simulate(Simulate),
}

#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    pub(super) settings: SettingsArguments,
    /// What this worker is called in logs, connections and dead letters [default: host name and process id]
    #[arg(long)]
    pub(super) name: Option<String>,
}

/// Operations by name, as arguments or from a file.
#[derive(Args, Debug)]
pub(super) struct Names {
    /// Operations, such as projects/*/locations/*/operations/*; the setting api.names says what they are called
    #[arg(value_name = "NAME", required_unless_present = "from_file")]
    pub(super) names: Vec<String>,
    /// A file with one name a line ("-": standard input); empty lines and lines that begin with # are passed over
    #[arg(long, value_name = "FILE")]
    pub(super) from_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct Cancel {
    #[command(flatten)]
    pub(super) settings: SettingsArguments,
    #[command(flatten)]
    pub(super) names: Names,
    /// Endpoint for every location, such as https://dialogflow.googleapis.com [default: by location]
    #[arg(long, value_name = "URL")]
    pub(super) endpoint: Option<String>,
    /// How long to follow each operation, such as 10m [default: worker.default_timeout]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) timeout: Option<std::time::Duration>,
    /// Operations pursued at once
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(super) concurrency: u16,
}

#[derive(Args, Debug)]
pub(super) struct Request {
    #[command(flatten)]
    pub(super) settings: SettingsArguments,
    #[command(flatten)]
    pub(super) names: Names,
    /// Identity of the request; only with one name [default: the name]
    #[arg(long, value_name = "ID")]
    pub(super) request_id: Option<String>,
    /// How long the worker is to follow the operation, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) timeout: Option<std::time::Duration>,
    /// Why; handed on to the result event
    #[arg(long)]
    pub(super) reason: Option<String>,
    /// Who; handed on to the result event
    #[arg(long)]
    pub(super) requested_by: Option<String>,
    /// A JSON object, or @FILE that holds one; handed back untouched in the result event
    #[arg(long, value_name = "JSON")]
    pub(super) context: Option<String>,
    /// Wait for the result events and print them, one JSON line each
    #[arg(long)]
    pub(super) wait: bool,
    /// With --wait: give up after this long
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub(super) wait_for: std::time::Duration,
}

#[derive(Args, Debug)]
pub(super) struct Check {
    #[command(flatten)]
    pub(super) settings: SettingsArguments,
    /// Also connect: broker, topology, endpoint, credentials
    #[arg(long)]
    pub(super) online: bool,
    /// With --online: also ask RabbitMQ's management API, read-only, such as http://rabbit.example.com:15672; user and password in the URL, else those of amqp.uri
    #[arg(long, value_name = "URL", requires = "online", value_parser = unseen)]
    pub(super) management: Option<SecretString>,
    /// With --online: publish one request for an operation that does not exist, and wait for its answer
    #[arg(long, requires = "online")]
    pub(super) end_to_end: bool,
    /// JSON instead of text for people
    #[arg(long)]
    pub(super) json: bool,
    /// With --online: the location whose endpoint is asked, such as us-central1 [default: none, or global where all names have one]
    #[arg(long)]
    pub(super) location: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) settings: SettingsArguments,
    /// JSON instead of text for people
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Probe {
    #[command(flatten)]
    pub(super) settings: SettingsArguments,
    /// What is asked
    #[arg(value_name = "live|ready", hide_possible_values = true)]
    pub(super) kind: ProbeKind,
    /// Where the worker's admin listener is [default: the setting admin.listen]
    #[arg(long)]
    pub(super) address: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ProbeKind {
    /// Whether the process turns: restart it if it does not
    Live,
    /// Whether it can do its work now
    Ready,
}

/// What may hold a password: clap would quote what a parser refuses.
#[expect(clippy::unnecessary_wraps, reason = "the form that clap asks for")]
fn unseen(text: &str) -> Result<SecretString, Infallible> {
    Ok(SecretString::from(text))
}

#[derive(Args, Debug)]
pub(super) struct Simulate {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8086", value_name = "ADDRESS")]
    pub(super) listen: SocketAddr,
}
