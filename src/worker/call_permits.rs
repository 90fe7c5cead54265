use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, interval, timeout};
use tracing::{info, warn};

use super::api_problems::ApiProblems;
use super::clock::jitter;
use super::waiting::{Wait, WaitReason};
use crate::cancellation::{ErrorDetail, Failure, FailureKind, Reply};
use crate::message::OperationName;
use crate::operations_api::{CallSent, Operations};
use crate::pacing::{Admission, AdmissionPolicy, AdmittedCall, CallResult, CallTarget, Decision, Key, StateChange};
use crate::telemetry::Meters;
use crate::telemetry::meters::{BreakerState, NotReady};

/// Problems that no call meets any more are looked for so often.
const FORGET_INTERVAL: Duration = Duration::from_secs(5);

/// Stands before the Operations API: whether a call goes now, and what its answer means for the calls after it. One for
/// each process, shared by all operations.
#[derive(Debug)]
pub struct CallPermits {
    admission: Mutex<Admission>,
    /// Whether projects are limited.
    by_project: AtomicBool,
    problems: Mutex<ApiProblems>,
    meters: Arc<Meters>,
}

/// An operation that asks for permits.
#[derive(Debug)]
pub(super) struct OperationPermits<'a> {
    name: &'a OperationName,
    all: &'a CallPermits,
    /// None: no call will be made.
    target: Option<CallTarget>,
}

/// Permit to make one call. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    name: &'a OperationName,
    all: &'a CallPermits,
    target: Option<CallTarget>,
    issued: Option<AdmittedCall>,
}

impl CallPermits {
    /// For all operations of this process.
    #[must_use]
    pub fn new(policy: AdmissionPolicy, meters: Arc<Meters>) -> Self {
        Self {
            admission: Mutex::new(Admission::new(policy)),
            by_project: AtomicBool::new(policy.project.is_some()),
            problems: Mutex::default(),
            meters,
        }
    }

    /// From now on this counts; what is known of endpoints stays.
    pub(super) fn set_policy(&self, policy: AdmissionPolicy) {
        self.by_project.store(policy.project.is_some(), Relaxed);
        lock(&self.admission).set_policy(policy, Instant::now().into_std());
        self.measure();
    }

    /// What the API's answers tell that somebody has to mend, each a sentence.
    #[must_use]
    pub fn problems(&self) -> watch::Receiver<Vec<(NotReady, String)>> {
        lock(&self.problems).watch()
    }

    /// Forgets problems that no call has met for some time, for ever.
    pub(super) async fn forget_old_problems(&self) {
        let mut ticks = interval(FORGET_INTERVAL);
        loop {
            ticks.tick().await;
            lock(&self.problems).time_passed(Instant::now().into_std());
            self.measure();
        }
    }

    /// Tells of the circuit breakers, and of endpoints that refuse.
    fn measure(&self) {
        let breakers = lock(&self.admission).breakers();
        self.meters.breakers(BreakerState::Closed, breakers.closed);
        self.meters.breakers(BreakerState::Open, breakers.open);
        self.meters.breakers(BreakerState::HalfOpen, breakers.half_open);
        self.meters.refusing_endpoints(lock(&self.problems).refusing_endpoints());
    }

    pub(super) fn permits<'a, O: Operations>(
        &'a self,
        operations: &O,
        name: &'a OperationName,
    ) -> OperationPermits<'a> {
        let target = operations.endpoint(name).map(|endpoint| CallTarget {
            endpoint: endpoint.key,
            in_settings: endpoint.in_settings,
            project: Key::of(name.project()),
            operation: Key::of(name.as_str()),
        });
        OperationPermits { name, all: self, target }
    }
}

impl<'a> OperationPermits<'a> {
    /// A permit to call now, or how long to wait before asking again. It is a `retry` if the operation's last call found the
    /// endpoint unavailable.
    pub(super) fn acquire(&self, retry: bool) -> Result<Permit<'a>, Wait> {
        self.admitted(|admission, endpoint, project, now| admission.acquire(endpoint, project, retry, now, jitter()))
    }

    /// Where calls are counted.
    pub(super) fn meters(&self) -> &'a Meters {
        &self.all.meters
    }

    /// How long to wait after a call that tried the endpoint in vain: behind all others.
    pub(super) fn wait_behind(&self) -> Wait {
        let wait =
            |target: CallTarget| lock(&self.all.admission).wait_behind(target.endpoint, Instant::now().into_std());
        let wait = self.target.map(wait);
        Wait { wait: wait.unwrap_or_default(), reason: WaitReason::CircuitOpen }
    }

    /// A permit to call now, whatever others may be waiting for: the deadline has come. `retry` as for
    /// [`acquire`](Self::acquire).
    pub(super) fn acquire_at_deadline(&self, retry: bool) -> Result<Permit<'a>, Wait> {
        self.admitted(|admission, endpoint, project, now| admission.acquire_at_deadline(endpoint, project, retry, now))
    }

    fn admitted(
        &self,
        admit: impl FnOnce(&mut Admission, Key, Option<Key>, std::time::Instant) -> Decision,
    ) -> Result<Permit<'a>, Wait> {
        let Self { name, all, target } = *self;
        let Some(CallTarget { endpoint, project, .. }) = target else {
            return Ok(Permit { name, all, target, issued: None });
        };
        let project = all.by_project.load(Relaxed).then_some(project);
        match admit(&mut lock(&all.admission), endpoint, project, Instant::now().into_std()) {
            Decision::Go(admitted) => Ok(Permit { name, all, target, issued: Some(admitted) }),
            Decision::RateLimited(wait) => Err(Wait { wait, reason: WaitReason::RateLimited }),
            Decision::CircuitOpen(wait) => Err(Wait { wait, reason: WaitReason::CircuitOpen }),
        }
    }
}

