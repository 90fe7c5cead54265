//! The decision table in `src/README.md` is what `next_step` does, row by row.

use cancel_worker::cancellation::{
    ErrorDetail, Failure, FailureKind, Operation, OperationStatus, Outcome, Phase, Policy, Progress, Reason, Reply,
    Step, next_step,
};
use cancel_worker::google_rpc::Code;
use cancel_worker::message::OperationName;
use cancel_worker::operations_api::{Call, classify};
use cancel_worker::{settings, worker};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::json;
use time::OffsetDateTime;
use time::macros::datetime;

use crate::markdown::{quoted, read, table};

const NOW: OffsetDateTime = datetime!(2026-01-31 12:00 UTC);
const LATER: OffsetDateTime = datetime!(2026-01-31 13:00 UTC);

const KINDS: [(&str, FailureKind); 13] = [
    ("unimplemented", FailureKind::Unimplemented),
    ("failed_precondition", FailureKind::FailedPrecondition),
    ("not_found", FailureKind::NotFound),
    ("conflict", FailureKind::Conflict),
    ("unavailable", FailureKind::Unavailable),
    ("rate_limited", FailureKind::RateLimited),
    ("unauthenticated", FailureKind::Unauthenticated),
    ("permission_denied", FailureKind::PermissionDenied),
    ("foreign_project", FailureKind::ForeignProject),
    ("bad_endpoint", FailureKind::BadEndpoint),
    ("unknown_host", FailureKind::UnknownHost),
    ("no_endpoint", FailureKind::NoEndpoint),
    ("rejected", FailureKind::Rejected),
];

/// The reason of the refused cancel whose get decides.
const REFUSAL: Reason = Reason::NotCancellable;

fn policy() -> Policy {
    worker::policy(&settings::load(&[], &[]).unwrap().settings).unwrap()
}

fn error() -> ErrorDetail {
    ErrorDetail { message: "words".to_owned(), ..ErrorDetail::default() }
}

/// The replies that a first cell names: `` `unavailable`, `conflict` ``, with a remark after a colon.
fn replies(cell: &str) -> Vec<Reply> {
    let (names, remark) = cell.split_once(':').unwrap_or((cell, ""));
    let operation = |done, code: Option<i32>| {
        let error = code.map(|code| OperationStatus { code, message: String::new() });
        let resource = serde_json::value::to_raw_value(&json!({ "done": done })).unwrap();
        Reply::Operation(Operation { resource: resource.into(), done, error })
    };
    let reply = |name: &str| match name {
        "accepted" => Reply::Accepted,
        "done" if remark.contains("code") => operation(true, Some(1)),
        "done" => operation(true, Some(13)),
        "not done" => operation(false, None),
        "undecodable" => Reply::Undecodable { detail: "words".to_owned() },
        kind => {
            let (_, kind) =
                KINDS.into_iter().find(|(name, _)| *name == kind).unwrap_or_else(|| panic!("no reply {kind}"));
            Reply::Failure(Failure { kind, error: error(), retry_after: None })
        }
    };
    quoted(names).into_iter().map(reply).collect()
}

/// What is done next, in the words of the table.
fn next(progress: &Progress, step: &Step) -> String {
    let failed = |reason: &Reason| format!("*failed* `{}`", reason.as_str());
    match (step, &progress.phase) {
        (Step::Cancel, _) => "cancel".to_owned(),
        (Step::Get, Phase::Verifying { reason, .. }) if *reason != REFUSAL || progress.calls.get == 0 => {
            format!("get, else {}", failed(reason))
        }
        (Step::Get, _) => "get".to_owned(),
        (Step::Wait(_) | Step::WaitBehind, Phase::Cancelling) => "wait, cancel".to_owned(),
        (Step::Wait(_) | Step::WaitBehind, _) => "wait, get".to_owned(),
        (Step::Finish(conclusion), _) => match conclusion.outcome {
            Outcome::Failed(reason) => failed(&reason),
            outcome => format!("**{}**", outcome.as_str()),
        },
    }
}

