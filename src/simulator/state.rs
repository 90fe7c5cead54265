use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::fault::Fault;
use super::injected_faults::InjectedFaults;
use super::operation::{Answer, Method, Operation, Record};
use super::store::{Listed, Store};
use super::target::{Resource, last_segment};
use crate::google_rpc::Code;

/// All that the simulator knows. Every answer is decided here, without I/O; the time is an argument.
pub(super) struct SimulatorState {
    began: Instant,
    began_wall: OffsetDateTime,
    token: Option<String>,
    pub(super) store: Store,
    pub(super) injected_faults: InjectedFaults,
    counts: Counts,
}

/// A call for an operation.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) resource: &'a Resource<'a>,
    pub(super) headers: CallHeaders<'a>,
    /// Whether a cancel's body is empty, as it must be.
    pub(super) body_is_empty: bool,
}

/// The headers of a call that matter here.
#[derive(Default)]
pub(super) struct CallHeaders<'a> {
    /// The whole header; it is compared, and never kept.
    pub(super) authorization: Option<&'a str>,
    pub(super) content_length: Option<u32>,
    pub(super) user_project: Option<&'a str>,
}

/// Totals since the beginning or the last reset.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Counts {
    cancel_calls: u64,
    get_calls: u64,
    list_calls: u64,
    /// Calls for what the front end does not know, and POSTs without a length.
    unknown_calls: u64,
    too_early: u64,
    /// Calls that were left without an answer: `hangs`, `cut`.
    unanswered: u64,
    answers: BTreeMap<u16, u64>,
}

/// The totals as the control endpoint shows them.
#[derive(Debug, Serialize)]
pub(super) struct Totals {
    uptime_ms: u64,
    operations: usize,
    forgotten: u64,
    #[serde(flatten)]
    counts: Counts,
}

impl SimulatorState {
    pub(super) fn new(limit: usize, seed: u64, token: Option<String>, now: Instant, wall: OffsetDateTime) -> Self {
        Self {
            began: now,
            began_wall: wall,
            token,
            store: Store::new(limit),
            injected_faults: InjectedFaults::new(seed),
            counts: Counts::default(),
        }
    }

    /// Answers a call, so much later.
    pub(super) fn call(&mut self, call: &Call<'_>, now: Instant) -> (Answer, Duration) {
        let (refusal, latency) = self.refusal(call.resource, &call.headers);
        let at = self.millis(now);
        let (answer, too_early) = self.store.with(&call.resource.name, |operation| {
            let answer = match refusal {
                Some(fault) => Answer::Fault(fault),
                None if call.body_is_empty => operation.call(call.method, now),
                None => Answer::BadBody,
            };
            (answer, log_call(operation, call, answer, at, now))
        });
        match call.method {
            Method::Cancel => self.counts.cancel_calls += 1,
            Method::Get => self.counts.get_calls += 1,
        }
        self.counts.too_early += u64::from(too_early);
        self.count_answer(answer.status());
        (answer, latency)
    }

    /// Answers a list call, so much later.
    pub(super) fn list(
        &mut self,
        parent: &Resource<'_>,
        headers: &CallHeaders<'_>,
        page: Option<(u64, usize)>,
        now: Instant,
    ) -> (Result<Listed, Answer>, Duration) {
        let (refusal, latency) = self.refusal(parent, headers);
        let listed = match (refusal, page) {
            (Some(fault), _) => Err(Answer::Fault(fault)),
            (None, None) => Err(Answer::Fault(Fault::Code(Code::InvalidArgument))),
            (None, Some((from, max))) => Ok(self.store.list(&parent.name, from, max, now)),
        };
        self.counts.list_calls += 1;
        self.count_answer(listed.as_ref().map_or_else(|answer| answer.status(), |_| Some(200)));
        (listed, latency)
    }

    /// Counts a call that the front end answers.
    pub(super) fn count_unknown(&mut self, status: u16) {
        self.counts.unknown_calls += 1;
        self.count_answer(Some(status));
    }

    /// From now on calls must carry this bearer token; `None`: any or none.
    pub(super) fn set_token(&mut self, token: Option<String>) {
        self.token = token;
    }

    /// Forgets operations, scripts and counts. The injected faults and the token stay.
    pub(super) fn reset(&mut self) {
        self.store.clear();
        self.counts = Counts::default();
    }

    pub(super) fn totals(&self, now: Instant) -> Totals {
        Totals {
            uptime_ms: u64::from(self.millis(now)),
            operations: self.store.len(),
            forgotten: self.store.forgotten(),
            counts: self.counts.clone(),
        }
    }

    /// Milliseconds since the Unix epoch of a record's time.
    pub(super) fn unix_millis(&self, at: u32) -> i128 {
        self.began_wall.unix_timestamp_nanos() / 1_000_000 + i128::from(at)
    }

    /// What a call gets before any operation is asked, and how much later: the injected faults first, then the token.
    fn refusal(&mut self, resource: &Resource<'_>, headers: &CallHeaders<'_>) -> (Option<Fault>, Duration) {
        let (fault, latency) = self.injected_faults.inject(resource.location(), last_segment(&resource.name));
        let unauthenticated = self.token.as_deref().is_some_and(|token| headers.bearer() != Some(token));
        (fault.or(unauthenticated.then_some(Fault::Code(Code::Unauthenticated))), latency)
    }

    fn millis(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u32::MAX)
    }

    fn count_answer(&mut self, status: Option<u16>) {
        match status {
            Some(status) => *self.counts.answers.entry(status).or_default() += 1,
            None => self.counts.unanswered += 1,
        }
    }
}

impl<'a> CallHeaders<'a> {
    fn bearer(&self) -> Option<&'a str> {
        self.authorization?.strip_prefix("Bearer ")
    }
}

/// Writes a call into its operation's log. Tells whether it came too early.
fn log_call(operation: &mut Operation, call: &Call<'_>, answer: Answer, at: u32, now: Instant) -> bool {
    let too_early = operation.is_too_early(now);
    if let Answer::Fault(fault) = answer
        && let Some(wait) = fault.asked_wait()
    {
        operation.ask_to_wait(wait, now);
    }
    let log = &mut operation.log;
    log.add(Record {
        at,
        status: answer.status().unwrap_or(0),
        method: call.method,
        too_early,
        authorized: call.headers.authorization.is_some(),
    });
    if call.method == Method::Cancel {
        log.content_length = call.headers.content_length;
    }
    if log.user_project.as_deref() != call.headers.user_project {
        log.user_project = call.headers.user_project.map(Into::into);
    }
    too_early
}
