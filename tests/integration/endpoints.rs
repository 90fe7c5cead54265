//! Where calls go and whom they trust, seen from outside: the `cancel` command, TLS servers and a proxy on loopback.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::{Certificates, ConnectProxy, TlsServer};

const NAME: &str = "projects/p/locations/us-central1/operations/o";

/// A name that no resolver knows.
const HOST: &str = "operations.example.invalid";

/// Runs `cancel` for one operation, with these settings (keys below `api`) and variables, and without any proxy of the
/// caller's environment. It gives up after the first attempt.
fn cancel(settings: &[(&str, &str)], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cancel-worker"));
    let proxy = |name: &str| name.to_lowercase().ends_with("_proxy");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CANCEL_WORKER_") || proxy(name)) {
        command.env_remove(name);
    }
    let settings = settings.iter().map(|(key, value)| (format!("CANCEL_WORKER__API__{key}"), *value));
    // Hosts that are not this machine would be sent Google's credentials, and there are none here.
    command.env("CANCEL_WORKER__API__CREDENTIALS__KIND", "none");
    command.args(["cancel", NAME, "--timeout", "1ms"]).envs(settings).envs(environment.iter().copied());
    command.output().unwrap()
}

/// The outcome and what was said about it.
fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn assert_cancelled(output: &Output) {
    assert!(output.status.success() && told(output).contains(r#""outcome":"cancelled""#), "{}", told(output));
}

fn assert_failed(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(12), "{}", told(output));
    for word in words {
        assert!(told(output).contains(word), "no {word:?} in {}", told(output));
    }
}

#[test]
fn a_server_of_an_unknown_authority_is_refused_and_with_the_ca_file_it_is_trusted() {
    let certificates = Certificates::new();
    let server = TlsServer::start(&certificates.sign("server", "IP:127.0.0.1"), None);
    let endpoint = format!("https://{}", server.address);
    let refused = cancel(&[("ENDPOINT", &endpoint)], &[]);
    assert_failed(
        &refused,
        &[&format!("no connection to {endpoint}: "), "UnknownIssuer", "name its CA in api.ca_file"],
    );
    assert!(server.requests().is_empty());
    let authority = certificates.authority();
    assert_cancelled(&cancel(&[("ENDPOINT", &endpoint), ("CA_FILE", text(&authority))], &[]));
    let lines = [format!("POST /v2beta1/{NAME}:cancel HTTP/1.1"), format!("GET /v2beta1/{NAME} HTTP/1.1")];
    assert_eq!(server.requests(), lines);
}

#[test]
fn a_certificate_for_another_host_is_refused_whoever_signed_it() {
    let certificates = Certificates::new();
    let server = TlsServer::start(&certificates.sign("server", "DNS:operations.example.com"), None);
    let endpoint = format!("https://{}", server.address);
    let refused = cancel(&[("ENDPOINT", &endpoint), ("CA_FILE", text(&certificates.authority()))], &[]);
    assert_failed(&refused, &["certificate not valid for name", "the host comes from api.endpoint"]);
    assert!(server.requests().is_empty());
}

#[test]
fn a_server_that_wants_a_client_certificate_gets_the_one_of_the_settings() {
    let certificates = Certificates::new();
    let server = TlsServer::start(&certificates.sign("server", "IP:127.0.0.1"), Some(&certificates));
    let (endpoint, authority) = (format!("https://{}", server.address), certificates.authority());
    let settings = [("ENDPOINT", endpoint.as_str()), ("CA_FILE", text(&authority))];
    assert_failed(&cancel(&settings, &[]), &["CertificateRequired", "set api.client_certificate_file"]);
    assert!(server.requests().is_empty());
    let client = certificates.sign("client", "DNS:worker");
    let files = [("CLIENT_CERTIFICATE_FILE", text(&client.certificate)), ("CLIENT_KEY_FILE", text(&client.key))];
    assert_cancelled(&cancel(&[&settings[..], &files].concat(), &[]));
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn calls_go_through_the_proxy_of_the_environment_and_tls_is_verified_through_it() {
    let certificates = Certificates::new();
    let server = TlsServer::start(&certificates.sign("server", &format!("DNS:{HOST}")), None);
    let proxy = ConnectProxy::start(server.address);
    let (endpoint, authority) = (format!("https://{HOST}"), certificates.authority());
    let variable = format!("http://{}", proxy.address);
    let settings = [("ENDPOINT", endpoint.as_str()), ("CA_FILE", text(&authority))];
    assert_cancelled(&cancel(&settings, &[("HTTPS_PROXY", &variable)]));
    assert_eq!((proxy.asked(), server.requests().len()), (vec![format!("CONNECT {HOST}:443 HTTP/1.1")], 2));
    assert_failed(&cancel(&settings[..1], &[("https_proxy", &variable)]), &["UnknownIssuer"]);
    assert_eq!((proxy.connections() > 1, server.requests().len()), (true, 2));
}

#[test]
fn what_no_proxy_names_and_loopback_addresses_are_called_without_the_proxy() {
    let certificates = Certificates::new();
    let server = TlsServer::start(&certificates.sign("server", "IP:127.0.0.1"), None);
    let proxy = ConnectProxy::start(server.address);
    let variable = format!("http://{}", proxy.address);
    let direct = format!("https://{HOST}");
    let environment = [("HTTPS_PROXY", variable.as_str()), ("NO_PROXY", HOST)];
    assert_failed(&cancel(&[("ENDPOINT", &direct), ("CONNECT_TIMEOUT", "2s")], &environment), &[HOST]);
    let (endpoint, authority) = (format!("https://{}", server.address), certificates.authority());
    assert_cancelled(&cancel(&[("ENDPOINT", &endpoint), ("CA_FILE", text(&authority))], &environment[..1]));
    assert_eq!((proxy.connections(), server.requests().len()), (0, 2));
}

#[test]
fn a_proxy_that_is_not_there_is_told_from_a_host_that_is_not_there() {
    // A port that nobody listens on: bound, and given back.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = format!("http://{address}");
    let told = cancel(&[("ENDPOINT", &format!("https://{HOST}"))], &[("HTTPS_PROXY", &proxy)]);
    assert_failed(&told, &["tunnel error", "the proxy comes from HTTPS_PROXY"]);
}

#[test]
fn a_file_that_is_no_certificate_or_key_is_named_with_its_setting_and_its_text_is_not_shown() {
    let certificates = Certificates::new();
    let client = certificates.sign("client", "DNS:worker");
    let folder = tempfile::tempdir().unwrap();
    let (wrong, missing) = (folder.path().join("wrong.pem"), folder.path().join("missing.pem"));
    std::fs::write(&wrong, "-----BEGIN s3cret").unwrap();
    let (wrong, missing) = (text(&wrong), text(&missing));
    let (certificate, key) = (text(&client.certificate), text(&client.key));
    for (settings, words) in [
        (&[("CA_FILE", missing)][..], &["api.ca_file", missing, "No such file", "correct the setting"][..]),
        (&[("CA_FILE", wrong)], &["api.ca_file", wrong, "BEGIN CERTIFICATE"]),
        (&[("CA_FILE", key)], &["api.ca_file", key, "BEGIN CERTIFICATE"]),
        (&[("CLIENT_KEY_FILE", key)], &["api.client_certificate_file", "api.client_key_file"]),
        (&[("CLIENT_CERTIFICATE_FILE", certificate)], &["api.client_key_file"]),
        (
            &[("CLIENT_CERTIFICATE_FILE", certificate), ("CLIENT_KEY_FILE", wrong)],
            &["api.client_key_file", wrong, "PRIVATE KEY"],
        ),
        (&[("CLIENT_CERTIFICATE_FILE", key), ("CLIENT_KEY_FILE", key)], &["api.client_certificate_file", key]),
        (&[("MTLS", "true")], &["api.mtls", "api.client_certificate_file"]),
        (&[("REP_LOCATIONS", "us.")], &["api.rep_locations"]),
        (&[("CANCEL_BODY", "empty")], &["api.cancel_body", "none", "{}"]),
        (&[("NAMES", "projects/*/operations/*,operations")], &["api.names", "\"operations\" is no pattern"]),
    ] {
        let output = cancel(settings, &[]);
        assert_eq!(output.status.code(), Some(78), "{settings:?}: {}", told(&output));
        for word in words {
            assert!(told(&output).contains(word), "no {word:?} in {}", told(&output));
        }
        assert!(!told(&output).contains("s3cret"), "{}", told(&output));
    }
}