/// Compares the table after the line `heading` with what follows from each reply in this phase.
fn check(heading: &str, phase: &Phase) {
    let text = read("src/README.md");
    let (_, after) = text.split_once(heading).unwrap();
    let rows = table(after, "| reply |");
    let mut named = Vec::new();
    for row in &rows {
        for reply in replies(&row[0]) {
            named.push(quoted(&row[0])[0].to_owned());
            for (cell, now) in [(&row[1], NOW), (&row[2], LATER)] {
                let mut progress = Progress::new(NOW, LATER);
                progress.phase = phase.clone();
                progress.renewed = row[0].contains("the next");
                let (progress, step) = next_step(progress, reply.clone(), false, now, 0.0, &policy());
                let expected = cell.replace("the refusal's *failed*", &format!("*failed* `{}`", REFUSAL.as_str()));
                assert_eq!(expected, next(&progress, &step), "{heading} {row:?}");
            }
        }
    }
    for (name, _) in KINDS {
        let is_named = rows.iter().any(|row| quoted(&row[0]).contains(&name) || row[0].contains("any other"));
        assert!(is_named, "{heading} misses {name}");
    }
}

#[test]
fn after_the_cancel_the_table_says_what_next_step_does() {
    check("After the cancel call:", &Phase::Cancelling);
}

#[test]
fn in_the_get_that_decides_the_table_says_what_next_step_does() {
    check("The get that decides", &Phase::Verifying { reason: REFUSAL, error: error() });
}

#[test]
fn after_an_accepted_cancel_the_table_says_what_next_step_does() {
    check("The gets after an accepted cancel:", &Phase::Polling);
}

/// How often a row says that something is repeated, it is.
#[test]
fn what_is_repeated_before_it_is_believed_is_repeated_as_often_as_the_table_says() {
    let text = read("src/README.md");
    for (start, phase) in [
        ("| `conflict`: five times, then as at the deadline", Phase::Cancelling),
        ("| `not_found`: three times, then *failed* `operation_lost`", Phase::Polling),
        ("| `undecodable`: three times, then *failed* `protocol_error`", Phase::Polling),
    ] {
        let row = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no row {start}"));
        let reply = replies(row.trim_start_matches("| ").split(" |").next().unwrap()).remove(0);
        let mut progress = Progress::new(NOW, LATER);
        progress.phase = phase;
        let mut waits = 0;
        let step = loop {
            let (after, step) = next_step(progress, reply.clone(), false, NOW, 0.0, &policy());
            progress = after;
            if !matches!(step, Step::Wait(_)) {
                break step;
            }
            waits += 1;
        };
        let said = if row.contains("five times") { 5 } else { 3 };
        assert_eq!(waits, said, "{row}");
        let then = row.split("then ").nth(1).unwrap();
        let then = if then.starts_with("as at") { row.rsplit(" | ").next().unwrap() } else { then };
        assert!(then.starts_with(&next(&progress, &step)), "{row}: {}", next(&progress, &step));
    }
}

#[test]
fn each_status_is_the_reply_that_the_table_says() {
    let rows = table(&read("src/README.md"), "| reply | `error.status` |");
    let mut names = 0;
    for row in rows {
        let (_, kind) = KINDS.into_iter().find(|(name, _)| *name == quoted(&row[0])[0]).unwrap();
        let asked = OperationName::parse("projects/p/operations/o").unwrap();
        let fails = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            match classify(Call::Get, &asked, status, &HeaderMap::new(), body.as_bytes(), NOW) {
                Reply::Failure(failure) => failure.kind,
                other => panic!("{other:?}"),
            }
        };
        let statuses = row[1].split(';').next().unwrap();
        for name in quoted(statuses) {
            names += 1;
            assert_eq!(fails(418, &json!({"error": {"status": name}}).to_string()), kind, "{name}");
        }
        let http = row[2].split(';').next().unwrap();
        for status in http.split(", ").filter_map(|status| status.parse().ok()) {
            assert_eq!(fails(status, ""), kind, "HTTP {status}");
        }
    }
    let codes = (1..=16).filter_map(Code::from_number).count();
    assert_eq!(names, codes, "every code of google.rpc but OK");
}
