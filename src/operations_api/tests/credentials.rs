use std::path::Path;

use super::server::{Server, answer, ok};
use super::*;
use crate::cancellation::FailureKind;
use crate::operations_api::Operations as _;

const REFUSED: &str = r#"{"error":{"code":401,"message":"expired","status":"UNAUTHENTICATED"}}"#;

fn client_with(server: &Server, token_file: &Path) -> Client {
    let mut settings = settings(server);
    settings.credentials =
        settings::Credentials { kind: CredentialsKind::TokenFile, token_file: Some(token_file.to_owned()) };
    Client::new(&settings).expect("a client")
}

/// The authorization header of each request.
fn authorizations(server: &Server) -> Vec<String> {
    let requests = server.requests();
    let header = |request: &String| {
        let mut headers = request.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(name, _)| name.eq_ignore_ascii_case("authorization")).expect("sent").1.to_owned()
    };
    requests.iter().map(header).collect()
}

#[tokio::test]
async fn the_token_is_sent_and_after_a_refusal_its_file_is_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").expect("written");
    let server = Server::start(|number| match number {
        0 => ok("{}"),
        1 => answer("401 Unauthorized", "", REFUSED),
        _ => ok("{\"done\":true}"),
    })
    .await;
    let client = client_with(&server, &file);
    assert!(matches!(client.cancel(&name()).await, Reply::Accepted));
    std::fs::write(&file, "other\n").expect("written");
    let refused = failure(client.get(&name()).await);
    assert_eq!(refused.kind, FailureKind::Unauthenticated);
    assert_eq!(refused.error.message, "the API answered 401 UNAUTHENTICATED: expired");
    assert!(matches!(client.get(&name()).await, Reply::Operation(_)));
    assert_eq!(authorizations(&server), ["Bearer first", "Bearer first", "Bearer other"]);
}

#[tokio::test]
async fn a_rotated_token_is_sent_without_any_refusal() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "first").expect("written");
    let server = Server::start(|_| ok("{}")).await;
    let client = client_with(&server, &file);
    assert!(matches!(client.cancel(&name()).await, Reply::Accepted));
    let next = folder.path().join("next");
    std::fs::write(&next, "other").expect("written");
    std::fs::rename(&next, &file).expect("replaced");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    assert!(matches!(client.cancel(&name()).await, Reply::Accepted));
    assert_eq!(authorizations(&server), ["Bearer first", "Bearer other"]);
}

#[tokio::test]
async fn without_a_readable_token_no_call_is_made_and_the_answer_names_the_file() {
    let server = Server::start(|_| ok("{}")).await;
    let client = client_with(&server, Path::new("/nowhere/token"));
    let failure = failure(client.cancel(&name()).await);
    assert_eq!(failure.kind, FailureKind::Unauthenticated);
    let message = failure.error.message;
    assert!(message.starts_with("failed to read the token from /nowhere/token: "), "{message}");
    assert!(message.contains("api.credentials.token_file"), "{message}");
    assert_eq!(server.connections(), 0);
}
