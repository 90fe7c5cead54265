use std::fmt;
use std::time::Duration;

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use secrecy::ExposeSecret as _;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::settings::{AmqpUri, AuthMechanism, UriNews, UriSource};

/// How long the file of `amqp.uri_file` is waited for.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Where one node is and who logs in. Prints as `amqp://user@host:5672/vhost`, without the password.
#[derive(Clone)]
pub(super) struct Address {
    uri: AMQPUri,
    shown: String,
}

impl Address {
    /// What the settings say now, in their order: a file is read again. What has changed in it is logged. Where its file
    /// system hangs, what it held before is used.
    pub(super) async fn all(uris: &UriSource) -> Vec<Self> {
        let reader = uris.clone();
        // It tells of what it finds also when nobody waits for it any more.
        let read = tokio::task::spawn_blocking(move || {
            let (now, news) = reader.read();
            tell(&reader, news);
            now
        });
        let now = match timeout(READ_TIMEOUT, read).await {
            Ok(Ok(now)) => now,
            Ok(Err(_)) | Err(_) => {
                tell(uris, uris.unanswered(READ_TIMEOUT));
                uris.last()
            }
        };
        now.iter().map(Self::new).collect()
    }

    fn new(uri: &AmqpUri) -> Self {
        let parameters = uri.parameters();
        let query = AMQPQueryString {
            heartbeat: parameters.heartbeat,
            frame_max: parameters.frame_max,
            channel_max: parameters.channel_max,
            connection_timeout: None,
            auth_mechanism: parameters.auth_mechanism.map(|mechanism| match mechanism {
                AuthMechanism::Plain => SASLMechanism::Plain,
                AuthMechanism::AmqPlain => SASLMechanism::AMQPlain,
                AuthMechanism::External => SASLMechanism::External,
            }),
        };
        let login =
            AMQPUserInfo { username: uri.user().to_owned(), password: uri.password().expose_secret().to_owned() };
        let authority = AMQPAuthority { userinfo: login, host: uri.host().to_owned(), port: uri.port() };
        let scheme = if uri.is_tls() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP };
        let shown = uri.to_string();
        Self { uri: AMQPUri { scheme, authority, vhost: uri.vhost().to_owned(), query }, shown }
    }

    /// The same node and vhost with the login that the settings have for it now.
    pub(super) async fn renewed(&self, uris: &UriSource) -> Self {
        let place = |address: &Self| {
            let AMQPUri { scheme, authority, vhost, .. } = &address.uri;
            (scheme.clone(), authority.host.clone(), authority.port, vhost.clone())
        };
        let now = Self::all(uris).await.into_iter().find(|address| place(address) == place(self));
        now.unwrap_or_else(|| self.clone())
    }

    pub(super) const fn uri(&self) -> &AMQPUri {
        &self.uri
    }

    pub(super) fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    pub(super) fn vhost(&self) -> &str {
        &self.uri.vhost
    }
}

/// Logs what has changed in the file.
fn tell(uris: &UriSource, news: Option<UriNews>) {
    match news {
        Some(UriNews::Unusable(problem)) => {
            warn!(problem, "the file of amqp.uri_file cannot be used: what it held before stays in use");
        }
        Some(UriNews::UsableAgain) => info!("the file of amqp.uri_file can be used again"),
        Some(UriNews::Changed) => info!(broker = %uris, "the file of amqp.uri_file has changed, and is used"),
        None => {}
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings;

    fn read(uri: &str) -> Address {
        let loaded = settings::load(&[], &[("amqp.uri", uri.to_owned())]).expect(uri);
        Address::new(&loaded.settings.amqp.uris.last()[0])
    }

    #[test]
    fn an_address_is_printed_without_its_password() {
        let address = read("amqps://ann:s3cret@broker.example/jobs?heartbeat=3");
        assert_eq!(address.to_string(), "amqps://ann@broker.example:5671/jobs");
        assert_eq!(format!("{address:?}"), address.to_string());
        assert_eq!(address.uri().query.heartbeat, Some(3));
        assert_eq!(read("amqp://a:b@[::1]:5000/%2f").uri().authority.host, "::1");
    }

    #[tokio::test]
    async fn a_node_is_found_again_with_its_new_login() {
        let old = read("amqp://ann:old@b/jobs");
        let now = settings::load(&[], &[("amqp.uri", "amqp://ann:x@a/jobs,amqp://bob:new@b/jobs".to_owned())]);
        let uris = now.expect("valid").settings.amqp.uris;
        let renewed = old.renewed(&uris).await;
        assert_eq!((renewed.user(), renewed.uri().authority.userinfo.password.as_str()), ("bob", "new"));
        let gone = read("amqp://ann:old@c/jobs");
        assert_eq!(gone.renewed(&uris).await.uri(), gone.uri());
    }

    /// What an AMQP URI may hold where.
    fn uri() -> impl Strategy<Value = String> {
        let text = "([a-zA-Z0-9._~!$&'()*+;=-]|%2[0-9a-fA-F]|%40|%C3%A9){1,12}";
        let host = prop_oneof!["[a-z][a-z0-9.-]{0,9}[a-z]", Just("127.0.0.1".to_owned())];
        // The URL library would drop "." and "..", which are vhosts like any other.
        let vhost = "(/([a-zA-Z0-9_-]|%2[fF]|%20)([a-zA-Z0-9._-]|%2[fF]|%20){0,9}|/)?";
        (prop_oneof![Just("amqp"), Just("amqps")], text, text, host, "(:[1-9][0-9]{0,3})?", vhost).prop_map(
            |(scheme, user, password, host, port, vhost)| {
                format!("{scheme}://{user}:{password}@{host}{port}{vhost}?heartbeat=7&frame_max=8192")
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_accepted_means_what_it_means_to_lapin(uri in uri()) {
            let lapin: AMQPUri = uri.parse().expect(&uri);
            let address = read(&uri);
            prop_assert_eq!(address.uri(), &lapin);
        }
    }
}
