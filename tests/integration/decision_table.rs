//! Every row of the decision table over real HTTP: the simulator, the real client, the worker's own pursuit.

use std::sync::Arc;
use std::time::Duration;

use cancel_worker::cancellation::{Conclusion, Outcome, Policy, Progress, Reason};
use cancel_worker::message::OperationName;
use cancel_worker::operations_api::Client;
use cancel_worker::pacing::AdmissionPolicy;
use cancel_worker::settings;
use cancel_worker::simulator::{Simulator, SimulatorOptions};
use cancel_worker::worker::{CallPermits, Clock, Unlimited, drive, now, policy};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::Outcome::{Cancelled, Completed, Failed, Unimplemented};
use crate::support::get_json;

/// What a busy machine may add to a wait.
const SLACK: Duration = Duration::from_millis(700);

/// How long one operation is followed where nothing else is said: longer than any row needs.
const AMPLE: Duration = Duration::from_secs(60);

/// A deadline that rows without another end run into: after a few retries, and soon.
const SOON: Duration = Duration::from_millis(1500);

/// An answer, and the calls that were made for it: of cancel and of get.
type Expected = (Outcome, u32, u32);

/// Rows that end by themselves: the operation's id, which says what the API answers, and what must come of it.
const ROWS: &[(&str, Expected)] = &[
    // cancel: 2xx, whatever the body → get
    ("cancels", (Cancelled, 1, 1)),
    ("oddbody", (Cancelled, 1, 1)),
    // cancel: UNIMPLEMENTED, or a bare 501
    ("unimplemented", (Unimplemented, 1, 0)),
    ("unimplemented-done", (Unimplemented, 1, 0)),
    ("html501", (Unimplemented, 1, 0)),
    // cancel: FAILED_PRECONDITION → one get
    ("precondition", (Failed(Reason::NotCancellable), 1, 1)),
    ("precondition-done", (Completed, 1, 1)),
    ("precondition-cancelled", (Cancelled, 1, 1)),
    // cancel: conflict → retried three times (see `settings`), then one get
    ("aborted-1", (Cancelled, 2, 1)),
    ("aborted-3", (Cancelled, 4, 1)),
    ("exists-3", (Cancelled, 4, 1)),
    ("http499-3", (Cancelled, 4, 1)),
    ("html499-3", (Cancelled, 4, 1)),
    ("aborted-4", (Failed(Reason::NotCancellable), 4, 1)),
    ("aborted", (Failed(Reason::NotCancellable), 4, 1)),
    ("exists", (Failed(Reason::NotCancellable), 4, 1)),
    ("http499", (Failed(Reason::NotCancellable), 4, 1)),
    ("html409", (Failed(Reason::NotCancellable), 4, 1)),
    ("aborted-done", (Completed, 4, 1)),
    ("exists-cancelled", (Cancelled, 4, 1)),
    // cancel: transient → retried as often as it takes, more often than a conflict
    ("flaky-6", (Cancelled, 7, 1)),
    ("internal-6", (Cancelled, 7, 1)),
    ("unknown-6", (Cancelled, 7, 1)),
    ("deadline-6", (Cancelled, 7, 1)),
    ("dataloss-6", (Cancelled, 7, 1)),
    ("html408-2", (Cancelled, 3, 1)),
    ("html500-2", (Cancelled, 3, 1)),
    ("html502-2", (Cancelled, 3, 1)),
    ("html503-2", (Cancelled, 3, 1)),
    ("html504-2", (Cancelled, 3, 1)),
    ("html599-2", (Cancelled, 3, 1)),
    ("hangs-2", (Cancelled, 3, 1)),
    // cancel: RESOURCE_EXHAUSTED, 429, 403 with RATE_LIMIT_EXCEEDED
    ("limited-2-200ms", (Cancelled, 3, 1)),
    ("quota403-2-200ms", (Cancelled, 3, 1)),
    ("html429-5", (Cancelled, 6, 1)),
    ("retryafter-1-1", (Cancelled, 2, 1)),
    ("retrydate-1-1", (Cancelled, 2, 1)),
    // cancel: 401 → once more with renewed credentials, then with long waits
    ("unauthenticated-1", (Cancelled, 2, 1)),
    ("unauthenticated-3", (Cancelled, 4, 1)),
    // cancel: refused
    ("denied", (Failed(Reason::PermissionDenied), 1, 0)),
    ("html403", (Failed(Reason::PermissionDenied), 1, 0)),
    ("notfound", (Failed(Reason::NotFound), 4, 4)),
    ("notfound-done", (Completed, 1, 1)),
    ("notfound-cancelled", (Cancelled, 1, 1)),
    ("html404", (Failed(Reason::BadEndpoint), 1, 0)),
    ("html405", (Failed(Reason::BadEndpoint), 1, 0)),
    ("redirect", (Failed(Reason::BadEndpoint), 1, 0)),
    ("invalid", (Failed(Reason::Rejected), 1, 0)),
    ("outofrange", (Failed(Reason::Rejected), 1, 0)),
    ("html400", (Failed(Reason::Rejected), 1, 0)),
    ("html411", (Failed(Reason::Rejected), 1, 0)),
    ("html416", (Failed(Reason::Rejected), 1, 0)),
    // get: done
    ("already", (Cancelled, 1, 1)),
    ("already-done", (Completed, 1, 1)),
    ("errs-1", (Cancelled, 1, 1)),
    ("completes", (Completed, 1, 1)),
    ("errs", (Completed, 1, 1)),
    ("errs-9", (Completed, 1, 1)),
    ("empty", (Completed, 1, 1)),
    ("emptyerror", (Completed, 1, 1)),
    // get: NOT_FOUND → three more times
    ("lost-1", (Cancelled, 1, 2)),
    ("lost-3", (Cancelled, 1, 4)),
    ("lost", (Failed(Reason::OperationLost), 1, 4)),
    // get: transient
    ("flakyget-6", (Cancelled, 1, 7)),
    ("internalget-6", (Cancelled, 1, 7)),
    ("unknownget-6", (Cancelled, 1, 7)),
    ("deadlineget-2", (Cancelled, 1, 3)),
    ("datalossget-2", (Cancelled, 1, 3)),
    ("http499get-6", (Cancelled, 1, 7)),
    ("abortedget-6", (Cancelled, 1, 7)),
    ("html500get-2", (Cancelled, 1, 3)),
    ("html502get-2", (Cancelled, 1, 3)),
    ("html503get-2", (Cancelled, 1, 3)),
    ("html429get-2", (Cancelled, 1, 3)),
    ("limitedget-2-200ms", (Cancelled, 1, 3)),
    ("quota403get-2-200ms", (Cancelled, 1, 3)),
    ("retryafterget-1-1", (Cancelled, 1, 2)),
    ("retrydateget-1-1", (Cancelled, 1, 2)),
    ("hangsget-1", (Cancelled, 1, 2)),
    ("unauthenticatedget-1", (Cancelled, 1, 2)),
    // get: refused
    ("unimplementedget", (Failed(Reason::OutcomeUnknown), 1, 1)),
    ("html501get", (Failed(Reason::OutcomeUnknown), 1, 1)),
    ("deniedget", (Failed(Reason::PermissionDenied), 1, 1)),
    ("html403get", (Failed(Reason::PermissionDenied), 1, 1)),
    ("invalidget", (Failed(Reason::Rejected), 1, 1)),
    ("preconditionget", (Failed(Reason::Rejected), 1, 1)),
    ("html404get", (Failed(Reason::BadEndpoint), 1, 1)),
    ("redirectget", (Failed(Reason::BadEndpoint), 1, 1)),
    // get: 200 that cannot be decoded, or larger than the limit → three more times
    ("garbage-1", (Cancelled, 1, 2)),
    ("garbage-3", (Cancelled, 1, 4)),
    ("garbage", (Failed(Reason::ProtocolError), 1, 4)),
    ("big-1", (Cancelled, 1, 2)),
    ("big", (Failed(Reason::ProtocolError), 1, 4)),
];

