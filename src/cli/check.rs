use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use url::{Host, Url};

use super::arguments::Check;
use super::canary::Canary;
use super::exit::Exit;
use super::limits::OpenFiles;
use super::named_files::{NamedFile, named_files};
use super::startup::runtime;
use crate::broker::rabbitmq::{Diagnosis, Finding, Inspection, Severity, Status, examine, inspect};
use crate::cancellation::{Failure, FailureKind, Reply};
use crate::message::{NamePatterns, OperationName};
use crate::operations_api::{Call, CallSent, Client, Operations as _};
use crate::settings::{Amqp, Api, CredentialsKind, Effective, Loaded, Settings};
use crate::worker::now;

/// RabbitMQ's `consumer_timeout` where nobody has set it.
const USUAL_CONSUMER_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// A difference that a worker corrects, and that is worth a word.
const MAX_DIFFERENCE: Duration = Duration::from_secs(5);

const NO_SUCH_LOCATION: &str = "failed to use --location: no pattern of api.names has such a location";

/// `check`: the settings with their sources and, online, everything that they point to. Changes nothing, but that --end-to-end
/// publishes a request.
pub(super) fn run(command: &Check) -> anyhow::Result<Exit> {
    let loaded = command.settings.load(&[]).context("failed to check the settings")?;
    let mut report = Report::default();
    report.settings(&loaded);
    let management = command.management.as_ref().map(management_url).transpose()?;
    if command.online {
        let settings = &loaded.settings;
        runtime(1).context("failed to start the runtime")?.block_on(async {
            report.broker(settings).await;
            if let Some(url) = &management {
                report.management(settings, url).await;
            }
            report.api(settings, command.location.as_deref()).await?;
            if command.end_to_end {
                report.end_to_end(settings, command.location.as_deref()).await?;
            }
            anyhow::Ok(())
        })?;
    }
    report.print(command.json)
}

/// Never quotes what it refuses: that may hold a password.
fn management_url(text: &SecretString) -> anyhow::Result<Url> {
    let url = Url::parse(text.expose_secret()).ok();
    let is_whole = |url: &Url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none() && url.fragment().is_none()
    };
    url.filter(is_whole)
        .context("failed to use --management: it must be of the form http://user:password@host:15672, or https")
}

/// Whether whoever listens on the network to another machine would learn the password.
fn shows_password(url: &Url) -> bool {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !is_here
}

/// What was found, and the worst of it.
#[derive(Default)]
struct Report {
    settings: Vec<Effective>,
    found: Vec<Diagnosis>,
    broker_wrong: bool,
    other_wrong: bool,
}

impl Report {
    fn settings(&mut self, loaded: &Loaded) {
        let from_file = loaded.settings.amqp.uri_file.is_some();
        self.settings = loaded.effective.clone();
        for setting in self.settings.iter_mut().filter(|setting| from_file && setting.key == "amqp.uri") {
            setting.value = "(not used: amqp.uri_file goes before it)".to_owned();
        }
        for warning in &loaded.warnings {
            self.warn("settings", warning.clone());
        }
        match OpenFiles::of(&loaded.settings) {
            Some(files) if !files.suffice() => self.warn("open files", files.to_string()),
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
            self.warn(
                "settings",
                format!(
                    "the password for {uri} goes over the network as it is, since amqp:// has no TLS: use amqps://"
                ),
            );
        }
        for warning in named_files(settings).into_iter().filter_map(|file| file.warning()) {
            self.warn("settings", warning);
        }
    }

    /// Opens every file that a setting names, and reads the certificates.
    fn files(&mut self, settings: &Settings) {
        let problems: Vec<String> = named_files(settings).iter().filter_map(NamedFile::problem).collect();
        for problem in &problems {
            self.bad("files", problem);
        }
        if let (true, Err(error)) = (problems.is_empty(), Client::new(&settings.api)) {
            self.bad_api(&error.to_string());
        }
    }

