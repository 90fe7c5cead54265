use std::time::{Duration, Instant};

use super::bounded_map::{Crowd, Forgettable, Seat};
use super::circuit_breaker::{BreakerDecision, BreakerPolicy, Call, CallResult, CircuitBreaker, StateChange};
use super::key::Key;
use super::rate_limiter::{RateLimiter, RatePolicy};

/// What is in force; nothing where `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AdmissionPolicy {
    /// For each endpoint.
    pub breaker: Option<BreakerPolicy>,
    /// For each endpoint.
    pub endpoint: Option<RatePolicy>,
    /// For each project.
    pub project: Option<RatePolicy>,
}

/// Whether a call goes.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub enum Decision {
    /// It goes, and its end has to be told to [`Admission::record`].
    Go(AdmittedCall),
    /// Others go first: ask again after this.
    RateLimited(Duration),
    /// The endpoint is unavailable: ask again after about this.
    CircuitOpen(Duration),
}

/// A call under way.
#[derive(Clone, Copy, Debug)]
pub struct AdmittedCall {
    endpoint: Seat,
    project: Option<Seat>,
    call: Call,
}

impl AdmittedCall {
    /// Whether the call tries an endpoint that was unavailable.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.call.probe
    }
}

/// Decides for every call whether it goes now: circuit breaker and rate limit of its endpoint, rate limit of its project.
///
/// Pure: it reads no clock, draws no random numbers and waits for nobody.
#[derive(Debug)]
pub struct Admission {
    policy: AdmissionPolicy,
    endpoints: Crowd<Endpoint>,
    projects: Crowd<Option<RateLimiter>>,
}

#[derive(Clone, Debug)]
struct Endpoint {
    breaker: Option<CircuitBreaker>,
    limit: Option<RateLimiter>,
}

/// Google has some fifty regions.
const MAX_ENDPOINTS: usize = 1024;

const MAX_PROJECTS: usize = 16_384;

impl Admission {
    /// A gate that knows nothing yet.
    #[must_use]
    pub fn new(policy: AdmissionPolicy, now: Instant) -> Self {
        Self {
            policy,
            endpoints: Crowd::new(MAX_ENDPOINTS, Endpoint::new(&policy, now)),
            projects: Crowd::new(MAX_PROJECTS, policy.project.map(|policy| RateLimiter::new(policy, now))),
        }
    }

    /// Whether a call to this endpoint, for this project, goes now. It is a `retry` if the operation's last call found the
    /// endpoint unavailable. `jitter` is from 0 to 1.
    pub fn admit(&mut self, endpoint: Key, project: Option<Key>, retry: bool, now: Instant, jitter: f64) -> Decision {
        let mut admitted = self.admitted(endpoint, project, retry, now);
        let breaker = self.endpoints.at(admitted.endpoint).breaker.as_mut();
        match breaker.map_or(BreakerDecision::Go, |breaker| breaker.ask(retry, now)) {
            BreakerDecision::Wait(wait) => return Decision::CircuitOpen(wait),
            BreakerDecision::Probe => admitted.call.probe = true,
            BreakerDecision::Go => {}
        }
        let mut turn = None;
        for limit in self.limits(&admitted) {
            if !limit.is_ready(now) {
                turn = turn.max(Some(limit.turn(now, jitter)));
            }
        }
        match turn {
            Some(turn) => Decision::RateLimited(turn),
            None => self.begin(admitted),
        }
    }

    /// A call whose deadline has come: it cannot wait any longer, so it goes, and is counted like any other.
    pub fn admit_last(&mut self, endpoint: Key, project: Option<Key>, now: Instant) -> Decision {
        let admitted = self.admitted(endpoint, project, false, now);
        self.begin(admitted)
    }

    /// How long an operation waits whose call tried this endpoint in vain: others go first.
    pub fn wait_behind(&mut self, endpoint: Key, now: Instant) -> Duration {
        let admitted = self.admitted(endpoint, None, true, now);
        let breaker = self.endpoints.at(admitted.endpoint).breaker.as_mut();
        breaker.map_or(Duration::ZERO, |breaker| breaker.wait(true, now))
    }

    /// How a call ended.
    pub fn record(&mut self, admitted: &AdmittedCall, result: CallResult, now: Instant) -> Option<StateChange> {
        for limit in self.limits(admitted) {
            match result {
                CallResult::Throttled(pause) => limit.throttled(pause, now),
                CallResult::Answered => limit.succeeded(now),
                CallResult::Unavailable(_) | CallResult::Dropped => {}
            }
        }
        let breaker = self.endpoints.at(admitted.endpoint).breaker.as_mut()?;
        breaker.end(&admitted.call, result, now)
    }

    /// How much longer to wait for the answer to a call; None: give it up as [`CallResult::Unavailable`].
    pub fn time_left(&mut self, admitted: &AdmittedCall, now: Instant) -> Option<Duration> {
        match &self.endpoints.at(admitted.endpoint).breaker {
            Some(breaker) => breaker.time_left(&admitted.call, now),
            None => Some(Duration::MAX),
        }
    }

    fn admitted(&mut self, endpoint: Key, project: Option<Key>, retry: bool, now: Instant) -> AdmittedCall {
        let policy = self.policy;
        let endpoint = self.endpoints.seat(endpoint, now, || Endpoint::new(&policy, now));
        let project = project
            .zip(policy.project)
            .map(|(project, limit)| self.projects.seat(project, now, || Some(RateLimiter::new(limit, now))));
        AdmittedCall { endpoint, project, call: Call { probe: false, retry, began: now } }
    }

    fn begin(&mut self, admitted: AdmittedCall) -> Decision {
        for limit in self.limits(&admitted) {
            limit.take(admitted.call.began);
        }
        if let Some(breaker) = &mut self.endpoints.at(admitted.endpoint).breaker {
            breaker.begin(&admitted.call);
        }
        Decision::Go(admitted)
    }

    fn limits(&mut self, admitted: &AdmittedCall) -> impl Iterator<Item = &mut RateLimiter> {
        let project = admitted.project.and_then(|seat| self.projects.at(seat).as_mut());
        self.endpoints.at(admitted.endpoint).limit.as_mut().into_iter().chain(project)
    }
}

impl Endpoint {
    fn new(policy: &AdmissionPolicy, now: Instant) -> Self {
        Self {
            breaker: policy.breaker.map(CircuitBreaker::new),
            limit: policy.endpoint.map(|limit| RateLimiter::new(limit, now)),
        }
    }
}

impl Forgettable for Endpoint {
    fn is_as_new(&mut self, now: Instant) -> bool {
        self.breaker.as_mut().is_none_or(|breaker| breaker.is_as_new(now))
            && self.limit.as_mut().is_none_or(|limit| limit.is_as_new(now))
    }
}

impl Forgettable for Option<RateLimiter> {
    fn is_as_new(&mut self, now: Instant) -> bool {
        self.as_mut().is_none_or(|limit| limit.is_as_new(now))
    }
}
