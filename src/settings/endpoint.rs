use std::fmt;

use url::{Host, Url};

use super::redact::quoted;

/// The form of an endpoint, for people.
pub const ENDPOINT_FORM: &str = "it must be of the form https://host or https://host:port, without a path";

/// Where calls go: `https://host[:port]` or `http://host[:port]`, and nothing more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    url: Url,
    loopback: bool,
}

/// Why a text is no endpoint. Holds nothing that may be a password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// It is no URL. Holds it in quotes, or what stands for it.
    #[error("{0}: {ENDPOINT_FORM}")]
    NotAUrl(String),
    /// Another scheme, or a path, a query, a fragment or a user. Holds the host only.
    #[error("{0:?}: {ENDPOINT_FORM}")]
    NotOnlyAHost(String),
    /// A token would go over a network in plain text. Holds the whole.
    #[error(
        "{0:?} is not https, and credentials are sent over http to loopback addresses only; set api.credentials.kind to \"none\" if it wants none"
    )]
    PlainText(String),
}

impl Endpoint {
    /// Reads an endpoint; anything more than a host is refused rather than dropped silently.
    ///
    /// # Errors
    /// The text is no endpoint.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        let url = Url::parse(text).map_err(|_| InvalidEndpoint::NotAUrl(quoted(text)))?;
        let only_a_host = url.has_host()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !only_a_host {
            return Err(InvalidEndpoint::NotOnlyAHost(url.host_str().unwrap_or_default().to_owned()));
        }
        let loopback = is_loopback(&url);
        Ok(Self { url, loopback })
    }

    /// Reads an endpoint that a token is sent to.
    ///
    /// # Errors
    /// The text is no endpoint, or one that no token may be sent to.
    pub fn parse_for_tokens(text: &str) -> Result<Self, InvalidEndpoint> {
        let endpoint = Self::parse(text)?;
        if may_receive_secrets(&endpoint.url) { Ok(endpoint) } else { Err(InvalidEndpoint::PlainText(text.to_owned())) }
    }

    /// Whether the host is this machine.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.loopback
    }
}

/// With the `/` that ends the host.
impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(formatter)
    }
}

/// Whether tokens, and what tokens are bought with, may be sent to this URL: over https, or over http to this machine.
/// This is the one place that decides it.
#[must_use]
pub fn may_receive_secrets(url: &Url) -> bool {
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback(url))
}

/// Whether the URL names this machine. A doubtful name does not: for what follows from it, that is the safe answer.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_certainly_names_this_machine_is_loopback_and_takes_tokens_over_http() {
        for (host, loopback) in [
            ("localhost", true),
            ("LocalHost", true),
            ("LOCALHOST:8080", true),
            ("%6cocalhost", true),
            ("127.0.0.1", true),
            ("127.0.0.1:1", true),
            ("127.0.0.2", true),
            ("127.255.255.254", true),
            ("127.1", true),
            ("0x7f000001", true),
            ("127.0.0.1.", true),
            ("[::1]", true),
            ("[0:0::0:1]:443", true),
            // Only a resolver's configuration says what these are.
            ("localhost.", false),
            ("a.localhost", false),
            ("localhost.localdomain", false),
            ("localhost.example.com", false),
            ("ip6-localhost", false),
            ("127.0.0.1.example.com", false),
            // Not every system sends these to itself.
            ("[::ffff:127.0.0.1]", false),
            ("[::127.0.0.1]", false),
            ("[64:ff9b::127.0.0.1]", false),
            ("0.0.0.0", false),
            ("[::]", false),
            ("128.0.0.1", false),
            ("126.255.255.255", false),
            ("10.0.0.1", false),
            ("169.254.169.254", false),
            ("[fe80::1]", false),
            ("example.com", false),
        ] {
            let (http, https) = (format!("http://{host}"), format!("https://{host}"));
            assert_eq!(Endpoint::parse(&http).expect("an endpoint").is_loopback(), loopback, "{http}");
            assert_eq!(Endpoint::parse(&https).expect("an endpoint").is_loopback(), loopback, "{https}");
            assert!(Endpoint::parse_for_tokens(&https).is_ok(), "{https}");
            let plain_text = InvalidEndpoint::PlainText(http.clone());
            assert_eq!(Endpoint::parse_for_tokens(&http).err(), (!loopback).then_some(plain_text), "{http}");
        }
    }

    #[test]
    fn an_endpoint_is_printed_as_urls_are_with_the_slash_that_ends_the_host() {
        for (text, printed) in [
            ("https://a", "https://a/"),
            ("HTTPS://A.Example.com/", "https://a.example.com/"),
            ("https://a:443", "https://a/"),
            ("http://a:443", "http://a:443/"),
            ("https://a:8443/", "https://a:8443/"),
            ("https://[0:0::1]", "https://[::1]/"),
            ("https://a.", "https://a./"),
        ] {
            assert_eq!(Endpoint::parse(text).map(|endpoint| endpoint.to_string()).as_deref(), Ok(printed));
        }
    }

    #[test]
    fn more_than_a_host_is_refused_and_told_of_without_what_may_be_a_secret() {
        for (text, told) in [
            ("https://a/path", "\"a\""),
            ("https://a//", "\"a\""),
            ("https://a?s3cret", "\"a\""),
            ("https://a/?", "\"a\""),
            ("https://a#s3cret", "\"a\""),
            ("https://s3cret@a", "\"a\""),
            ("https://u:s3cret@a", "\"a\""),
            ("http://:s3cret@127.0.0.1", "\"127.0.0.1\""),
            ("ftp://a", "\"a\""),
            ("ws://localhost/", "\"localhost\""),
            ("unix:/", "\"\""),
            ("localhost:8080", "\"\""),
            ("file:///", "\"\""),
            ("a.example.com", "\"a.example.com\""),
            ("https://", "\"https://\""),
            ("", "\"\""),
            ("https://ann:s3cret@a:port", "(hidden: it may hold a password)"),
        ] {
            let error = Endpoint::parse(text).expect_err(text).to_string();
            assert_eq!(error, format!("{told}: {ENDPOINT_FORM}"), "{text}");
            assert_eq!(Endpoint::parse_for_tokens(text).expect_err(text).to_string(), error, "{text}");
        }
    }

    #[test]
    fn secrets_go_over_https_or_to_this_machine_over_http_and_nothing_else() {
        let may = |text: &str| may_receive_secrets(&Url::parse(text).expect("a URL"));
        assert!(may("https://a.example.com/token?x") && may("http://localhost:1/token"));
        for text in
            ["http://a.example.com/token", "ftp://localhost/", "file:///etc/token", "ws://127.0.0.1/", "unix:/a"]
        {
            assert!(!may(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_an_endpoint_has_a_scheme_a_host_and_a_port_and_is_the_same_when_read_again(text in "(https?://)?\\PC{0,40}") {
            if let Ok(endpoint) = Endpoint::parse(&text) {
                let printed = endpoint.to_string();
                prop_assert_eq!(&format!("{}/", endpoint.url.origin().ascii_serialization()), &printed);
                prop_assert_eq!(Endpoint::parse(&printed), Ok(endpoint));
            }
        }

        #[test]
        fn over_http_a_token_goes_to_addresses_that_begin_with_127_only(address in any::<[u8; 4]>(), port in 1_u16..) {
            let [a, b, c, d] = address;
            let text = format!("http://{a}.{b}.{c}.{d}:{port}");
            prop_assert_eq!(Endpoint::parse_for_tokens(&text).is_ok(), a == 127);
        }
    }
}
