use std::collections::BTreeMap;
use std::path::PathBuf;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, de};

use super::checks::{hours, millis, require, within};
use super::endpoint::Endpoint;
use super::error::{SettingsError, invalid};
use super::file_name::{NO_FILE_NAME, is_content};
use super::values::{HumanDuration, choice, one_or_many, unless_empty};
use crate::message::NamePatterns;

/// `[api]`: the Operations API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// First label of the service's host name.
    pub service: String,
    /// The path segment before the operation's name.
    pub version: String,
    /// The names of the service's operations.
    #[serde(deserialize_with = "patterns")]
    pub names: NamePatterns,
    /// The body of a cancel.
    #[serde(deserialize_with = "choice")]
    pub cancel_body: CancelBody,
    /// For every location that `endpoints` does not list; `{location}` stands for the location. Without it, Google's
    /// hosts for `service`.
    #[serde(default, deserialize_with = "unless_empty")]
    pub endpoint: Option<String>,
    /// By location; goes before everything else.
    #[serde(default)]
    pub endpoints: BTreeMap<String, String>,
    /// Locations whose host is `{service}.{location}.rep.googleapis.com`; "*" is every region.
    #[serde(deserialize_with = "one_or_many")]
    pub rep_locations: Vec<String>,
    /// Google's hosts for clients with a certificate.
    pub mtls: bool,
    /// The certificate (PEM, with its chain) that this client shows to servers that ask for one.
    #[serde(default, deserialize_with = "unless_empty")]
    pub client_certificate_file: Option<PathBuf>,
    /// The private key of that certificate (PEM).
    #[serde(default, deserialize_with = "unless_empty")]
    pub client_key_file: Option<PathBuf>,
    /// CA certificates (PEM) that are trusted beside the system's.
    #[serde(default, deserialize_with = "unless_empty")]
    pub ca_file: Option<PathBuf>,
    /// For connecting, TLS included.
    pub connect_timeout: HumanDuration,
    /// For one call, body included.
    pub call_timeout: HumanDuration,
    /// For the last call about an operation, at its deadline.
    pub last_call_timeout: HumanDuration,
    /// How long a request is refused before that is believed.
    pub refusal_grace: HumanDuration,
    /// Longest answer that is read.
    pub response_limit: ByteSize,
    /// Where the bearer token comes from.
    pub credentials: Credentials,
}

impl Api {
    /// Refuses values that parse but make no sense.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        self.check_file_names()?;
        self.check_service()?;
        self.check_client_certificate()?;
        self.check_endpoints()?;
        within("api.call_timeout", self.call_timeout, millis(1)..=hours(24))?;
        within("api.last_call_timeout", self.last_call_timeout, millis(1)..=hours(24))?;
        within("api.connect_timeout", self.connect_timeout, millis(1)..=hours(24))?;
        within("api.refusal_grace", self.refusal_grace, millis(0)..=hours(24))?;
        within("api.response_limit", self.response_limit, ByteSize::kib(1)..=ByteSize::gib(1))?;
        self.credentials.check()
    }

    fn check_file_names(&self) -> Result<(), SettingsError> {
        let named = [
            ("api.client_certificate_file", &self.client_certificate_file),
            ("api.client_key_file", &self.client_key_file),
            ("api.ca_file", &self.ca_file),
            ("api.credentials.token_file", &self.credentials.token_file),
            ("api.credentials.file", &self.credentials.file),
        ];
        let is_name = |path: &Option<PathBuf>| !path.as_deref().is_some_and(is_content);
        named.into_iter().try_for_each(|(setting, path)| require(is_name(path), setting, NO_FILE_NAME))
    }

    fn check_service(&self) -> Result<(), SettingsError> {
        let label = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        let region = |text: &String| text == "*" || label(text);
        require(label(&self.service), "api.service", "it must be a host name's label, such as \"dialogflow\"")?;
        require(
            !self.version.is_empty() && self.version.bytes().all(|b| b.is_ascii_alphanumeric()),
            "api.version",
            "it must be one path segment such as \"v2beta1\"",
        )?;
        require(
            self.rep_locations.iter().all(region),
            "api.rep_locations",
            "it must be a list of locations such as \"us\", or [\"*\"] for every region",
        )
    }

    fn check_client_certificate(&self) -> Result<(), SettingsError> {
        require(
            self.client_certificate_file.is_some() || self.client_key_file.is_none(),
            "api.client_certificate_file",
            "it must name the certificate that belongs to the key of api.client_key_file",
        )?;
        require(
            self.client_key_file.is_some() || self.client_certificate_file.is_none(),
            "api.client_key_file",
            "it must name the private key that belongs to api.client_certificate_file",
        )?;
        require(
            !self.mtls || self.client_certificate_file.is_some(),
            "api.mtls",
            "Google's mTLS hosts want a client certificate: set api.client_certificate_file and api.client_key_file",
        )
    }

    fn check_endpoints(&self) -> Result<(), SettingsError> {
        let with_token = self.credentials.kind != CredentialsKind::None;
        if let Some(endpoint) = &self.endpoint {
            check_endpoint("api.endpoint", &endpoint.replace("{location}", "location"), with_token)?;
        }
        for endpoint in self.endpoints.values() {
            check_endpoint("api.endpoints", endpoint, with_token)?;
        }
        Ok(())
    }
}