    /// What the settings leave to others.
    fn topology_notes(&mut self, amqp: &Amqp) {
        if *amqp.unsettled_limit >= USUAL_CONSUMER_TIMEOUT {
            self.warn("settings", format!(
                "amqp.unsettled_limit is {}, and RabbitMQ takes back what is unacknowledged for longer than its consumer_timeout, 30m unless it is set: choose less, or raise that",
                humantime::format_duration(*amqp.unsettled_limit)
            ));
        }
        if let Some(queue) = &amqp.topology.external.requests_queue {
            self.warn("settings", format!(
                "queue {queue:?} keeps its own dead-lettering: what it expires, drops, or redelivers too often does not reach the quarantine and gets no answer; let it dead-letter to exchange {:?} with the key \"request\", at least once, with a delivery limit of 5",
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

    async fn management(&mut self, settings: &Settings, url: &Url) {
        if shows_password(url) {
            let host = url.host_str().unwrap_or_default();
            self.warn("management", format!("the password for {host} goes over the network as it is: use https"));
        }
        match examine(&settings.amqp, url).await {
            Ok(found) => {
                self.other_wrong |= found.iter().any(|diagnosis| diagnosis.severity == Severity::Fail);
                self.found.extend(found);
            }
            Err(error) => self.bad("management", &format!("failed to {error}")),
        }
    }

    /// Broker, worker, API, event: whatever the answer is, it proves the whole way.
    async fn end_to_end(&mut self, settings: &Settings, location: Option<&str>) -> anyhow::Result<()> {
        let (name, _) = made_up_operation(&settings.api.names, location).context(NO_SUCH_LOCATION)?;
        match Canary::new(name).fly(settings).await {
            Ok(told) => self.good("end to end", &told),
            Err(problem) => self.bad("end to end", &format!("{problem:#}")),
        }
        Ok(())
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
                Ok(Status::Queue { believed: false, .. }) => self.warn("topology", format!(
                    "{what} is there, but does not answer: it has no leader, or may not be read; bring its nodes back, or grant the permission to read"
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
        let (name, location) = made_up_operation(&settings.api.names, location).context(NO_SUCH_LOCATION)?;
        self.credentials(&client, &name).await;
        let shown = location.map_or_else(|| "no location".to_owned(), |location| format!("location {location}"));
        let sent = CallSent::default();
        let reply = client.call(Call::Get, &name, &sent).await;
        if let Some(told) = sent.told_time() {
            self.clock(told.time - (now() - told.arrived.elapsed()));
        }
        match reply {
            Reply::Failure(failure) | Reply::NotMade(failure) => self.api_failure(&failure, &shown, &settings.api),
            Reply::Operation(_) | Reply::Accepted => {
                self.good("api", &format!("{shown}: the endpoint serves the API"));
            }
            Reply::Undecodable { detail } => self.bad_api(&format!("{shown}: {detail}")),
        }
        Ok(())
    }

    /// Deadlines go by the API's clock, and logs by this machine's.
    fn clock(&mut self, ahead: time::Duration) {
        let seconds = ahead.whole_seconds();
        if ahead.unsigned_abs() > MAX_DIFFERENCE {
            self.warn(
                "clock",
                format!("the API's is {seconds} s from this machine's: deadlines go by the API's, logs by this one, so set it"),
            );
        } else {
            self.good("clock", &format!("the API's is {seconds} s from this machine's"));
        }
    }

    /// Who the worker would be.
    async fn credentials(&mut self, client: &Client, name: &OperationName) {
        match client.caller(name).await {
            Ok(who) => self.good("credentials", &who),
            Err(problem) => {
                self.bad("credentials", &problem.to_string());
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

    fn good(&mut self, part: &'static str, what: &str) {
        self.found.push(Diagnosis { severity: Severity::Good, part, what: what.to_owned() });
    }

    fn warn(&mut self, part: &'static str, what: String) {
        self.found.push(Diagnosis { severity: Severity::Warn, part, what });
    }

    fn bad(&mut self, part: &'static str, what: &str) {
        self.other_wrong = true;
        self.found.push(Diagnosis { severity: Severity::Fail, part, what: what.to_owned() });
    }

    fn bad_broker(&mut self, part: &'static str, what: &str) {
        self.bad(part, what);
        self.broker_wrong = true;
    }

    fn bad_api(&mut self, what: &str) {
        self.bad("api", what);
    }

    fn print(self, as_json: bool) -> anyhow::Result<Exit> {
        let exit = match (self.broker_wrong, self.other_wrong) {
            (true, _) => Exit::Broker,
            (false, true) => Exit::Failure,
            (false, false) => Exit::Success,
        };
        let mut out = std::io::stdout().lock();
        match out.write_all(if as_json { self.json(exit) } else { self.text() }.as_bytes()) {
            // Whoever reads it has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            printed => printed.context("failed to print the report")?,
        }
        Ok(exit)
    }

    fn text(&self) -> String {
        let settings =
            self.settings.iter().map(|Effective { key, value, source }| format!("     {key} = {value}  ({source})\n"));
        let found = self.found.iter().map(|Diagnosis { severity, part, what }| {
            let word = match severity {
                Severity::Good => "ok  ",
                Severity::Warn => "WARN",
                Severity::Fail => "FAIL",
            };
            format!("{word} {part}: {what}\n")
        });
        settings.chain(found).collect()
    }

    fn json(&self, exit: Exit) -> String {
        let settings = self
            .settings
            .iter()
            .map(|Effective { key, value, source }| json!({ "key": key, "value": value, "source": source }));
        let found = self.found.iter().map(
            |Diagnosis { severity, part, what }| json!({ "severity": severity.as_str(), "part": part, "what": what }),
        );
        let (settings, found): (Vec<_>, Vec<_>) = (settings.collect(), found.collect());
        json!({ "ok": exit == Exit::Success, "findings": found, "settings": settings }).to_string() + "\n"
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
