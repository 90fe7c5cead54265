//! The client against a real HTTP server that says exactly what a test tells it to.

mod calls;
mod credentials;
mod endpoints;
mod limits;
mod profiles;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;

use super::Client;
use crate::cancellation::{Failure, Reply};
use crate::message::{NamePatterns, OperationName};
use crate::settings::{self, CancelBody, CredentialsKind, HumanDuration};

/// `[api]` as it is built in, whatever the environment says.
pub(super) fn api() -> settings::Api {
    settings::Api {
        service: "dialogflow".into(),
        version: "v2beta1".into(),
        endpoint: None,
        endpoints: BTreeMap::new(),
        rep_locations: vec!["us".into()],
        names: names(&["projects/*/locations/*/operations/*", "projects/*/operations/*"]),
        cancel_body: CancelBody::None,
        mtls: false,
        client_certificate_file: None,
        client_key_file: None,
        ca_file: None,
        connect_timeout: HumanDuration(Duration::from_secs(5)),
        call_timeout: HumanDuration(Duration::from_secs(15)),
        last_call_timeout: HumanDuration(Duration::from_secs(3)),
        refusal_grace: HumanDuration(Duration::from_secs(300)),
        response_limit: ByteSize::mib(1),
        credentials: settings::Credentials {
            kind: CredentialsKind::None,
            token_file: None,
            file: None,
            scopes: vec!["https://www.googleapis.com/auth/cloud-platform".into()],
            quota_project: None,
        },
    }
}

pub(super) fn names(patterns: &[&str]) -> NamePatterns {
    NamePatterns::new(patterns.iter().map(|text| (*text).to_owned()).collect()).expect("patterns")
}

/// Settings for a server of this test.
fn settings(server: &server::Server) -> settings::Api {
    let mut api = api();
    api.endpoint = Some(server.origin());
    api.call_timeout = HumanDuration(Duration::from_secs(10));
    api.response_limit = ByteSize::kib(4);
    api
}

fn client(server: &server::Server) -> Arc<Client> {
    Arc::new(Client::new(&settings(server)).expect("a client"))
}

fn name() -> OperationName {
    OperationName::parse("projects/p/locations/us-central1/operations/o").expect("a name")
}

fn failure(reply: Reply) -> Failure {
    match reply {
        Reply::Failure(failure) | Reply::NotMade(failure) => failure,
        other => panic!("no failure: {other:?}"),
    }
}
