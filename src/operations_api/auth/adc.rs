use std::ffi::OsString;
use std::path::{Path, PathBuf};

use google_cloud_auth::build_errors::Error as BuildError;
use google_cloud_auth::credentials::service_account::AccessSpecifier;
use google_cloud_auth::credentials::{Credentials, external_account, impersonated, mds, service_account, user_account};
use serde_json::Value;
use url::Url;

use super::error::CredentialsError;
use super::redact::Redactor;
use crate::settings;

/// Where gcloud keeps what `gcloud auth application-default login` made, below the home folder.
const WELL_KNOWN: &str = ".config/gcloud/application_default_credentials.json";

/// The metadata server, unless `GCE_METADATA_HOST` says otherwise.
const METADATA_HOST: &str = "metadata.google.internal";

/// The fields of a credentials file that name a server which secrets are sent to.
const SERVERS: [&str; 3] = ["token_uri", "token_url", "service_account_impersonation_url"];

/// What is asked for, and where credentials may be found.
pub(super) struct AdcConfig {
    /// `api.credentials.file`.
    file: Option<PathBuf>,
    scopes: Vec<String>,
    quota_project: Option<String>,
    environment: Environment,
}

/// The variables that Google's libraries look at. Empty ones count as absent.
#[derive(Default)]
struct Environment {
    application_credentials: Option<OsString>,
    home: Option<OsString>,
    quota_project: Option<String>,
    metadata_host: Option<String>,
}

/// Where credentials were found.
enum Found {
    File { path: PathBuf, named_by: &'static str },
    MetadataServer,
}

/// Credentials of the library, and what there is to say of them.
pub(super) struct BuiltCredentials {
    pub credentials: Credentials,
    /// For people: the principal, and where it was found.
    pub who: String,
    /// For people, after a failure: what to do.
    pub advice: &'static str,
    pub redactor: Redactor,
}

impl AdcConfig {
    pub(super) fn new(settings: &settings::Credentials) -> Self {
        Self {
            file: settings.file.clone(),
            scopes: settings.scopes.clone(),
            quota_project: settings.quota_project.clone(),
            environment: Environment::read(),
        }
    }

    /// Finds credentials in Google's order and builds them. Reads files; within a runtime, which gets the task that
    /// keeps the token fresh.
    pub(super) fn build(&self) -> Result<BuiltCredentials, CredentialsError> {
        match self.find() {
            Found::MetadataServer => self.metadata_server(),
            Found::File { path, named_by } => {
                let text = std::fs::read(&path).map_err(|error| CredentialsError::Unreadable {
                    path: path.clone(),
                    named_by,
                    error: error.to_string(),
                })?;
                let unusable = |problem: String| CredentialsError::Unusable { path: path.clone(), named_by, problem };
                self.of_file(&path, &text).map_err(unusable)
            }
        }
    }

    /// Settings first, then as every library of Google's does: the variable, gcloud's file, the metadata server.
    fn find(&self) -> Found {
        if let Some(path) = &self.file {
            return Found::File { path: path.clone(), named_by: "api.credentials.file" };
        }
        if let Some(path) = &self.environment.application_credentials {
            return Found::File { path: path.into(), named_by: "the environment's GOOGLE_APPLICATION_CREDENTIALS" };
        }
        let gcloud = self.environment.home.as_ref().map(|home| Path::new(home).join(WELL_KNOWN));
        match gcloud {
            // One that is there and cannot be read is a mistake to be told of, not an absence.
            Some(path) if !matches!(path.try_exists(), Ok(false)) => {
                Found::File { path, named_by: "gcloud auth application-default login" }
            }
            _ => Found::MetadataServer,
        }
    }

    fn metadata_server(&self) -> Result<BuiltCredentials, CredentialsError> {
        let mut builder = mds::Builder::default().with_scopes(&self.scopes);
        if let Some(project) = self.quota_project(None) {
            builder = builder.with_quota_project_id(project);
        }
        let host = self.environment.metadata_host.as_deref();
        if let Some(host) = host {
            builder = builder.with_endpoint(format!("http://{host}"));
        }
        let who = format!("the service account of this machine (metadata server {})", host.unwrap_or(METADATA_HOST));
        let credentials =
            builder.build().map_err(|error| CredentialsError::Build { problem: Redactor::default().causes(&error) })?;
        let advice = "no credentials file was found (api.credentials.file, GOOGLE_APPLICATION_CREDENTIALS, gcloud's), so the \
                      metadata server was asked: outside Google Cloud name a file in api.credentials.file; within it, attach \
                      a service account, and list the server's host in NO_PROXY where HTTP_PROXY is set";
        Ok(BuiltCredentials { credentials, who, advice, redactor: Redactor::default() })
    }