impl Permit<'_> {
    /// Whether the call tries an endpoint that was unavailable.
    pub(super) fn is_probe(&self) -> bool {
        self.issued.as_ref().is_some_and(AdmittedCall::is_probe)
    }

    /// Makes the call. One that the endpoint does not answer, as it answers no other, is given up before its time-out. The
    /// time for that begins when the call is `sent`: a token that is long in coming is no silence of the endpoint.
    pub(super) async fn call(mut self, sent: &CallSent, call: impl Future<Output = Reply>) -> Reply {
        let mut reply = match &mut self.issued {
            None => call.await,
            Some(admitted) => answer_in_time(&self.all.admission, admitted, sent, call).await,
        };
        if let Some(target) = self.target {
            let mut problems = lock(&self.all.problems);
            let now = Instant::now().into_std();
            problems.judge(&mut reply, &target, now);
            problems.heard(&reply, &target, self.name, now);
            drop(problems);
            if self.record(call_result(&reply, &target)) {
                self.say_opened(&reply, &target);
            }
        }
        reply
    }

    /// Gives the permit back; tells whether that opened the circuit breaker.
    fn record(&mut self, call_result: CallResult) -> bool {
        let Some(admitted) = self.issued.take() else { return false };
        let change = lock(&self.all.admission).record(&admitted, call_result, Instant::now().into_std());
        match change {
            Some(StateChange::Opened) => self.all.meters.breaker_opened(),
            Some(StateChange::Closed) => {}
            None => return false,
        }
        self.all.measure();
        if change == Some(StateChange::Closed) {
            info!(operation = %self.name, "the circuit breaker closed: the API answers again");
        }
        change == Some(StateChange::Opened)
    }

    fn say_opened(&self, reply: &Reply, target: &CallTarget) {
        let operation = self.name;
        if lock(&self.all.problems).opened(reply, target, operation) {
            info!(%operation, "the circuit breaker opened: one call at a time tries whether the API is there again");
            return;
        }
        let error = match reply {
            Reply::Failure(failure) => failure.error.message.as_str(),
            _ => "",
        };
        warn!(
            %operation,
            error,
            "the circuit breaker opened: the API is unavailable there; requests wait, and one call at a time tries it"
        );
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.record(CallResult::Dropped);
    }
}

/// The reply, or that there was none for so long that the endpoint is taken to be silent.
async fn answer_in_time(
    admission: &Mutex<Admission>,
    admitted: &mut AdmittedCall,
    sent: &CallSent,
    call: impl Future<Output = Reply>,
) -> Reply {
    let mut call = pin!(call);
    let before = tokio::select! {
        biased;
        reply = &mut call => Some(reply),
        () = sent.told() => None,
    };
    let began = Instant::now();
    admitted.sent(began.into_std());
    // Answered at once, or never sent.
    if let Some(reply) = before {
        return reply;
    }
    loop {
        let Some(left) = lock(admission).time_left(admitted, Instant::now().into_std()) else {
            return given_up(began.elapsed());
        };
        if let Ok(reply) = timeout(left, &mut call).await {
            return reply;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn call_result(reply: &Reply, target: &CallTarget) -> CallResult {
    match reply {
        Reply::Failure(Failure { kind, .. }) if kind.is_unavailable() => CallResult::Unavailable(target.operation),
        Reply::Failure(Failure { kind: FailureKind::RateLimited, retry_after, .. }) => {
            CallResult::Throttled(*retry_after)
        }
        Reply::NotMade(_) => CallResult::Dropped,
        _ => CallResult::Answered,
    }
}

fn given_up(after: Duration) -> Reply {
    let message = format!("no answer within {:.1} s (breaker.silence)", after.as_secs_f64());
    let error = ErrorDetail { message, ..ErrorDetail::default() };
    Reply::Failure(Failure { kind: FailureKind::Unavailable, error, retry_after: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations_api::{Call, ServingEndpoint};
    use crate::pacing::BreakerPolicy;

    /// Answers at once, as soon as it has a token.
    struct SlowToken;

    impl Operations for SlowToken {
        async fn call(&self, _call: Call, _name: &OperationName, sent: &CallSent) -> Reply {
            tokio::time::sleep(Duration::from_secs(8)).await;
            sent.tell();
            tokio::time::sleep(Duration::from_secs(2)).await;
            Reply::Accepted
        }

        fn endpoint(&self, _name: &OperationName) -> Option<ServingEndpoint> {
            Some(ServingEndpoint { key: Key::of("endpoint"), in_settings: true })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_long_in_coming_is_no_silence_of_the_endpoint() {
        let breaker = BreakerPolicy {
            failures: 10,
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_secs(3),
            retries: 8,
        };
        let call_permits =
            CallPermits::new(AdmissionPolicy { breaker: Some(breaker), ..AdmissionPolicy::default() }, Arc::default());
        let name = OperationName::parse("projects/p/locations/l/operations/o").expect("a name");
        let permits = call_permits.permits(&SlowToken, &name);
        let call = async |retry| {
            let sent = CallSent::default();
            permits.acquire(retry).expect("closed").call(&sent, SlowToken.call(Call::Cancel, &name, &sent)).await
        };
        let calls = (0..12).map(|number| call(number % 4 == 0));
        for reply in futures_util::future::join_all(calls).await {
            assert!(matches!(reply, Reply::Accepted), "{reply:?}");
        }
    }
}
