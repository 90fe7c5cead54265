use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, ClientBuilder, Method, Request, redirect};
use url::Url;

use super::auth::Authorization;
use super::classify::Call;
use super::reuse::NoteConnecting;
use super::tls::TlsFiles;
use crate::settings::{self, CancelBody};

/// An HTTP/2 connection on which calls are open and nothing arrives is asked for a sign of life after this interval, and
/// given up after this time-out. Otherwise every call on a dead connection would run into its own time-out.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The connections, of two kinds.
pub(super) struct HttpClients {
    /// Goes through the proxy that the environment names, if any.
    remote: Client,
    /// Never goes through a proxy: what a loopback address means, another machine does not know, and a token that may
    /// go over http to this machine may go nowhere else.
    loopback: Client,
}

impl HttpClients {
    /// Connects when it is first used.
    pub(super) fn new(settings: &settings::Api, tls: TlsFiles) -> Result<Self, reqwest::Error> {
        Ok(Self {
            remote: tls.clone().apply(builder(settings)).build()?,
            loopback: tls.apply(builder(settings)).no_proxy().build()?,
        })
    }

    /// The one for a host that is this machine, or is not.
    pub(super) const fn of(&self, loopback: bool) -> &Client {
        if loopback { &self.loopback } else { &self.remote }
    }
}

/// What both kinds of connections have in common.
fn builder(settings: &settings::Api) -> ClientBuilder {
    let json = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
    Client::builder()
        .user_agent(concat!("cancel-worker/", env!("CARGO_PKG_VERSION")))
        .default_headers(json)
        .redirect(redirect::Policy::none())
        .connect_timeout(*settings.connect_timeout)
        .connector_layer(tower_layer::layer_fn(NoteConnecting))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
}

/// The request of one call.
pub(super) fn request(call: Call, url: Url, authorization: Option<&Authorization>, cancel_body: CancelBody) -> Request {
    let mut request = Request::new(if call == Call::Cancel { Method::POST } else { Method::GET }, url);
    let headers = request.headers_mut();
    if let Some(authorization) = authorization {
        authorization.add_to(headers);
    }
    match (call, cancel_body) {
        (Call::Get, _) => {}
        // Of itself, no length is sent for a request without a body, and Google answers that with 411.
        (Call::Cancel, CancelBody::None) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        (Call::Cancel, CancelBody::EmptyObject) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some("{}".into());
        }
    }
    request
}
