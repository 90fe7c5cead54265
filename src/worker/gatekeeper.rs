use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::clock::dice;
use super::patience::{Cause, Pause};
use crate::cancellation::{ErrorDetail, Failure, FailureKind, Reply};
use crate::message::OperationName;
use crate::operations_api::Operations;
use crate::retry::{Admission, Change, Gate, GatePolicy, Key, News, Ticket};

/// Stands before the Operations API: whether a call goes now, and what its answer means for the calls after it. One for
/// each process, shared by all that is pursued.
#[derive(Debug)]
pub struct Gatekeeper {
    /// None where neither breaker nor limit is in force.
    gate: Option<Mutex<Gate>>,
    /// Whether projects are limited: otherwise nobody needs to look for them.
    by_project: bool,
}

/// An operation before the gate.
#[derive(Debug)]
pub(super) struct Caller<'a> {
    name: &'a OperationName,
    /// The gate, the endpoint and the project; none where every call goes.
    before: Option<(&'a Mutex<Gate>, Key, Option<Key>)>,
}

/// Leave to make one call. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    name: &'a OperationName,
    issued: Option<(&'a Mutex<Gate>, Ticket)>,
}

impl Gatekeeper {
    /// For all that this process pursues.
    #[must_use]
    pub fn new(policy: GatePolicy) -> Self {
        let needed = policy != GatePolicy::default();
        Self {
            gate: needed.then(|| Mutex::new(Gate::new(policy, Instant::now().into_std()))),
            by_project: policy.project.is_some(),
        }
    }

    pub(super) fn caller<'a, O: Operations>(&'a self, operations: &O, name: &'a OperationName) -> Caller<'a> {
        let before = self.gate.as_ref().and_then(|gate| {
            let endpoint = operations.endpoint(name)?;
            Some((gate, endpoint, self.by_project.then(|| Key::of(name.project()))))
        });
        Caller { name, before }
    }
}

impl<'a> Caller<'a> {
    /// Leave to call now, or how long to wait before asking again. It is a `retry` if the operation's last call found the
    /// endpoint unavailable.
    pub(super) fn ask(&self, retry: bool) -> Result<Pass<'a>, Pause> {
        self.admitted(|gate, endpoint, project, now| gate.admit(endpoint, project, retry, now, dice()))
    }

    /// How long to wait after a call that tried the endpoint in vain: behind all others.
    pub(super) fn wait_behind(&self) -> Pause {
        let wait = self.before.map(|(gate, endpoint, _)| lock(gate).wait_behind(endpoint, Instant::now().into_std()));
        Pause { wait: wait.unwrap_or_default(), cause: Cause::Outage }
    }

    /// Leave to call now, whatever others may be waiting for: the deadline has come.
    pub(super) fn insist(&self) -> Result<Pass<'a>, Pause> {
        self.admitted(Gate::admit_last)
    }

    fn admitted(
        &self,
        admit: impl FnOnce(&mut Gate, Key, Option<Key>, std::time::Instant) -> Admission,
    ) -> Result<Pass<'a>, Pause> {
        let Some((gate, endpoint, project)) = self.before else { return Ok(Pass { name: self.name, issued: None }) };
        match admit(&mut lock(gate), endpoint, project, Instant::now().into_std()) {
            Admission::Go(ticket) => Ok(Pass { name: self.name, issued: Some((gate, ticket)) }),
            Admission::Turn(wait) => Err(Pause { wait, cause: Cause::Turn }),
            Admission::Outage(wait) => Err(Pause { wait, cause: Cause::Outage }),
        }
    }
}

impl Pass<'_> {
    /// Whether the call tries an endpoint that was unavailable.
    pub(super) fn is_probe(&self) -> bool {
        self.issued.as_ref().is_some_and(|(_, ticket)| ticket.is_probe())
    }

    /// Makes the call. One that the endpoint does not answer, as it answers no other, is given up before its time-out.
    pub(super) async fn call(mut self, call: impl Future<Output = Reply>) -> Reply {
        let Some((gate, ticket)) = &self.issued else { return call.await };
        let mut call = pin!(call);
        let began = Instant::now();
        let reply = loop {
            let Some(patience) = lock(gate).patience(ticket, Instant::now().into_std()) else {
                break given_up(began.elapsed());
            };
            if let Ok(reply) = timeout(patience, &mut call).await {
                break reply;
            }
        };
        let news = news(&reply, self.name);
        self.tell(news, Some(&reply));
        reply
    }

    fn tell(&mut self, news: News, reply: Option<&Reply>) {
        let Some((gate, ticket)) = self.issued.take() else { return };
        let change = lock(gate).learn(&ticket, news, Instant::now().into_std());
        let operation = self.name;
        match change {
            Some(Change::Opened) => {
                let error = match reply {
                    Some(Reply::Failure(failure)) => failure.error.message.as_str(),
                    _ => "",
                };
                warn!(
                    %operation,
                    error,
                    "the circuit breaker opened: the API is unavailable there; requests wait, and one call at a time tries it"
                );
            }
            Some(Change::Closed) => info!(%operation, "the circuit breaker closed: the API answers again"),
            None => {}
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.tell(News::Dropped, None);
    }
}

fn lock(gate: &Mutex<Gate>) -> MutexGuard<'_, Gate> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

fn news(reply: &Reply, operation: &OperationName) -> News {
    match reply {
        Reply::Failure(Failure { kind: FailureKind::Unavailable, .. }) => {
            News::Unavailable(Key::of(operation.as_str()))
        }
        Reply::Failure(Failure { kind: FailureKind::RateLimited, retry_after, .. }) => News::Throttled(*retry_after),
        Reply::NotMade(_) => News::Dropped,
        _ => News::Answered,
    }
}

fn given_up(after: Duration) -> Reply {
    let message = format!("no answer within {:.1} s (breaker.silence)", after.as_secs_f64());
    let error = ErrorDetail { message, ..ErrorDetail::default() };
    Reply::Failure(Failure { kind: FailureKind::Unavailable, error, retry_after: None })
}
