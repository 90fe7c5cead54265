use std::collections::BTreeMap;
use std::path::PathBuf;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, de};

use super::values::{HumanDuration, choice, one_or_many};
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
    #[serde(default)]
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
    #[serde(default)]
    pub client_certificate_file: Option<PathBuf>,
    /// The private key of that certificate (PEM).
    #[serde(default)]
    pub client_key_file: Option<PathBuf>,
    /// CA certificates (PEM) that are trusted beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// For connecting, TLS included.
    pub connect_timeout: HumanDuration,
    /// For one call, body included.
    pub call_timeout: HumanDuration,
    /// Longest answer that is read.
    pub response_limit: ByteSize,
    /// Where the bearer token comes from.
    pub credentials: Credentials,
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
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// For `auto` and `google`: the credentials file; where unset, it is looked for as Google's libraries do.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// For `auto` and `google`: OAuth scopes.
    #[serde(deserialize_with = "one_or_many")]
    pub scopes: Vec<String>,
    /// For `auto` and `google`: the project that quota and billing go to, where it is not the account's own.
    #[serde(default)]
    pub quota_project: Option<String>,
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