/// A token is sent over https or to a loopback address only.
fn check_endpoint(setting: &'static str, endpoint: &str, with_token: bool) -> Result<(), SettingsError> {
    let parsed = if with_token { Endpoint::parse_for_tokens(endpoint) } else { Endpoint::parse(endpoint) };
    parsed.map(drop).map_err(|error| invalid(setting, error.to_string()))
}

/// What a cancel carries. Services differ, and refuse what they do not expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum CancelBody {
    /// No byte at all.
    #[serde(rename = "none")]
    None,
    /// An empty JSON object.
    #[serde(rename = "{}")]
    EmptyObject,
}

fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NamePatterns, D::Error> {
    NamePatterns::new(one_or_many(deserializer)?).map_err(de::Error::custom)
}

/// `[api.credentials]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// The source of credentials.
    #[serde(deserialize_with = "choice")]
    pub kind: CredentialsKind,
    /// For `token_file`: the file.
    #[serde(default, deserialize_with = "unless_empty")]
    pub token_file: Option<PathBuf>,
    /// For `auto` and `google`: the credentials file; where unset, it is looked for as Google's libraries do.
    #[serde(default, deserialize_with = "unless_empty")]
    pub file: Option<PathBuf>,
    /// For `auto` and `google`: OAuth scopes.
    #[serde(deserialize_with = "one_or_many")]
    pub scopes: Vec<String>,
    /// For `auto` and `google`: the project that quota and billing go to, where it is not the account's own.
    #[serde(default, deserialize_with = "unless_empty")]
    pub quota_project: Option<String>,
}

impl Credentials {
    fn check(&self) -> Result<(), SettingsError> {
        require(
            self.kind != CredentialsKind::TokenFile || self.token_file.is_some(),
            "api.credentials.token_file",
            "it must name the file that holds the token, since api.credentials.kind is \"token_file\"",
        )?;
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        require(
            !self.scopes.is_empty() && self.scopes.iter().all(|scope| plain(scope)),
            "api.credentials.scopes",
            "at least one is needed, without spaces, such as \"https://www.googleapis.com/auth/cloud-platform\"",
        )?;
        require(
            self.quota_project.as_deref().is_none_or(plain),
            "api.credentials.quota_project",
            "it must be a project's id or number",
        )
    }
}

/// The sources of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialsKind {
    /// Google's, but none for an endpoint on a loopback address.
    Auto,
    /// Google's Application Default Credentials.
    Google,
    /// Calls carry no credentials.
    None,
    /// A bearer token in a file.
    TokenFile,
}
