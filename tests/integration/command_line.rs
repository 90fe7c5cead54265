//! The commands beside `run`.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, ExchangeDeleteOptions};
use lapin::types::FieldTable;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::support::{SimulatedApi, worker_command};
use crate::test_env::{PATIENCE, TestEnv, key_of, operation, run_command};

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test]
async fn cancel_prints_each_outcome_and_ends_with_the_number_of_the_worst() {
    let api = SimulatedApi::start().await;
    for (ids, code) in [
        (&["cancels-a", "already-a"][..], 0),
        (&["cancels-b", "completes-b"], 10),
        (&["completes-c", "unimplemented-c", "cancels-c"], 11),
        (&["denied-d", "completes-d", "unimplemented-d", "cancels-d"], 12),
    ] {
        let names: Vec<String> = ids.iter().map(|id| operation(id)).collect();
        let mut arguments = vec!["cancel", "--endpoint", api.url()];
        arguments.extend(names.iter().map(String::as_str));
        let ended = run_command(&arguments, &[], "").await;
        assert_eq!(ended.code, code, "{ended:?}");
        let mut told: Vec<(String, String)> = json_lines(&ended.stdout)
            .iter()
            .map(|line| (line["name"].as_str().unwrap().to_owned(), line["outcome"].as_str().unwrap().to_owned()))
            .collect();
        told.sort();
        let word = |name: &String| match name.rsplit('/').next().unwrap().split('-').next().unwrap() {
            "completes" => "completed",
            "unimplemented" => "unimplemented",
            "denied" => "failed",
            _ => "cancelled",
        };
        let mut expected: Vec<(String, String)> =
            names.iter().map(|name| (name.clone(), word(name).to_owned())).collect();
        expected.sort();
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn cancel_says_why_it_failed_and_follows_no_longer_than_asked() {
    let api = SimulatedApi::start().await;
    let name = operation("never-a");
    let ended = run_command(&["cancel", &name, "--endpoint", api.url(), "--timeout", "1s"], &[], "").await;
    assert_eq!(ended.code, 12);
    let line = &json_lines(&ended.stdout)[0];
    assert_eq!(line["error"]["reason"], "deadline_exceeded", "{line}");
    assert_eq!(line["attempts"]["cancel"], 1);
}

/// As `cancel --from-file names.txt | head -n 1`.
#[tokio::test]
async fn cancel_goes_on_when_nobody_reads_what_it_prints_and_says_the_rest_elsewhere() {
    let api = SimulatedApi::start().await;
    let names: Vec<String> = (0..40).map(|number| operation(&format!("cancels-{}ms-a", 10 * number))).collect();
    let mut arguments = vec!["cancel", "--endpoint", api.url(), "--concurrency", "4"];
    arguments.extend(names.iter().map(String::as_str));
    let mut command = worker_command(&arguments, &[]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let (told, outcomes): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.starts_with("cancel-worker: "));
    assert_eq!(told.len(), 1, "{said}");
    assert!(told[0].contains("the other outcomes follow here"), "{said}");
    // What was in the pipe when it was closed is nowhere.
    assert!(outcomes.len() > 20 && outcomes.iter().all(|line| line.contains(r#""outcome":"cancelled""#)), "{said}");
    assert_eq!(api.stats().await["cancel_calls"], 40);
}

#[tokio::test]
async fn request_refuses_what_the_worker_would_refuse_before_it_publishes_any() {
    let env = TestEnv::new().await;
    let name = operation("cancels-a");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("context.json");
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(9000));
    std::fs::write(&file, &long).unwrap();
    let context = format!("@{}", file.display());
    let mut environment = env.environment();
    environment.push(("CANCEL_WORKER__WORKER__REQUEST_LIMIT", "8KiB"));
    for (arguments, words) in [
        (["--context", context.as_str()], "the body has 9"),
        (["--reason", &"x".repeat(5000)], "`reason`"),
        (["--request-id", ""], "`request_id`"),
        (["--context", "@/nowhere"], "failed to use --context: file \"/nowhere\""),
    ] {
        let refused = run_command(&["request", &name, arguments[0], arguments[1]], &environment, "").await;
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains(words) && refused.stderr.lines().count() == 1, "{}", refused.stderr);
    }
    // There are no queues yet: it did not get so far. With room enough the file is taken.
    let (context, environment) = (context.as_str(), env.environment());
    let taken = run_command(&["request", &name, "--context", context], &environment, "").await;
    assert_eq!(taken.code, 0, "{taken:?}");
    env.depth_becomes("requests", 1).await;
    env.end().await;
}

#[tokio::test]
async fn names_come_from_a_file_or_from_standard_input_and_a_bad_line_stops_everything_before_any_call() {
    let api = SimulatedApi::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("names.txt");
    let path = file.to_str().unwrap();
    let text = format!("# to be cancelled\n\n{}\n  {}\n# the end\n", operation("cancels-a"), operation("cancels-b"));
    std::fs::write(&file, &text).unwrap();
    let command = ["cancel", "--endpoint", api.url(), "--from-file"];

    let from_file = run_command(&[&command[..], &[path]].concat(), &[], "").await;
    assert_eq!((from_file.code, json_lines(&from_file.stdout).len()), (0, 2), "{from_file:?}");
    let input = text.replace("-a\n", "-c\n").replace("-b\n", "-d\n");
    let from_input = run_command(&[&command[..], &["-"]].concat(), &[], &input).await;
    assert_eq!((from_input.code, json_lines(&from_input.stdout).len()), (0, 2), "{from_input:?}");
    assert_eq!(api.stats().await["cancel_calls"], 4);

    std::fs::write(&file, format!("{text}nonsense\n")).unwrap();
    let bad = run_command(&[&command[..], &[path]].concat(), &[], "").await;
    assert_eq!((bad.code, bad.stdout.as_str()), (1, ""), "{bad:?}");
    let sentence = format!("cancel-worker: failed to use line 6 of {path}: the operation's name is not of the form ");
    assert!(bad.stderr.starts_with(&sentence) && bad.stderr.lines().count() == 1, "{}", bad.stderr);
    std::fs::write(&file, "# nothing\n").unwrap();
    let empty = run_command(&[&command[..], &[path]].concat(), &[], "").await;
    assert_eq!(empty.code, 1);
    assert_eq!(empty.stderr, "cancel-worker: there is no operation to cancel: no name was given\n");
    let missing = run_command(&[&command[..], &["/nowhere/names"]].concat(), &[], "").await;
    assert!(missing.code == 1 && missing.stderr.contains("/nowhere/names: No such file"), "{missing:?}");
    assert_eq!(run_command(&["cancel"], &[], "").await.code, 2, "wrong arguments");
    assert_eq!(api.stats().await["cancel_calls"], 4, "nothing more was called");
}

#[tokio::test]
async fn request_publishes_as_upstream_would_and_prints_the_events_that_it_waits_for() {
    let mut env = TestEnv::new().await;
    let _worker = env.worker().await;
    let environment = env.environment();
    let name = operation("completes-a");
    let arguments = [
        "request",
        &name,
        "--request-id",
        "r-1",
        "--reason",
        "why",
        "--requested-by",
        "ann",
        "--context",
        r#"{"a": 1.50}"#,
        "--timeout",
        "5m",
        "--wait",
        "--wait-for",
        "1m",
    ];
    let waited = run_command(&arguments, &environment, "").await;
    assert_eq!(waited.code, 10, "{waited:?}");
    let (event, key) = (&json_lines(&waited.stdout)[0], key_of("request_id", "r-1", &name));
    assert_eq!((&event["requestkey"], &event["data"]["outcome"]), (&json!(key), &json!("completed")));
    assert_eq!((&event["data"]["reason"], &event["data"]["requested_by"]), (&json!("why"), &json!("ann")));
    assert!(waited.stdout.contains(r#""context":{"a": 1.50}"#), "{}", waited.stdout);

    let names = [operation("cancels-b"), operation("cancels-c")];
    let published = run_command(&["request", &names[0], &names[1]], &environment, "").await;
    assert_eq!(published.code, 0, "{published:?}");
    let mut lines = json_lines(&published.stdout);
    lines.sort_by_key(|line| line["name"].to_string());
    for (line, name) in lines.iter().zip(&names) {
        assert_eq!(*line, json!({ "name": name, "identity": name, "request_key": key_of("name", name, name) }));
        assert_eq!(env.event_for(name).await.outcome(), "cancelled");
    }
    let two = run_command(&["request", &names[0], &names[1], "--request-id", "x"], &environment, "").await;
    assert!(two.code == 1 && two.stderr.contains("--request-id is the identity of one request"), "{two:?}");
    env.end().await;
}

#[tokio::test]
async fn request_gives_up_waiting_when_asked_to_and_says_that_nothing_is_lost() {
    let env = TestEnv::new().await;
    let name = operation("cancels-a");
    let ended = run_command(&["request", &name, "--wait", "--wait-for", "300ms"], &env.environment(), "").await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.stderr.contains("1 of 1 events did not come within 300ms; the requests are in the broker"),
        "{ended:?}"
    );
    env.depth_becomes("requests", 1).await;
    env.end().await;
}

#[tokio::test]
async fn a_request_that_no_queue_takes_is_told_of() {
    let mut env = TestEnv::new().await;
    let exchange = env.queue("nobody-is-bound");
    let (options, channel) = (ExchangeDeclareOptions { durable: true, ..Default::default() }, env.amqp.channel().await);
    let (name, kind) = (exchange.as_str().into(), ExchangeKind::Topic);
    channel.exchange_declare(name, kind, options, FieldTable::default()).await.unwrap();
    env.set("amqp.topology.external.requests_exchange", &exchange);
    let name = operation("cancels-a");
    let ended = run_command(&["request", &name], &env.environment(), "").await;
    assert_eq!((ended.code, ended.stdout.as_str()), (69, ""), "{ended:?}");
    let sentence = format!(
        "cancel-worker: failed to publish the request for {name}: no queue is bound to exchange \"{exchange}\" for routing key \"cancel\""
    );
    assert!(ended.stderr.starts_with(&sentence) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
    channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await.unwrap();
    env.end().await;
}

#[tokio::test]
async fn check_shows_each_setting_with_its_source_and_hides_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let base = file("base.toml", "[amqp]\nprefetch = 10\nheartbeat = \"20s\"\nuri = \"amqp://me:h1dden@broker/%2f\"\n");
    let more =
        file("more.toml", "[amqp]\nprefetch = 11\nconfirm_timeout = \"40s\"\n[amqp.topology]\nprefix = \"files\"\n");
    let environment = [("CANCEL_WORKER__AMQP__CONFIRM_TIMEOUT", "50s")];
    let ended = run_command(&["check", "--config", &base, "--config", &more], &environment, "").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let line = |key: &str| {
        let start = format!("{key} = ");
        let line = ended.stdout.lines().map(str::trim).find(|line| line.starts_with(&start));
        line.unwrap_or_else(|| panic!("no {key} in {}", ended.stdout)).to_owned()
    };
    // The file may be named by another path than was given.
    let source = |key: &str| {
        let line = line(key);
        let (setting, source) = line.split_once("  (").unwrap();
        let source = source.strip_suffix(')').unwrap();
        (setting.to_owned(), std::fs::canonicalize(source).unwrap_or_else(|_| source.into()).display().to_string())
    };
    for (key, value, from) in [
        ("amqp.prefetch", "11", more.as_str()),
        ("amqp.heartbeat", "20s", &base),
        ("amqp.topology.prefix", "files", &more),
        ("amqp.uri", "amqp://me@broker:5672/%2f", &base),
        ("amqp.confirm_timeout", "50s", "the environment"),
        ("amqp.reconnect_max", "2s", "built-in"),
    ] {
        assert_eq!(source(key), (format!("{key} = {value}"), from.to_owned()));
    }
    assert!(!ended.stdout.contains("h1dden"));
    assert!(ended.stdout.ends_with("ok   settings: valid\n"), "{}", ended.stdout);
}

#[tokio::test]
async fn check_opens_every_file_that_a_setting_names_and_says_what_others_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, "text").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (open, closed) = (file("open", 0o644), file("closed", 0o640));
    let check = async |environment: &[(&str, &str)]| run_command(&["check"], environment, "").await;

    let token = "CANCEL_WORKER__API__CREDENTIALS__TOKEN_FILE";
    let kind = ("CANCEL_WORKER__API__CREDENTIALS__KIND", "token_file");
    let warned = check(&[(token, &open), kind]).await;
    let told =
        format!("WARN settings: api.credentials.token_file names {open:?}, which every user of this machine may read");
    assert!(warned.code == 0 && warned.stdout.contains(&told), "{warned:?}");
    assert!(!check(&[(token, &closed), kind]).await.stdout.contains("WARN settings"));
    let missing = check(&[(token, "/nowhere/token"), kind]).await;
    let told = "FAIL files: api.credentials.token_file names \"/nowhere/token\", which cannot be read: No such file";
    assert!(missing.code == 1 && missing.stdout.contains(told), "{missing:?}");
    let no_certificate = check(&[("CANCEL_WORKER__API__CA_FILE", &open)]).await;
    assert!(no_certificate.code == 1 && no_certificate.stdout.contains("FAIL api: "), "{no_certificate:?}");
    assert!(no_certificate.stdout.contains("api.ca_file"), "{no_certificate:?}");

    let uri_file = file("uri", 0o640);
    std::fs::write(&uri_file, "amqp://other-broker").unwrap();
    let checked = check(&[("CANCEL_WORKER__AMQP__URI_FILE", &uri_file)]).await.stdout;
    assert!(checked.contains("amqp.uri = (not used: amqp.uri_file goes before it)"), "{checked}");

    for (uri, warns) in [
        ("amqp://me:secret@broker/%2f", true),
        ("amqp://me:secret@[::1]/%2f", false),
        ("amqp://me:secret@localhost/%2f", false),
        ("amqps://me:secret@broker/%2f", false),
    ] {
        let checked = check(&[("CANCEL_WORKER__AMQP__URI", uri)]).await;
        assert_eq!(checked.stdout.contains("goes over the network as it is"), warns, "{uri}: {checked:?}");
        assert!(!checked.stdout.contains("secret"), "{checked:?}");
    }
}

#[tokio::test]
async fn check_online_tells_what_is_there_and_changes_nothing() {
    let mut env = TestEnv::new().await;
    let before = run_command(&["check", "--online"], &env.environment(), "").await;
    assert_eq!(before.code, 0, "{before:?}");
    assert!(before.stdout.contains("is not there yet; `cancel-worker run` will declare it"), "{}", before.stdout);
    assert_eq!(env.amqp.queue_depth(&env.queue("requests")).await, None, "nothing was declared");
    let _worker = env.worker().await;
    let after = run_command(&["check", "--online"], &env.environment(), "").await;
    assert_eq!(after.code, 0, "{after:?}");
    let queue = env.queue("requests");
    assert!(
        after.stdout.contains(&format!("ok   topology: queue \"{queue}\" is there: 0 ready, 1 consumers")),
        "{after:?}"
    );
    assert!(after.stdout.contains("ok   api: no location: the endpoint serves the API"), "{}", after.stdout);

    let wrong = crate::support::free_port();
    env.set("api.endpoint", &format!("http://127.0.0.1:{wrong}"));
    let wrong = run_command(&["check", "--online"], &env.environment(), "").await;
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.stdout.contains("FAIL api: no location: "), "{}", wrong.stdout);
    env.end().await;
}

#[tokio::test]
async fn a_token_that_is_replaced_is_used_and_no_token_is_ever_shown() {
    const TOKENS: [&str; 3] = ["t0ken-of-the-first-hour", "t0ken-of-the-second-hour", "t0ken-of-the-third-hour"];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, TOKENS[0]).unwrap();
    let mut env = TestEnv::new().await;
    env.api.set_token(TOKENS[0]).await;
    env.set("api.credentials.kind", "token_file");
    env.set("api.credentials.token_file", file.to_str().unwrap());
    env.set("log.filter", "trace");
    // Until the next look at a token that was refused twice.
    env.set("retry.max", "1s");
    let worker = env.worker().await;
    env.request("cancels-a").await;
    assert_eq!(env.event_for("cancels-a").await.attempts(), (1, 1));

    // The token file is rewritten a little after the token has run out.
    env.api.set_token(TOKENS[1]).await;
    env.request("cancels-b").await;
    while env.api.calls("cancels-b").await["cancel_calls"].as_u64() < Some(2) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    std::fs::write(&file, format!("{}\n", TOKENS[1])).unwrap();
    let event = env.event_for("cancels-b").await;
    assert_eq!(event.verdict(), "cancelled");
    assert!(event.attempts().0 >= 3, "refused, refused again after the renewal, accepted: {}", event.data());

    // And once in time: the refusal alone makes the worker read it anew.
    std::fs::write(&file, TOKENS[2]).unwrap();
    env.api.set_token(TOKENS[2]).await;
    env.request("cancels-c").await;
    let event = env.event_for("cancels-c").await;
    assert_eq!(event.verdict(), "cancelled");
    assert!(event.attempts().0 <= 2, "{}", event.data());

    // Not quietly: every detail of the HTTP client was logged.
    worker.line_with("cancels-c", PATIENCE).await;
    for line in worker.lines() {
        assert!(!TOKENS.iter().any(|token| line.contains(token)), "a token is shown: {line}");
        assert!(!line.contains("Bearer "), "a header is shown: {line}");
    }
    let check = run_command(&["check", "--online"], &env.environment(), "").await;
    assert_eq!(check.code, 0, "{check:?}");
    assert!(!TOKENS.iter().any(|token| check.stdout.contains(token) || check.stderr.contains(token)));
    env.end().await;
}
