use std::fmt;
use std::net::IpAddr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};

/// An AMQP URI: where one node is, and who logs in. Prints as `amqp://user@host:5672/vhost`, without the password.
///
/// The only parser of such URIs and the only way to print one: what `check` accepts is what `run` uses, and no text that
/// is not understood to its end is ever shown.
#[derive(Clone)]
pub struct AmqpUri {
    pub(super) tls: bool,
    pub(super) user: String,
    pub(super) password: SecretString,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) vhost: String,
    pub(super) parameters: UriParameters,
}

/// What the query of a URI sets for its connections; it goes before what `[amqp]` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UriParameters {
    /// In seconds.
    pub heartbeat: Option<u16>,
    /// In bytes.
    pub frame_max: Option<u32>,
    /// Channels on one connection.
    pub channel_max: Option<u16>,
    /// How to log in; PLAIN where it is unset.
    pub auth_mechanism: Option<AuthMechanism>,
}

/// How to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMechanism {
    /// User and password.
    Plain,
    /// The same in another form.
    AmqPlain,
    /// Whoever the client's certificate names.
    External,
}

impl AuthMechanism {
    /// As it is written in a URI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::AmqPlain => "amqplain",
            Self::External => "external",
        }
    }
}

impl AmqpUri {
    /// Whether whoever listens on the network to another machine would learn the password.
    #[must_use]
    pub fn shows_password(&self) -> bool {
        let address = self.host.trim_matches(['[', ']']).parse::<IpAddr>();
        let is_here = self.host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        !self.tls && !is_here && self.parameters.auth_mechanism != Some(AuthMechanism::External)
    }

    /// Whether the scheme is `amqps`.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// Who logs in.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// With what.
    #[must_use]
    pub const fn password(&self) -> &SecretString {
        &self.password
    }

    /// A name or an address; an IPv6 address stands without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The scheme's own port where the URI has none.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `/` where the URI has none.
    #[must_use]
    pub fn vhost(&self) -> &str {
        &self.vhost
    }

    /// What the query sets.
    #[must_use]
    pub const fn parameters(&self) -> &UriParameters {
        &self.parameters
    }

    /// The whole URI, password included, for another client.
    #[must_use]
    pub fn with_password(&self) -> SecretString {
        let mut text = self.to_string();
        let password = format!(":{}", encoded(self.password.expose_secret()));
        if let Some(at) = text.find('@') {
            text.insert_str(at, &password);
        }
        let UriParameters { heartbeat, frame_max, channel_max, auth_mechanism } = self.parameters;
        let parameters = [
            heartbeat.map(|value| format!("heartbeat={value}")),
            frame_max.map(|value| format!("frame_max={value}")),
            channel_max.map(|value| format!("channel_max={value}")),
            auth_mechanism.map(|value| format!("auth_mechanism={}", value.as_str())),
        ];
        for (parameter, before) in parameters.into_iter().flatten().zip(["?", "&", "&", "&"]) {
            text.push_str(before);
            text.push_str(&parameter);
        }
        SecretString::from(text)
    }
}

impl PartialEq for AmqpUri {
    fn eq(&self, other: &Self) -> bool {
        self.with_password().expose_secret() == other.with_password().expose_secret()
    }
}

impl fmt::Display for AmqpUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let vhost = if self.vhost == "/" { "%2f".to_owned() } else { encoded(&self.vhost) };
        write!(f, "{scheme}://{}@{open}{}{close}:{}/{vhost}", encoded(&self.user), self.host, self.port)
    }
}

impl fmt::Debug for AmqpUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Everything but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}