/// Rows that nothing but the deadline ends: the id and the outcome.
const DEADLINES: &[(&str, Outcome)] = &[
    ("flaky", Failed(Reason::Unavailable)),
    ("cut", Failed(Reason::Unavailable)),
    ("hangs", Failed(Reason::Unavailable)),
    ("html502", Failed(Reason::Unavailable)),
    ("limited-1h", Failed(Reason::Unavailable)),
    ("flaky-done", Completed),
    ("flaky-cancelled", Cancelled),
    ("unauthenticated", Failed(Reason::Unauthenticated)),
    ("html401", Failed(Reason::Unauthenticated)),
    ("never", Failed(Reason::DeadlineExceeded)),
    ("cancels-1h", Failed(Reason::DeadlineExceeded)),
    ("flakyget", Failed(Reason::DeadlineExceeded)),
    ("cutget", Failed(Reason::DeadlineExceeded)),
    ("http499get", Failed(Reason::DeadlineExceeded)),
    ("limitedget-1h", Failed(Reason::DeadlineExceeded)),
    ("unauthenticatedget", Failed(Reason::Unauthenticated)),
    // Doubts about an operation take ten seconds; the deadline comes first.
    ("lost", Failed(Reason::DeadlineExceeded)),
    ("garbage", Failed(Reason::DeadlineExceeded)),
];

