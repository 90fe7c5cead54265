use std::collections::BTreeMap;
use std::path::PathBuf;

use bytesize::ByteSize;
use serde::Deserialize;

use super::values::{Span, choice, one_or_many};

/// `[api]`: the Operations API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// First label of the service's host name.
    pub service: String,
    /// The path segment before the operation's name.
    pub version: String,
    /// For every location that `endpoints` does not list; `{location}` stands for the location.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// By location.
    pub endpoints: BTreeMap<String, String>,
    /// For connecting, TLS included.
    pub connect_timeout: Span,
    /// For one call, body included.
    pub call_timeout: Span,
    /// Longest answer that is read.
    pub response_limit: ByteSize,
    /// Where the bearer token comes from.
    pub credentials: Credentials,
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
