//! Google's credentials, each kind against stubs of those who issue tokens.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cancel_worker::cancellation::{Failure, FailureKind, Reply};
use cancel_worker::message::OperationName;
use cancel_worker::operations_api::{Client, Operations as _};
use cancel_worker::settings;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::google_stub::{Stub, bearer};
use crate::support::{Amqp, Broker, Process, persistent};

const SOON: Duration = Duration::from_secs(20);

const PROJECT: &str = "api.credentials.quota_project";

fn name() -> OperationName {
    OperationName::parse("projects/p/locations/global/operations/o").unwrap()
}

/// A file in a folder of the test's own.
fn file(folder: &TempDir, content: &Value) -> PathBuf {
    let path = folder.path().join("credentials.json");
    std::fs::write(&path, content.to_string()).unwrap();
    path
}

/// A client of the stub's API, with the credentials in a file.
fn client(stub: &Stub, path: &Path, more: &[(&str, &str)]) -> Client {
    let mut overrides = vec![
        ("api.endpoint", stub.url("")),
        ("api.credentials.kind", "google".to_owned()),
        ("api.credentials.file", path.to_str().unwrap().to_owned()),
    ];
    overrides.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
    Client::new(&settings::load(&[], &overrides).unwrap().settings.api).unwrap()
}

fn failure(reply: Reply) -> Failure {
    match reply {
        Reply::Failure(failure) | Reply::NotMade(failure) => failure,
        other => panic!("no failure: {other:?}"),
    }
}