    fn of_file(&self, path: &Path, text: &[u8]) -> Result<BuiltCredentials, String> {
        let json: Value = serde_json::from_slice(text)
            .map_err(|error| format!("it is not JSON (line {}, column {})", error.line(), error.column()))?;
        check_servers(&json)?;
        let redactor = Redactor::of(&json);
        let (who, advice) = describe(&json, path);
        let credentials = self.of_json(json).map_err(|problem| match problem {
            UnusableJson::Build(error) => redactor.causes(&error),
            UnusableJson::Type(problem) => redactor.redact(&problem),
        })?;
        Ok(BuiltCredentials { credentials, who, advice, redactor })
    }

    /// The library offers this choice only together with its own search for the file.
    fn of_json(&self, json: Value) -> Result<Credentials, UnusableJson> {
        /// Scopes, quota project, and build: the builders have this in common, but no trait.
        macro_rules! build {
            ($builder:expr, $project:expr) => {{
                let builder = $builder;
                Ok(match $project {
                    Some(project) => builder.with_quota_project_id(project),
                    None => builder,
                }
                .build()?)
            }};
        }
        let project = self.quota_project(Some(&json));
        let scopes = &self.scopes;
        match json.get("type").and_then(Value::as_str) {
            Some("service_account") => {
                let scopes = AccessSpecifier::from_scopes(scopes);
                build!(service_account::Builder::new(json).with_access_specifier(scopes), project)
            }
            Some("authorized_user") => build!(user_account::Builder::new(json).with_scopes(scopes), project),
            Some("impersonated_service_account") => {
                build!(impersonated::Builder::new(json).with_scopes(scopes), project)
            }
            Some("external_account") => build!(external_account::Builder::new(json).with_scopes(scopes), project),
            other => Err(UnusableJson::Type(format!(
                "its \"type\" is {}, and must be service_account, authorized_user, impersonated_service_account or external_account",
                other.map_or_else(|| "missing".to_owned(), |other| format!("{other:?}"))
            ))),
        }
    }

    /// Settings, then the environment, then the file.
    fn quota_project(&self, json: Option<&Value>) -> Option<String> {
        let in_file = || json?.get("quota_project_id")?.as_str().map(str::to_owned);
        self.quota_project.clone().or_else(|| self.environment.quota_project.clone()).or_else(in_file)
    }
}

/// Why the library has no credentials for a file.
enum UnusableJson {
    Build(BuildError),
    Type(String),
}

impl From<BuildError> for UnusableJson {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

impl Environment {
    fn read() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            application_credentials: path("GOOGLE_APPLICATION_CREDENTIALS"),
            home: path("HOME"),
            quota_project: text("GOOGLE_CLOUD_QUOTA_PROJECT"),
            metadata_host: text("GCE_METADATA_HOST"),
        }
    }
}

/// Refuses a file by which secrets would be sent in plain text over a network. What `credential_source` names is asked
/// for a secret, and is sent none: clouds serve it over http, on addresses of their own.
fn check_servers(json: &Value) -> Result<(), String> {
    for field in SERVERS {
        let Some(server) = json.get(field).and_then(Value::as_str) else { continue };
        let url = Url::parse(server).map_err(|_| format!("its {field} is no URL"))?;
        if !settings::may_receive_secrets(&url) {
            let host = url.host_str().unwrap_or_default();
            return Err(format!(
                "its {field} ({}://{host}) is not https, and secrets are sent over http to loopback addresses only",
                url.scheme()
            ));
        }
    }
    json.get("source_credentials").map_or(Ok(()), check_servers)
}

/// Who that is, and what to do when it does not work.
fn describe(json: &Value, path: &Path) -> (String, &'static str) {
    let text = |field: &str| json.get(field).and_then(Value::as_str);
    let file = path.display();
    let impersonated = text("service_account_impersonation_url")
        .and_then(|url| url.rsplit('/').next())
        .map(|principal| principal.trim_end_matches(":generateAccessToken"));
    match (text("type"), impersonated) {
        (Some("service_account"), _) => (
            format!("the service account {} (key in {file})", text("client_email").unwrap_or("without a name")),
            "make a new key for the service account if this one was deleted or cut off",
        ),
        (Some("authorized_user"), _) => (
            format!("the user who logged in to gcloud ({file})"),
            "log in again with `gcloud auth application-default login` if the login has expired or was revoked",
        ),
        (Some("impersonated_service_account"), principal) => (
            format!("the service account {} (impersonated, {file})", principal.unwrap_or("without a name")),
            "the caller needs the role roles/iam.serviceAccountTokenCreator on the service account, and a login that is still good",
        ),
        (_, Some(principal)) => (
            format!("the service account {principal} (by workload identity federation, {file})"),
            "check the identity provider's token, the pool's conditions, and roles/iam.workloadIdentityUser on the service account",
        ),
        _ => (
            format!("{} (workload identity federation, {file})", text("audience").unwrap_or("no audience")),
            "check the identity provider's token and the pool's provider and conditions",
        ),
    }
}
