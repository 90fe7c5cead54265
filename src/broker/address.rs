use std::fmt;

use lapin::uri::AMQPUri;
use secrecy::{ExposeSecret as _, SecretString};
use url::{Host, Url};

use super::BrokerError;
use crate::settings::Uris;

/// Where one node is and who logs in. Prints as `amqp://user@host:5672/vhost`, without the password.
#[derive(Clone)]
pub(super) struct Address(AMQPUri);

impl Address {
    /// Reads all URIs.
    ///
    /// # Errors
    /// [`BrokerError::InvalidUri`], which never quotes one: they hold passwords.
    pub(super) fn all(uris: &Uris) -> Result<Vec<Self>, BrokerError> {
        if uris.0.is_empty() {
            return Err(BrokerError::InvalidUri { position: 1, problem: "there is none" });
        }
        uris.0.iter().zip(1..).map(|(uri, position)| Self::parse(uri, position)).collect()
    }

    fn parse(uri: &SecretString, position: usize) -> Result<Self, BrokerError> {
        let invalid = |problem| BrokerError::InvalidUri { position, problem };
        let text = uri.expose_secret().trim();
        if !text.starts_with("amqp://") && !text.starts_with("amqps://") {
            return Err(invalid("it does not begin with amqp:// or amqps://"));
        }
        let mut parsed: AMQPUri = text.parse().map_err(|_| {
            invalid(
                "it is not of the form amqp://user:password@host:5672/%2f (special characters have to be percent-encoded)",
            )
        })?;
        // The parser knows no IPv6 addresses: it would quietly take localhost.
        if let Ok(url) = Url::parse(text)
            && let Some(Host::Ipv6(host)) = url.host()
        {
            parsed.authority.host = host.to_string();
        }
        if parsed.vhost.len() > 255 {
            return Err(invalid("the vhost's name is longer than 255 bytes"));
        }
        Ok(Self(parsed))
    }

    pub(super) const fn uri(&self) -> &AMQPUri {
        &self.0
    }

    pub(super) fn user(&self) -> &str {
        &self.0.authority.userinfo.username
    }

    pub(super) fn vhost(&self) -> &str {
        &self.0.vhost
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri { scheme, authority, vhost, .. } = &self.0;
        let host = &authority.host;
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        let vhost = if vhost == "/" { "%2f" } else { vhost };
        write!(f, "{scheme}://{}@{open}{host}{close}:{}/{vhost}", authority.userinfo.username, authority.port)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> Result<Address, BrokerError> {
        Address::all(&Uris(vec![SecretString::from(uri.to_owned())])).map(|mut all| all.remove(0))
    }

    #[test]
    fn an_address_is_printed_without_its_password() {
        for (uri, printed) in [
            ("amqp://ann:s3cret@broker.example/%2f", "amqp://ann@broker.example:5672/%2f"),
            ("amqps://ann:s3cret@broker.example/jobs?heartbeat=3", "amqps://ann@broker.example:5671/jobs"),
            ("amqp://ann:s3cret@[::1]:5000/%2f", "amqp://ann@[::1]:5000/%2f"),
            ("amqp://broker", "amqp://guest@broker:5672/%2f"),
        ] {
            let address = read(uri).expect("an address");
            assert_eq!(address.to_string(), printed);
            assert_eq!(format!("{address:?}"), printed);
        }
        assert_eq!(read("amqp://a:b@[::1]:5000/%2f").expect("an address").uri().authority.host, "::1");
    }

    #[test]
    fn what_is_no_address_is_refused_without_quoting_it() {
        for uri in ["http://ann:s3cret@h/", "amqp:ann:s3cret@h", "amqp://ann:s3cret@h:port/", "s3cret"] {
            let error = read(uri).expect_err(uri);
            assert!(error.is_permanent());
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        let long = format!("amqp://h/{}", "v".repeat(256));
        assert!(read(&long).expect_err("too long").to_string().contains("255"));
    }
}
