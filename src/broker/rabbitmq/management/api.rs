use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Client, StatusCode, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::settings::AmqpUri;

/// How long each question may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer that is read, in bytes: a vhost with 10,000 queues.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why the management API told nothing. Written to fit after "failed to …"; never holds a password.
#[derive(Debug, thiserror::Error)]
pub enum ManagementError {
    /// No answer.
    #[error(
        "ask the management API at {address}: {problem}; is the plugin rabbitmq_management enabled, and this its address?"
    )]
    Unreachable {
        /// Without the password.
        address: String,
        /// What happened.
        problem: String,
    },
    /// Wrong user or password.
    #[error(
        "ask the management API at {address}: it refuses the login of user {user:?}; check user and password in the URL, or in amqp.uri where it has none"
    )]
    Refused {
        /// Without the password.
        address: String,
        /// Who asked.
        user: String,
    },
    /// Another program, or another version.
    #[error("ask the management API at {address}: the answer to {path} is none of RabbitMQ's: {problem}")]
    Unreadable {
        /// Without the password.
        address: String,
        /// What was asked.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// An answer, or why this user may not see it, in the API's words.
pub(super) type Told<T> = Result<T, String>;

/// All that was asked.
#[derive(Debug)]
pub(super) struct Answers {
    /// Who asked.
    pub(super) user: String,
    pub(super) overview: Told<Overview>,
    pub(super) nodes: Told<Vec<Node>>,
    pub(super) queues: Told<Vec<Queue>>,
    pub(super) bindings: Told<Vec<Binding>>,
    pub(super) flags: Told<Vec<Flag>>,
    pub(super) policies: Told<Vec<Policy>>,
    pub(super) operator_policies: Told<Vec<Policy>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Overview {
    pub(super) rabbitmq_version: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) running: bool,
    pub(super) mem_alarm: bool,
    pub(super) disk_free_alarm: bool,
    pub(super) fd_used: u64,
    pub(super) fd_total: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Queue {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) arguments: Value,
    pub(super) policy: Option<String>,
    pub(super) operator_policy: Option<String>,
    pub(super) effective_policy_definition: Value,
    pub(super) messages_ready: u64,
    pub(super) consumers: u64,
    pub(super) members: Vec<String>,
    pub(super) online: Vec<String>,
}

impl Queue {
    /// An argument of its declaration.
    pub(super) fn argument(&self, name: &str) -> Option<&Value> {
        self.arguments.get(name)
    }

    /// What the policies in force set.
    pub(super) fn policies(&self) -> BTreeMap<&str, &Value> {
        self.effective_policy_definition
            .as_object()
            .map(|set| set.iter().map(|(key, value)| (key.as_str(), value)).collect())
            .unwrap_or_default()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Binding {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) routing_key: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) priority: i64,
    pub(super) definition: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Flag {
    pub(super) name: String,
    pub(super) state: String,
}

/// Asks, and changes nothing.
pub(super) async fn ask(url: &Url, uri: Option<&AmqpUri>, vhost: &str) -> Result<Answers, ManagementError> {
    let api = Api::new(url, uri)?;
    let vhost = percent_encoding::utf8_percent_encode(vhost, percent_encoding::NON_ALPHANUMERIC).to_string();
    Ok(Answers {
        overview: api.get("overview").await?,
        nodes: api.get("nodes").await?,
        queues: api.get(&format!("queues/{vhost}")).await?,
        bindings: api.get(&format!("bindings/{vhost}")).await?,
        flags: api.get("feature-flags").await?,
        policies: api.get(&format!("policies/{vhost}")).await?,
        operator_policies: api.get(&format!("operator-policies/{vhost}")).await?,
        user: api.user,
    })
}

/// Who may not see something is told so with status 401 as well as who could not log in: the body tells them apart.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    reason: String,
}

struct Api {
    client: Client,
    base: Url,
    user: String,
    password: SecretString,
}

impl Api {
    fn new(url: &Url, uri: Option<&AmqpUri>) -> Result<Self, ManagementError> {
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = match (url.username(), url.password(), uri) {
            ("", _, Some(uri)) => (uri.user().to_owned(), uri.password().expose_secret().to_owned()),
            (user, password, _) => (decoded(user), decoded(password.unwrap_or_default())),
        };
        let mut base = url.clone();
        // It fails for URLs that cannot have any, and so have none.
        let _ = base.set_username("");
        let _ = base.set_password(None);
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        // What a proxy is for does not lie in the broker's network.
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(ANSWER_TIMEOUT)
            .build()
            .map_err(|error| ManagementError::Unreachable { address: base.to_string(), problem: chain(&error) })?;
        Ok(Self { client, base, user, password: SecretString::from(password) })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Told<T>, ManagementError> {
        let address = self.base.to_string();
        let unreachable =
            |error: &reqwest::Error| ManagementError::Unreachable { address: address.clone(), problem: chain(error) };
        let unreadable =
            |problem: String| ManagementError::Unreadable { address: address.clone(), path: path.to_owned(), problem };
        let url = self.base.join(&format!("api/{path}")).map_err(|error| unreadable(error.to_string()))?;
        let request = self.client.get(url).basic_auth(&self.user, Some(self.password.expose_secret()));
        let mut answer = request.send().await.map_err(|error| unreachable(&error))?;
        let is_refusal = match answer.status() {
            StatusCode::OK => false,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => true,
            status => return Err(unreadable(format!("HTTP {}", status.as_u16()))),
        };
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| unreachable(&error))? {
            if body.len() + part.len() > MAX_ANSWER {
                return Err(unreadable(format!("it has more than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&part);
        }
        if is_refusal {
            let Refusal { reason } = serde_json::from_slice(&body).unwrap_or_default();
            let is_login = reason.is_empty() || reason == "Login failed";
            let user = self.user.clone();
            return if is_login { Err(ManagementError::Refused { address, user }) } else { Ok(Err(reason)) };
        }
        serde_json::from_slice(&body).map(Ok).map_err(|error| unreadable(error.to_string()))
    }
}

/// An error with its causes, without the URL.
fn chain(error: &reqwest::Error) -> String {
    let mut text = "no answer".to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}
