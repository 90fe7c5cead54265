use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;

use super::arguments::Check;
use super::exit::Exit;
use super::limits::OpenFiles;
use super::named_files::{NamedFile, named_files};
use super::startup::runtime;
use crate::broker::rabbitmq::{Finding, Inspection, Status, inspect};
use crate::cancellation::{Failure, FailureKind, Reply};
use crate::message::{NamePatterns, OperationName};
use crate::operations_api::{Client, Operations as _};
use crate::settings::{Amqp, Api, CredentialsKind, Loaded, Settings};

/// RabbitMQ's `consumer_timeout` where nobody has set it.
const USUAL_CONSUMER_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// `check`: the settings with their sources and, online, everything that they point to. Changes nothing.
pub(super) fn run(command: &Check) -> anyhow::Result<Exit> {
    let loaded = command.settings.load(&[]).context("failed to check the settings")?;
    let mut report = Report::default();
    report.settings(&loaded);
    if command.online {
        let settings = &loaded.settings;
        runtime(1).context("failed to start the runtime")?.block_on(async {
            report.broker(settings).await;
            report.api(settings, command.location.as_deref()).await
        })?;
    }
    report.print().context("failed to print the report")
}

/// Lines as they will be printed, and the worst that was found.
#[derive(Default)]
struct Report {
    lines: Vec<String>,
    broker_wrong: bool,
    api_wrong: bool,
}

impl Report {
    fn settings(&mut self, loaded: &Loaded) {
        let from_file = loaded.settings.amqp.uri_file.is_some();
        for setting in &loaded.effective {
            let is_unused = from_file && setting.key == "amqp.uri";
            let value = if is_unused { "(not used: amqp.uri_file goes before it)" } else { &setting.value };
            self.lines.push(format!("     {} = {value}  ({})", setting.key, setting.source));
        }
        for warning in &loaded.warnings {
            self.lines.push(format!("WARN settings: {warning}"));
        }
        match OpenFiles::of(&loaded.settings) {
            Some(files) if !files.suffice() => self.lines.push(format!("WARN open files: {files}")),
            Some(files) => self.good("open files", &files.to_string()),
            None => {}
        }
        self.memory(&loaded.settings);
        self.topology_notes(&loaded.settings.amqp);
        self.secrets(&loaded.settings);
        self.files(&loaded.settings);
        self.good("settings", "valid");
    }

    /// What messages in hand may take.
    fn memory(&mut self, settings: &Settings) {
        let (prefetch, limit) = (settings.amqp.prefetch, settings.worker.request_limit);
        let most = ByteSize::b(2 * u64::from(prefetch) * limit.as_u64());
        self.good(
            "memory",
            &format!(
                "what is in hand takes at most {most}: 2 queues of amqp.prefetch ({prefetch}) messages of worker.request_limit ({limit}); large ones take half as much again while they are published"
            ),
        );
    }

    /// What others could read.
    fn secrets(&mut self, settings: &Settings) {
        for uri in settings.amqp.uris.last().iter().filter(|uri| uri.shows_password()) {
            self.lines.push(format!(
                "WARN settings: the password for {uri} goes over the network as it is, since amqp:// has no TLS: use amqps://"
            ));
        }
        let warnings = named_files(settings).into_iter().filter_map(|file| file.warning());
        self.lines.extend(warnings.map(|warning| format!("WARN settings: {warning}")));
    }

    /// Opens every file that a setting names, and reads the certificates.
    fn files(&mut self, settings: &Settings) {
        let problems: Vec<String> = named_files(settings).iter().filter_map(NamedFile::problem).collect();
        for problem in &problems {
            self.api_wrong = true;
            self.lines.push(format!("FAIL files: {problem}"));
        }
        if let (true, Err(error)) = (problems.is_empty(), Client::new(&settings.api)) {
            self.bad_api(&error.to_string());
        }
    }

    /// What the settings leave to others.
    fn topology_notes(&mut self, amqp: &Amqp) {
        if *amqp.unsettled_limit >= USUAL_CONSUMER_TIMEOUT {
            self.lines.push(format!(
                "WARN settings: amqp.unsettled_limit is {}, and RabbitMQ takes back what is unacknowledged for longer than its consumer_timeout, 30m unless it is set: choose less, or raise that",
                humantime::format_duration(*amqp.unsettled_limit)
            ));
        }
        if let Some(queue) = &amqp.topology.external.requests_queue {
            self.lines.push(format!(
                "WARN settings: queue {queue:?} keeps its own dead-lettering: what it expires, drops, or redelivers too often does not reach the quarantine and gets no answer; let it dead-letter to exchange {:?} with the key \"request\", at least once, with a delivery limit of 5",
                format!("{}.quarantine", amqp.topology.prefix)
            ));
        }
    }