#[tokio::test]
async fn every_row_of_the_decision_table_ends_as_it_says_after_just_the_calls_it_says() {
    let api = Api::start(&[]).await;
    let done = join_all(ROWS.iter().map(|(id, _)| api.drive(id, AMPLE))).await;
    let mut wrong = Vec::new();
    for ((id, expected), pursued) in ROWS.iter().zip(&done) {
        let found: Expected = (pursued.conclusion.outcome, pursued.progress.calls.cancel, pursued.progress.calls.get);
        let seen = api.calls(id).await;
        let at_the_api = (seen["cancel_calls"].as_u64().unwrap(), seen["get_calls"].as_u64().unwrap());
        if found != *expected || at_the_api != (u64::from(expected.1), u64::from(expected.2)) || seen["too_early"] != 0
        {
            wrong.push(format!("{id}: expected {expected:?}, found {found:?}, and the API saw {seen}"));
        }
        // A failure says why; of the rest only an operation's own error is told.
        let told = pursued.conclusion.error.as_ref().is_some_and(|error| !error.message.is_empty());
        assert_eq!(told, matches!(found.0, Failed(_)) || id.starts_with("errs") && found.0 == Completed, "{id}");
        // The resource goes into the event wherever it was seen.
        assert_eq!(
            pursued.progress.operation.is_some(),
            matches!(found.0, Cancelled | Completed)
                || *id == "precondition"
                || ["aborted", "aborted-4", "exists", "http499", "html409"].contains(id),
            "{id}"
        );
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(api.stats().await["unknown_calls"], 0, "a redirect was followed, or a URL was wrong");
}

/// Each with a client of its own: what becomes of a cut depends on whether the connection had been used before.
#[tokio::test]
async fn a_cut_connection_is_a_transient_failure_if_it_was_new_and_costs_nothing_if_it_was_an_old_one() {
    for (id, expected, at_the_api) in [
        ("cut-2", (Cancelled, 3, 1), (3, 1)),
        // The cancel's connection, the same call on a new one, and the retry.
        ("cutget-2", (Cancelled, 1, 2), (1, 3)),
        ("cutget-1", (Cancelled, 1, 1), (1, 2)),
    ] {
        let api = Api::start(&[]).await;
        let Pursued { progress, conclusion, .. } = api.drive(id, AMPLE).await;
        assert_eq!((conclusion.outcome, progress.calls.cancel, progress.calls.get), expected, "{id}");
        let seen = api.calls(id).await;
        assert_eq!(
            (seen["cancel_calls"].as_u64(), seen["get_calls"].as_u64()),
            (Some(at_the_api.0), Some(at_the_api.1)),
            "{id}"
        );
    }
}

#[tokio::test]
async fn what_nothing_else_ends_ends_at_the_deadline_and_is_never_guessed() {
    let api = Api::start(&[]).await;
    let done = join_all(DEADLINES.iter().map(|(id, _)| api.drive(id, SOON))).await;
    for ((id, outcome), pursued) in DEADLINES.iter().zip(&done) {
        assert_eq!(pursued.conclusion.outcome, *outcome, "{id}: {:?}", pursued.conclusion);
        // The last call begins at the deadline, and has its time-out.
        let latest = SOON + CALL_TIMEOUT + SLACK;
        assert!(pursued.took >= SOON - Duration::from_millis(5) && pursued.took < latest, "{id}: {:?}", pursued.took);
        if *outcome == Failed(Reason::Unavailable) {
            assert_eq!(pursued.progress.calls.get, 1, "{id}: one get before the answer");
        }
    }
    let never = &done[DEADLINES.iter().position(|(id, _)| *id == "never").unwrap()];
    assert!(never.progress.operation.as_ref().unwrap().get().contains("RUNNING"), "as last seen");
}

#[tokio::test]
async fn an_api_that_hangs_is_answered_for_within_four_seconds_of_the_deadline() {
    let api = Api::start(&[("api.call_timeout", "15s")]).await;
    let seconds = [0, 1, 2, 5];
    let calling = seconds.iter().flat_map(|seconds| {
        let deadline = Duration::from_secs(*seconds);
        ["hangs", "hangsget"].map(|script| (script, deadline))
    });
    let done = join_all(calling.map(async |(script, deadline)| {
        let id = format!("{script}-d{}", deadline.as_secs());
        (script, deadline, api.drive(&id, deadline).await)
    }));
    for (script, deadline, pursued) in done.await {
        let expected = if script == "hangs" { Reason::Unavailable } else { Reason::DeadlineExceeded };
        assert_eq!(pursued.conclusion.outcome, Failed(expected), "{script}: {:?}", pursued.conclusion);
        let latest = deadline + Duration::from_secs(4) + SLACK;
        assert!(pursued.took >= deadline && pursued.took < latest, "{script} of {deadline:?}: {:?}", pursued.took);
        assert_eq!(pursued.progress.calls.cancel, 1, "{script}: it was asked for");
    }
}

#[tokio::test]
async fn a_request_whose_deadline_has_passed_gets_its_cancel_all_the_same() {
    let api = Api::start(&[]).await;
    for (id, outcome, calls) in [
        ("cancels", Cancelled, (1, 1)),
        ("completes", Completed, (1, 1)),
        ("never", Failed(Reason::DeadlineExceeded), (1, 1)),
        ("flaky", Failed(Reason::Unavailable), (1, 1)),
        ("flaky-done", Completed, (1, 1)),
        ("aborted", Failed(Reason::NotCancellable), (1, 1)),
        ("lost", Failed(Reason::DeadlineExceeded), (1, 1)),
        // Renewed credentials are worth a second call.
        ("unauthenticated", Failed(Reason::Unauthenticated), (2, 0)),
    ] {
        let pursued = api.drive(id, Duration::ZERO).await;
        let found = (pursued.progress.calls.cancel, pursued.progress.calls.get);
        assert_eq!((pursued.conclusion.outcome, found), (outcome, calls), "{id}");
        assert!(pursued.took < CALL_TIMEOUT + SLACK, "{id}: {:?}", pursued.took);
    }
}

#[tokio::test]
async fn a_wait_that_the_service_asks_for_is_kept_and_lengthened_by_no_more_than_the_jitter() {
    let api = Api::start(&[]).await;
    // The id, what it asks for, and what the form adds: a date has full seconds, rounded up.
    let second = Duration::from_secs(1);
    let asked = [
        ("limited-3-700ms", Duration::from_millis(700), Duration::ZERO),
        ("quota403-3-700ms", Duration::from_millis(700), Duration::ZERO),
        ("limitedget-3-1300ms", Duration::from_millis(1300), Duration::ZERO),
        ("retryafter-2-2", 2 * second, Duration::ZERO),
        ("retryafterget-2-2", 2 * second, Duration::ZERO),
        ("retrydate-2-2", 2 * second, second),
        ("retrydateget-2-2", 2 * second, second),
    ];
    join_all(asked.map(async |(id, wait, rounding)| {
        let pursued = api.drive(id, AMPLE).await;
        assert_eq!(pursued.conclusion.outcome, Cancelled, "{id}");
        let calls = api.calls(id).await;
        assert_eq!(calls["too_early"], 0, "{id}: {calls}");
        let gaps = gaps(&calls, |status| status != 200);
        assert!(gaps.len() >= 2, "{id}: {calls}");
        for gap in gaps {
            let longest = (wait + rounding).mul_f64(1.25) + SLACK;
            assert!(gap >= wait && gap <= longest, "{id}: {gap:?} is not from {wait:?} to {longest:?}");
        }
    }))
    .await;
}

#[tokio::test]
async fn retries_wait_longer_each_time_within_their_jitter_and_polls_shorter_within_theirs() {
    let api = Api::start(&[
        ("retry.initial", "200ms"),
        ("retry.max", "800ms"),
        ("polling.initial", "200ms"),
        ("polling.multiplier", "2"),
        ("polling.max", "800ms"),
    ])
    .await;
    let expected = [200, 400, 800, 800].map(Duration::from_millis);
    let ids: Vec<String> = (0..40).map(|number| format!("flaky-4-x{number}")).collect();
    let retried = join_all(ids.iter().map(async |id| {
        api.drive(id, AMPLE).await;
        gaps(&api.calls(id).await, |status| status == 503)
    }));
    let ids: Vec<String> = (0..40).map(|number| format!("cancels-1900ms-x{number}")).collect();
    let polled = join_all(ids.iter().map(async |id| {
        api.drive(id, AMPLE).await;
        // The first get follows the cancel at once.
        gaps(&api.calls(id).await, |status| status == 200).split_off(1)
    }));
    let (retried, polled) = tokio::join!(retried, polled);
    check_gaps(&retried, expected, 1.0, 1.25);
    check_gaps(&polled, expected, 0.9, 1.0);
}

/// Each gap lies within its bounds, and the gaps of many operations do not all lie at one place within them.
fn check_gaps(operations: &[Vec<Duration>], expected: [Duration; 4], shortest: f64, longest: f64) {
    for (place, interval) in expected.into_iter().enumerate().take(3) {
        let gaps: Vec<Duration> = operations.iter().map(|gaps| gaps[place]).collect();
        // The simulator's clock has full milliseconds.
        let bounds = (interval.mul_f64(shortest) - Duration::from_millis(2), interval.mul_f64(longest) + SLACK);
        assert!(gaps.iter().all(|gap| *gap >= bounds.0 && *gap <= bounds.1), "{place}: {bounds:?}: {gaps:?}");
        let spread = *gaps.iter().max().unwrap() - *gaps.iter().min().unwrap();
        // Of forty rolls the lowest and the highest are further apart than this but for one run in 10^20.
        assert!(spread > interval.mul_f64((longest - shortest) / 5.0), "{place}: no jitter: {gaps:?}");
    }
}

/// The times between a call whose status is `of` and the call after it.
fn gaps(calls: &Value, of: impl Fn(u64) -> bool) -> Vec<Duration> {
    let calls = calls["calls"].as_array().unwrap();
    let at = |call: &Value| call["at_ms"].as_u64().unwrap();
    let answered = calls.windows(2).filter(|pair| of(pair[0]["status"].as_u64().unwrap_or(0)));
    answered.map(|pair| Duration::from_millis(at(&pair[1]) - at(&pair[0]))).collect()
}

/// For one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// A simulator, and the real client and policy for it.
struct Api {
    url: String,
    client: Client,
    policy: Policy,
    _stop: DropGuard,
}

/// What came of an operation.
struct Pursued {
    progress: Progress,
    conclusion: Conclusion,
    took: Duration,
}

impl Api {
    /// With retries and polls that do not make a test wait, and whatever else is set.
    async fn start(others: &[(&str, &str)]) -> Self {
        let simulator = Simulator::bind(SimulatorOptions::default()).await.unwrap();
        let url = simulator.base_url();
        let stop = CancellationToken::new();
        tokio::spawn(simulator.serve(stop.clone().cancelled_owned()));
        let mut overrides = vec![("api.endpoint", url.clone())];
        let defaults = [
            ("api.call_timeout", "1s"),
            ("api.refusal_grace", "0s"),
            ("retry.initial", "20ms"),
            ("retry.max", "100ms"),
            ("retry.conflict_retries", "3"),
            ("polling.initial", "20ms"),
            ("polling.max", "100ms"),
        ];
        overrides.extend(defaults.iter().chain(others).map(|(key, value)| (*key, (*value).to_owned())));
        let settings = settings::load(&[], &overrides).unwrap().settings;
        let client = Client::new(&settings.api).unwrap();
        Self { url, client, policy: policy(&settings).unwrap(), _stop: stop.drop_guard() }
    }

    async fn drive(&self, id: &str, followed_for: Duration) -> Pursued {
        let name = OperationName::parse(format!("projects/p/locations/global/operations/{id}")).unwrap();
        let began = Instant::now();
        let progress = Progress::new(now(), now() + followed_for);
        // The table alone: neither rate limit nor circuit breaker.
        let open = CallPermits::new(AdmissionPolicy::default(), Arc::default());
        let clock = Clock::system();
        let pursuing = drive(&self.client, &open, &name, progress, &self.policy, Unlimited, &clock);
        let ended = timeout(AMPLE, pursuing).await.unwrap_or_else(|_| panic!("{id} does not end"));
        let (progress, Ok(conclusion)) = ended;
        Pursued { progress, conclusion, took: began.elapsed() }
    }

    async fn calls(&self, id: &str) -> Value {
        get_json(&format!("{}/control/calls?id={id}", self.url)).await
    }

    async fn stats(&self) -> Value {
        get_json(&format!("{}/control/stats", self.url)).await
    }
}