fn is_operation(reply: &Reply) -> bool {
    matches!(reply, Reply::Operation(_))
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Bytes of URL-safe base64, by the standard alphabet's decoder of openssl.
fn decoded(text: &str, folder: &TempDir) -> Vec<u8> {
    let mut standard = text.replace('-', "+").replace('_', "/");
    while !standard.len().is_multiple_of(4) {
        standard.push('=');
    }
    let (encoded, plain) = (folder.path().join("base64"), folder.path().join("plain"));
    std::fs::write(&encoded, standard).unwrap();
    openssl(&["base64", "-d", "-A", "-in", encoded.to_str().unwrap(), "-out", plain.to_str().unwrap()]);
    std::fs::read(plain).unwrap()
}

#[tokio::test]
async fn a_service_account_signs_its_own_token_which_its_public_key_confirms() {
    let stub = Stub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    openssl(&["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &at("key")]);
    openssl(&["pkey", "-in", &at("key"), "-pubout", "-out", &at("public")]);
    let key = std::fs::read_to_string(at("key")).unwrap();
    let path = file(
        &folder,
        &json!({"type": "service_account", "client_email": "worker@p.iam.gserviceaccount.com", "private_key_id": "k1",
            "private_key": key, "project_id": "p", "token_uri": "https://oauth2.googleapis.com/token"}),
    );
    let client = client(&stub, &path, &[(PROJECT, "billed")]);

    assert!(is_operation(&client.get(&name()).await));
    assert!(matches!(client.cancel(&name()).await, Reply::Accepted));

    let calls = stub.world().calls.clone();
    let token = bearer(&calls[0]).unwrap();
    assert_eq!(bearer(&calls[1]), Some(token));
    assert_eq!(calls[0]["x-goog-user-project"], "billed");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let claims: Value = serde_json::from_slice(&decoded(signed.split_once('.').unwrap().1, &folder)).unwrap();
    assert_eq!(claims["iss"], "worker@p.iam.gserviceaccount.com");
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
    std::fs::write(at("signature"), decoded(signature, &folder)).unwrap();
    std::fs::write(at("signed"), signed).unwrap();
    openssl(&["dgst", "-sha256", "-verify", &at("public"), "-signature", &at("signature"), &at("signed")]);
    assert_eq!(stub.fetches(), 0);
    let who = client.caller(&name()).await.unwrap();
    assert!(who.starts_with("the service account worker@p.iam.gserviceaccount.com"), "{who}");
}

#[tokio::test]
async fn a_users_token_is_fetched_once_however_many_calls_wait_for_it() {
    let stub = Stub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut user = stub.authorized_user();
    user["quota_project_id"] = "from-file".into();
    let client = Arc::new(client(&stub, &file(&folder, &user), &[]));

    let mut calls = JoinSet::new();
    for _ in 0..300 {
        let client = Arc::clone(&client);
        calls.spawn(async move { is_operation(&client.get(&name()).await) });
    }
    assert!(calls.join_all().await.into_iter().all(|answered| answered));

    let world = stub.world();
    let [(request, _, body)] = &world.fetches[..] else { panic!("{} fetches", world.fetches.len()) };
    assert_eq!(request, "POST /token");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["grant_type"], &body["refresh_token"]), (&"refresh_token".into(), &"1//r3fresh-t0ken".into()));
    assert_eq!(world.calls.len(), 300);
    assert!(world.calls.iter().all(|call| call["x-goog-user-project"] == "from-file"));
}

#[tokio::test]
async fn an_impersonated_service_account_is_asked_for_with_the_callers_token() {
    let stub = Stub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let principal = "/v1/projects/-/serviceAccounts/worker@p.iam.gserviceaccount.com:generateAccessToken";
    let path = file(
        &folder,
        &json!({"type": "impersonated_service_account", "service_account_impersonation_url": stub.url(principal),
            "source_credentials": stub.authorized_user(), "delegates": []}),
    );
    let client = client(&stub, &path, &[]);

    assert!(is_operation(&client.get(&name()).await));

    let who = client.caller(&name()).await.unwrap();
    assert!(who.starts_with("the service account worker@p.iam.gserviceaccount.com (impersonated"), "{who}");
    let world = stub.world();
    assert_eq!(
        world.fetches.iter().map(|fetch| fetch.0.as_str()).collect::<Vec<_>>(),
        ["POST /token".to_owned(), format!("POST {principal}")]
    );
    assert!(bearer(&world.fetches[1].1).unwrap().ends_with("-0"));
    assert!(world.fetches[1].2.contains("auth/cloud-platform"), "{}", world.fetches[1].2);
    assert!(bearer(&world.calls[0]).unwrap().ends_with("-1"));
}

#[tokio::test]
async fn workload_identity_federation_exchanges_the_providers_token_with_and_without_a_service_account() {
    for impersonates in [false, true] {
        let stub = Stub::start().await;
        let folder = tempfile::tempdir().unwrap();
        let subject = folder.path().join("subject");
        std::fs::write(&subject, "subject-of-the-provider").unwrap();
        let audience = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/provider";
        let mut account = json!({"type": "external_account", "audience": audience, "token_url": stub.url("/sts"),
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "credential_source": {"file": subject}});
        if impersonates {
            let url = stub.url("/v1/projects/-/serviceAccounts/worker@p.iam.gserviceaccount.com:generateAccessToken");
            account["service_account_impersonation_url"] = url.into();
        }
        let client = client(&stub, &file(&folder, &account), &[]);

        assert!(is_operation(&client.get(&name()).await));

        let who = client.caller(&name()).await.unwrap();
        assert!(who.contains(if impersonates { "worker@p.iam" } else { audience }), "{who}");
        let world = stub.world();
        assert_eq!(world.fetches.len(), 1 + usize::from(impersonates));
        assert!(world.fetches[0].2.contains("subject_token=subject-of-the-provider"), "{}", world.fetches[0].2);
        assert!(bearer(&world.calls[0]).unwrap().ends_with(if impersonates { "-1" } else { "-0" }));
    }
}

/// `cancel` of one operation as a process with this environment; everything that it prints.
async fn cancel(stub: &Stub, home: &Path, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let endpoint = stub.url("");
    let mut all = vec![
        ("CANCEL_WORKER__API__ENDPOINT", endpoint.as_str()),
        ("CANCEL_WORKER__API__CREDENTIALS__KIND", "google"),
        ("CANCEL_WORKER__LOG__FILTER", "trace"),
        ("HOME", home.to_str().unwrap()),
        ("GCE_METADATA_HOST", stub.address()),
        ("GOOGLE_APPLICATION_CREDENTIALS", ""),
        ("GOOGLE_CLOUD_QUOTA_PROJECT", "from-environment"),
    ];
    all.extend_from_slice(environment);
    let mut process = Process::worker(&["cancel", "--timeout", "3s", name().as_str()], &all);
    let code = process.wait().await.code();
    (code, process.lines().join("\n"))
}

#[tokio::test]
async fn credentials_are_found_in_googles_order_variable_then_gclouds_file_then_metadata_server() {
    let stub = Stub::start().await;
    let home = tempfile::tempdir().unwrap();
    let gcloud = home.path().join(".config/gcloud");
    std::fs::create_dir_all(&gcloud).unwrap();
    let variable = home.path().join("variable.json");
    let user = |path: &str| {
        let mut user = stub.authorized_user();
        user["token_uri"] = stub.url(path).into();
        user.to_string()
    };
    std::fs::write(gcloud.join("application_default_credentials.json"), user("/gcloud")).unwrap();
    std::fs::write(&variable, user("/variable")).unwrap();

    let (code, printed) =
        cancel(&stub, home.path(), &[("GOOGLE_APPLICATION_CREDENTIALS", variable.to_str().unwrap())]).await;
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(cancel(&stub, home.path(), &[]).await.0, Some(0));
    std::fs::remove_dir_all(&gcloud).unwrap();
    assert_eq!(cancel(&stub, home.path(), &[]).await.0, Some(0));

    let world = stub.world();
    let metadata = "GET /computeMetadata/v1/instance/service-accounts/default/token\
                    ?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform";
    let asked: Vec<&str> = world.fetches.iter().map(|fetch| fetch.0.as_str()).collect();
    assert_eq!(asked, ["POST /variable", "POST /gcloud", metadata]);
    assert_eq!(world.fetches[2].1["metadata-flavor"], "Google");
    assert!(world.calls.iter().all(|call| call["x-goog-user-project"] == "from-environment"));
}

#[tokio::test]
async fn a_key_that_was_given_for_the_name_of_its_file_is_not_shown() {
    let stub = Stub::start().await;
    let home = tempfile::tempdir().unwrap();
    let key = r#"{"type": "service_account", "private_key": "h1dden-key"}"#;
    let (code, printed) = cancel(&stub, home.path(), &[("GOOGLE_APPLICATION_CREDENTIALS", key)]).await;
    assert_eq!(code, Some(12), "{printed}");
    assert!(printed.contains("correct the environment's GOOGLE_APPLICATION_CREDENTIALS"), "{printed}");
    assert!(!printed.contains("h1dden"), "{printed}");
}

#[tokio::test]
async fn by_default_a_loopback_endpoint_gets_no_token_and_none_is_fetched() {
    let stub = Stub::start().await;
    let home = tempfile::tempdir().unwrap();
    let (code, printed) = cancel(&stub, home.path(), &[("CANCEL_WORKER__API__CREDENTIALS__KIND", "auto")]).await;
    assert_eq!((code, stub.fetches()), (Some(12), 0), "{printed}");
    assert!(stub.world().calls.iter().all(|call| !call.contains_key("authorization")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_end_after_seconds_are_renewed_under_load_without_a_stall_or_an_expired_token() {
    const LIFETIME: Duration = Duration::from_secs(3);
    let stub = Stub::start().await;
    stub.world().lifetime = Some(LIFETIME);
    let folder = tempfile::tempdir().unwrap();
    let client = Arc::new(client(&stub, &file(&folder, &stub.authorized_user()), &[]));
    let end = Instant::now() + 3 * LIFETIME + Duration::from_secs(1);

    let mut callers = JoinSet::new();
    for _ in 0..200 {
        let client = Arc::clone(&client);
        callers.spawn(async move {
            let (mut answered, mut longest) = (0, Duration::ZERO);
            while Instant::now() < end {
                let began = Instant::now();
                let reply = client.get(&name()).await;
                assert!(is_operation(&reply), "{reply:?}");
                (answered, longest) = (answered + 1, longest.max(began.elapsed()));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (answered, longest)
        });
    }
    let told = callers.join_all().await;

    let (answered, longest) = (told.iter().map(|t| t.0).sum::<u32>(), told.iter().map(|t| t.1).max().unwrap());
    let (fetches, world) = (stub.fetches(), stub.world());
    println!("{answered} calls, the longest took {longest:?}; {fetches} fetches, {} expired", world.expired);
    assert_eq!((world.refused, world.expired), (0, 0));
    assert!((4..=5).contains(&fetches), "{fetches} fetches");
    assert!(longest < Duration::from_secs(2), "a call took {longest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_401s_one_fetch_mends_all_and_a_storm_of_them_does_not_reach_the_token_server() {
    let stub = Stub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let client = Arc::new(client(&stub, &file(&folder, &stub.authorized_user()), &[]));
    let all = || {
        let mut calls = JoinSet::new();
        for _ in 0..300 {
            let client = Arc::clone(&client);
            calls.spawn(async move {
                while !is_operation(&client.get(&name()).await) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
        calls.join_all()
    };
    all().await;
    assert_eq!(stub.fetches(), 1);

    // Long enough after the first fetch for the next to be due.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    stub.revoke_all();
    let began = Instant::now();
    all().await;
    assert_eq!(stub.fetches(), 2, "one fetch for 300 calls that met a 401");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());

    // The API takes nothing for 5 s: 300 callers ask 50 times a second each.
    stub.world().refuse_all = true;
    let (stormed, before) = (all(), stub.world().refused);
    let mend = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        stub.world().refuse_all = false;
    };
    tokio::join!(stormed, mend);
    let (fetches, refused) = (stub.fetches() - 2, stub.world().refused - before);
    println!("a storm of 5 s: {fetches} fetches, {refused} calls refused by the API");
    assert!((1..=4).contains(&fetches), "{fetches} fetches");
}

#[tokio::test]
async fn what_the_token_server_says_is_told_with_what_to_do_and_nothing_secret() {
    let stub = Stub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let client = client(&stub, &file(&folder, &stub.authorized_user()), &[("api.call_timeout", "1s")]);
    let secret = "x".repeat(40);
    let body = json!({"error": "invalid_grant", "error_description": format!("revoked: 1//r3fresh-t0ken cl1ent-s3cret {secret}")});
    stub.world().token_fault = Some((400, body.to_string()));

    let failed = failure(client.get(&name()).await);

    assert_eq!(failed.kind, FailureKind::Unauthenticated);
    let message = &failed.error.message;
    println!("{message}");
    assert!(
        message.contains("invalid_grant") && message.contains("gcloud auth application-default login"),
        "{message}"
    );
    assert!(["r3fresh", "cl1ent-s3cret", secret.as_str()].iter().all(|text| !message.contains(text)), "{message}");
    assert!(failed.retry_after.is_some());
    let again = failure(client.get(&name()).await);
    assert_eq!((again.error.message.as_str(), stub.fetches()), (message.as_str(), 1), "told again, not fetched again");

    tokio::time::sleep(failed.retry_after.unwrap()).await;
    stub.world().token_fault = None;
    stub.world().silent = true;
    assert!(failure(client.get(&name()).await).error.message.starts_with("there was no token within 1s"));
    stub.world().silent = false;
    assert_eq!(stub.world().calls.len(), 0);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_with_what_is_wrong_and_nothing_is_sent() {
    let stub = Stub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let with = |field: &str, value: Value| {
        let mut user = stub.authorized_user();
        user[field] = value;
        user.to_string()
    };
    for (content, words) in [
        ("{\"client_secret\": \"cl1ent-s3cret\"".to_owned(), "it is not JSON (line 1"),
        (with("type", "gdch_service_account".into()), "\"gdch_service_account\", and must be service_account"),
        (
            json!({"type": "authorized_user", "client_id": "i", "refresh_token": "1//r3fresh"}).to_string(),
            "missing field `client_secret`",
        ),
        (with("client_secret", 7.into()), "invalid type"),
        (with("token_uri", "http://192.0.2.1/token".into()), "its token_uri (http://192.0.2.1) is not https"),
        (
            json!({"type": "impersonated_service_account", "source_credentials": {"token_uri": "ftp://localhost/"}})
                .to_string(),
            "its token_uri (ftp://localhost) is not https",
        ),
    ] {
        let path = file(&folder, &Value::Null);
        std::fs::write(&path, content).unwrap();
        let message = failure(client(&stub, &path, &[]).get(&name()).await).error.message;
        assert!(message.starts_with(&format!("failed to use the credentials in {}", path.display())), "{message}");
        assert!(message.contains(words) && message.contains("api.credentials.file"), "{message}");
        assert!(!message.contains("s3cret") && !message.contains("r3fresh"), "{message}");
    }
    let missing = failure(client(&stub, Path::new("/nowhere/key.json"), &[]).get(&name()).await).error.message;
    assert!(missing.starts_with("failed to read the credentials in /nowhere/key.json: No such file"), "{missing}");
    assert_eq!((stub.fetches(), stub.world().calls.len()), (0, 0));
}

/// What must appear nowhere: the access token, what it is bought with, and the key of the metadata server's answer.
const SECRETS: [&str; 4] = ["c4nary", "r3fresh", "cl1ent-s3cret", "Bearer ya29"];

fn assert_no_secret(what: &str, text: &str) {
    for secret in SECRETS {
        let found = text.find(secret).map(|at| &text[text.floor_char_boundary(at.saturating_sub(200))..at]);
        assert_eq!(found, None, "{what} holds {secret:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_logs_everything_lives_through_a_storm_of_401s_loses_no_request_and_tells_no_secret() {
    const REQUESTS: u16 = 300;
    let stub = Stub::start().await;
    {
        let mut world = stub.world();
        world.canary = "c4nary".repeat(6);
        world.echo = true;
    }
    let folder = tempfile::tempdir().unwrap();
    let credentials = file(&folder, &stub.authorized_user());
    let (prefix, endpoint) = (Broker::unique_prefix(), stub.url(""));
    let environment = [
        ("CANCEL_WORKER__AMQP__URI", Broker::shared().uri()),
        ("CANCEL_WORKER__AMQP__TOPOLOGY__PREFIX", &prefix),
        ("CANCEL_WORKER__API__ENDPOINT", &endpoint),
        ("CANCEL_WORKER__API__CREDENTIALS__KIND", "google"),
        ("CANCEL_WORKER__API__CREDENTIALS__FILE", credentials.to_str().unwrap()),
        ("CANCEL_WORKER__LOG__FILTER", "trace,lapin=off"),
    ];
    let mut worker = Process::worker(&["run"], &environment);
    worker.line_with("\"consuming\"", SOON).await;
    let amqp = Amqp::connect(Broker::shared().uri()).await;
    let publish = async |count: u16, timeout: &str| {
        for number in 0..count {
            let body =
                json!({"name": name().as_str(), "request_id": format!("{timeout}-{number}"), "timeout": timeout});
            amqp.publish(&format!("{prefix}.requests"), "r", body.to_string().as_bytes(), persistent()).await;
        }
    };
    let results = format!("{prefix}.results");

    // Half are answered; then the API takes no token for 3 s, and only new ones after that.
    publish(REQUESTS / 2, "1m").await;
    let mut events = amqp.drain(&results, REQUESTS / 2, SOON).await;
    stub.revoke_all();
    stub.world().refuse_all = true;
    publish(REQUESTS / 2, "1m").await;
    publish(1, "1s").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    stub.world().refuse_all = false;
    events.extend(amqp.drain(&results, REQUESTS / 2 + 1, 2 * SOON).await);

    let bodies: Vec<String> = events.iter().map(|event| String::from_utf8(event.data.clone()).unwrap()).collect();
    let with =
        |outcome: &str| bodies.iter().filter(|body| body.contains(&format!("\"outcome\":\"{outcome}\""))).count();
    assert_eq!((with("cancelled"), with("failed")), (usize::from(REQUESTS), 1));
    let (fetches, refused) = (stub.fetches(), stub.world().refused);
    println!("{REQUESTS} answers; {fetches} tokens fetched, {refused} calls refused");
    assert!((2..=5).contains(&fetches), "{fetches} fetches");
    assert!(refused > 0);
    let dead = amqp.drain(&format!("{prefix}.dead"), 1, SOON).await;
    assert_eq!(dead.len(), 1);
    worker.signal("TERM");
    assert!(worker.wait().await.success());
    let log = worker.lines().join("\n");
    assert!(log.contains("TRACE"), "the log is not at TRACE");

    stub.world().refuse_all = true;
    let mut check = Process::worker(&["check", "--online"], &environment);
    check.wait().await;
    let checked = check.lines().join("\n");
    assert!(checked.contains("ok   credentials: the user who logged in to gcloud"), "{checked}");
    assert!(checked.contains("FAIL api: "), "{checked}");
    let arguments = ["cancel", "--timeout", "1s", "projects/p/operations/o"];
    let mut cancel = Process::worker(&arguments, &environment);
    assert_eq!(cancel.wait().await.code(), Some(12));

    assert_no_secret("the log", &log);
    assert_no_secret("an event", &bodies.join("\n"));
    assert_no_secret(
        "the dead letter",
        &format!("{} {:?}", String::from_utf8_lossy(&dead[0].data), dead[0].properties),
    );
    assert_no_secret("what check prints", &checked);
    assert_no_secret("what cancel prints", &cancel.lines().join("\n"));
}