    async fn broker(&mut self, settings: &Settings) {
        match inspect(&settings.amqp, "check").await {
            Ok(inspection) => self.inspection(&inspection),
            Err(error) => self.bad_broker("broker", &error.to_string()),
        }
    }

    fn inspection(&mut self, inspection: &Inspection) {
        for (address, result) in &inspection.nodes {
            match result {
                Ok(()) => self.good("broker", &format!("{address}: connected and logged in")),
                Err(error) => self.bad_broker("broker", &error.to_string()),
            }
        }
        for Finding { what, status, .. } in &inspection.topology {
            match status {
                Ok(Status::Exchange) => self.good("topology", &format!("{what} is there")),
                Ok(Status::Queue { believed: false, .. }) => self.lines.push(format!(
                    "WARN topology: {what} is there, but does not answer: it has no leader, or may not be read; bring its nodes back, or grant the permission to read"
                )),
                Ok(Status::Queue { messages, consumers, .. }) => {
                    self.good("topology", &format!("{what} is there: {messages} ready, {consumers} consumers"));
                }
                Ok(Status::ToBeDeclared) => {
                    self.good("topology", &format!("{what} is not there yet; `cancel-worker run` will declare it"));
                }
                Err(error) => self.bad_broker("topology", &error.to_string()),
            }
        }
    }

    /// Asks for an operation that does not exist: every answer in Google's form tells that the endpoint serves the API.
    async fn api(&mut self, settings: &Settings, location: Option<&str>) -> anyhow::Result<()> {
        // Why there is none stands in the report already.
        let Ok(client) = Client::new(&settings.api) else { return Ok(()) };
        let (name, location) = made_up_operation(&settings.api.names, location)
            .context("failed to use --location: no pattern of api.names has such a location")?;
        self.credentials(&client, &name).await;
        let shown = location.map_or_else(|| "no location".to_owned(), |location| format!("location {location}"));
        match client.get(&name).await {
            Reply::Failure(failure) | Reply::NotMade(failure) => self.api_failure(&failure, &shown, &settings.api),
            Reply::Operation(_) | Reply::Accepted => {
                self.good("api", &format!("{shown}: the endpoint serves the API"));
            }
            Reply::Undecodable { detail } => self.bad_api(&format!("{shown}: {detail}")),
        }
        Ok(())
    }

    /// Who the worker would be.
    async fn credentials(&mut self, client: &Client, name: &OperationName) {
        match client.caller(name).await {
            Ok(who) => self.good("credentials", &who),
            Err(problem) => {
                self.api_wrong = true;
                self.lines.push(format!("FAIL credentials: {problem}"));
            }
        }
    }

    fn api_failure(&mut self, failure: &Failure, shown: &str, api: &Api) {
        let message = &failure.error.message;
        match failure.kind {
            // What Google answers for an operation that does not exist, or that the account may not see.
            FailureKind::NotFound | FailureKind::Rejected | FailureKind::FailedPrecondition => {
                self.good("api", &format!("{shown}: the endpoint serves the API ({message})"));
            }
            FailureKind::PermissionDenied => {
                self.good(
                    "api",
                    &format!("{shown}: the endpoint serves the API; for a made-up project it says: {message}"),
                );
            }
            FailureKind::Unauthenticated if api.credentials.kind == CredentialsKind::None => {
                self.bad_api(&format!("{shown}: {message}; the API wants credentials: set api.credentials.kind"));
            }
            _ => self.bad_api(&format!("{shown}: {message}")),
        }
    }

    fn good(&mut self, part: &str, what: &str) {
        self.lines.push(format!("ok   {part}: {what}"));
    }

    fn bad_broker(&mut self, part: &str, what: &str) {
        self.broker_wrong = true;
        self.lines.push(format!("FAIL {part}: {what}"));
    }

    fn bad_api(&mut self, what: &str) {
        self.api_wrong = true;
        self.lines.push(format!("FAIL api: {what}"));
    }

    fn print(self) -> std::io::Result<Exit> {
        let mut out = std::io::stdout().lock();
        match self.lines.iter().try_for_each(|line| writeln!(out, "{line}")) {
            // Whoever reads it has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            printed => printed?,
        }
        Ok(if self.broker_wrong {
            Exit::Broker
        } else if self.api_wrong {
            Exit::Failure
        } else {
            Exit::Success
        })
    }
}

/// Without a location asked for: one that has none or, where all names have one, `global`.
fn made_up_operation<'l>(
    patterns: &NamePatterns,
    location: Option<&'l str>,
) -> Option<(OperationName, Option<&'l str>)> {
    let locations = if location.is_some() { [location; 2] } else { [None, Some("global")] };
    let sample_name = |location| Some((patterns.sample_name(location, "cancel-worker-check")?, location));
    locations.into_iter().find_map(sample_name)
}
