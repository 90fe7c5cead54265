use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::bounded_map::{BoundedMap, EntryId};
use super::circuit_breaker::{BreakerDecision, BreakerPolicy, Call, CallResult, CircuitBreaker, HalfOpen, StateChange};
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

/// Whether a call goes now.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub enum Decision {
    /// It goes, and its result has to be passed to [`Admission::record`].
    Go(AdmittedCall),
    /// The rate limit is reached: ask again after this.
    RateLimited(Duration),
    /// The endpoint is unavailable: ask again after about this.
    CircuitOpen(Duration),
}

/// A call under way.
#[derive(Clone, Copy, Debug)]
pub struct AdmittedCall {
    endpoint: EntryId,
    project: Option<EntryId>,
    call: Call,
}

impl AdmittedCall {
    /// It is on its way since then, and not before.
    pub const fn sent(&mut self, now: Instant) {
        self.call.began = now;
    }

    /// Whether the call tries an endpoint that was unavailable.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.call.probe
    }
}

/// Decides for every call whether it goes now: circuit breaker and rate limit of its endpoint, rate limit of its project.
///
/// Pure: it reads no clock, draws no random numbers and waits for nothing.
///
/// It knows a bounded number of endpoints and projects; beyond that the least recently used is forgotten. One that calls
/// are made to, or that operations wait for, is used. Endpoints that have never answered, which messages can make up any
/// number of, are known apart, and take no room from the others. A call that outlives what is known of its endpoint is limited by its
/// own time-out, and its result changes nothing.
#[derive(Debug)]
pub struct Admission {
    policy: AdmissionPolicy,
    endpoints: BoundedMap<Endpoint>,
    /// Those that have not answered any call yet.
    strangers: BoundedMap<Endpoint>,
    projects: BoundedMap<RateLimiter>,
}

#[derive(Debug)]
struct Endpoint {
    breaker: Option<CircuitBreaker>,
    limit: Option<RateLimiter>,
}

/// Circuit breakers by their state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerCounts {
    /// Calls go.
    pub closed: usize,
    /// Calls wait.
    pub open: usize,
    /// Calls wait, and one tries.
    pub half_open: usize,
}

/// Google has some fifty regions.
const MAX_ENDPOINTS: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

const MAX_PROJECTS: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

impl Admission {
    /// An admission that knows of no endpoint and no project yet.
    #[must_use]
    pub fn new(policy: AdmissionPolicy) -> Self {
        let endpoints = BoundedMap::new(MAX_ENDPOINTS);
        let strangers = BoundedMap::new_before(&endpoints, MAX_ENDPOINTS);
        Self { policy, endpoints, strangers, projects: BoundedMap::new(MAX_PROJECTS) }
    }

    /// From now on this counts. What is known of endpoints and projects stays as far as it still means something.
    pub fn set_policy(&mut self, policy: AdmissionPolicy, now: Instant) {
        self.policy = policy;
        for endpoint in self.endpoints.values_mut().chain(self.strangers.values_mut()) {
            match (&mut endpoint.breaker, policy.breaker) {
                (Some(breaker), Some(policy)) => breaker.set_policy(policy),
                (breaker, policy) => *breaker = policy.map(CircuitBreaker::new),
            }
            match (&mut endpoint.limit, policy.endpoint) {
                (Some(limit), Some(policy)) => limit.set_policy(policy, now),
                (limit, policy) => *limit = policy.map(|policy| RateLimiter::new(policy, now)),
            }
        }
        match policy.project {
            Some(policy) => self.projects.values_mut().for_each(|limit| limit.set_policy(policy, now)),
            None => self.projects.clear(),
        }
    }

    /// How many circuit breakers are in which state.
    #[must_use]
    pub fn breakers(&self) -> BreakerCounts {
        let mut counts = BreakerCounts::default();
        let endpoints = self.endpoints.values().chain(self.strangers.values());
        for breaker in endpoints.filter_map(|endpoint| endpoint.breaker.as_ref()) {
            match breaker.is_open() {
                None => counts.closed += 1,
                Some(HalfOpen(false)) => counts.open += 1,
                Some(HalfOpen(true)) => counts.half_open += 1,
            }
        }
        counts
    }

    /// Whether a call to this endpoint, for this project, goes now. It is a `retry` if the operation's last call found the
    /// endpoint unavailable. `jitter` is from 0 to 1.
    pub fn acquire(&mut self, endpoint: Key, project: Option<Key>, retry: bool, now: Instant, jitter: f64) -> Decision {
        let (mut admitted, mut checks) = self.look_up(endpoint, project, retry, now);
        match checks.breaker.as_mut().map_or(BreakerDecision::Go, |breaker| breaker.decide(retry, now)) {
            BreakerDecision::Wait(wait) => return Decision::CircuitOpen(wait),
            BreakerDecision::Probe => admitted.call.probe = true,
            BreakerDecision::Go => {}
        }
        match checks.rate_limit_wait(now, jitter) {
            Some(wait) => Decision::RateLimited(wait),
            None => checks.begin(admitted),
        }
    }

    /// A call whose deadline has come: it cannot wait any longer, so it goes, and is counted like any other.
    pub fn acquire_at_deadline(&mut self, endpoint: Key, project: Option<Key>, retry: bool, now: Instant) -> Decision {
        let (admitted, mut checks) = self.look_up(endpoint, project, retry, now);
        checks.begin(admitted)
    }

    /// How long an operation waits whose call found this endpoint unavailable: others go first.
    pub fn wait_behind(&mut self, endpoint: Key, now: Instant) -> Duration {
        let (_, checks) = self.look_up(endpoint, None, true, now);
        checks.breaker.map_or(Duration::ZERO, |breaker| breaker.wait(true, now))
    }

    /// How a call ended. What was forgotten since it began learns nothing of it.
    pub fn record(&mut self, admitted: &AdmittedCall, result: CallResult, now: Instant) -> Option<StateChange> {
        if matches!(result, CallResult::Answered | CallResult::Throttled(_)) {
            self.strangers.move_to(&mut self.endpoints, admitted.endpoint);
        }
        let endpoint = self.endpoints.get(admitted.endpoint).or_else(|| self.strangers.get(admitted.endpoint));
        let project = admitted.project.and_then(|project| self.projects.get(project));
        let mut checks = Checks::new(endpoint, project);
        for limit in checks.limits() {
            match result {
                CallResult::Throttled(pause) => limit.throttled(pause, now),
                CallResult::Answered => limit.succeeded(now),
                CallResult::Unavailable(_) | CallResult::Dropped => {}
            }
        }
        checks.breaker?.end(&admitted.call, result, now)
    }

    /// How much longer to wait for the answer to a call; None: give it up as [`CallResult::Unavailable`].
    pub fn time_left(&mut self, admitted: &AdmittedCall, now: Instant) -> Option<Duration> {
        let Some(policy) = self.policy.breaker else { return Some(Duration::MAX) };
        let endpoint = self.endpoints.get(admitted.endpoint).or_else(|| self.strangers.get(admitted.endpoint));
        match endpoint.and_then(|endpoint| endpoint.breaker.as_ref()) {
            Some(breaker) => breaker.time_left(&admitted.call, now),
            // Forgotten since: as of an endpoint of which nothing is known.
            None => CircuitBreaker::new(policy).time_left(&admitted.call, now),
        }
    }

    /// A call that has not begun, and what decides about it.
    fn look_up(
        &mut self,
        endpoint: Key,
        project: Option<Key>,
        retry: bool,
        now: Instant,
    ) -> (AdmittedCall, Checks<'_>) {
        let policy = self.policy;
        let known = if self.endpoints.contains(endpoint) { &mut self.endpoints } else { &mut self.strangers };
        let (endpoint_id, endpoint) = known.get_or_insert(endpoint, || Endpoint::new(&policy, now));
        let (project_id, project) = project
            .zip(policy.project)
            .map(|(project, limit)| self.projects.get_or_insert(project, || RateLimiter::new(limit, now)))
            .unzip();
        let call = Call { probe: false, retry, began: now };
        (AdmittedCall { endpoint: endpoint_id, project: project_id, call }, Checks::new(Some(endpoint), project))
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

/// What a call has to pass, as far as it is in force.
struct Checks<'a> {
    breaker: Option<&'a mut CircuitBreaker>,
    endpoint: Option<&'a mut RateLimiter>,
    project: Option<&'a mut RateLimiter>,
}

impl<'a> Checks<'a> {
    fn new(endpoint: Option<&'a mut Endpoint>, project: Option<&'a mut RateLimiter>) -> Self {
        let (breaker, limit) = endpoint.map(|Endpoint { breaker, limit }| (breaker.as_mut(), limit.as_mut())).unzip();
        Self { breaker: breaker.flatten(), endpoint: limit.flatten(), project }
    }

    fn limits(&mut self) -> impl Iterator<Item = &mut RateLimiter> {
        self.endpoint.as_deref_mut().into_iter().chain(self.project.as_deref_mut())
    }

    /// The longest wait for a rate limit; `None`: none is reached.
    fn rate_limit_wait(&mut self, now: Instant, jitter: f64) -> Option<Duration> {
        self.limits().filter_map(|limit| (!limit.is_ready(now)).then(|| limit.wait(now, jitter))).max()
    }

    fn begin(&mut self, admitted: AdmittedCall) -> Decision {
        for limit in self.limits() {
            limit.take(admitted.call.began);
        }
        if let Some(breaker) = &mut self.breaker {
            breaker.begin(&admitted.call);
        }
        Decision::Go(admitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKER: BreakerPolicy = BreakerPolicy {
        failures: 3,
        probe_interval: Duration::from_secs(1),
        probe_timeout: Duration::from_secs(3),
        retries: 2,
    };

    const LIMIT: RatePolicy = RatePolicy { per_second: 1.0, burst: 3.0, adaptive: true };

    fn begin() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn admission() -> Admission {
        Admission::new(AdmissionPolicy { breaker: Some(BREAKER), ..AdmissionPolicy::default() })
    }

    fn go(decision: Decision) -> AdmittedCall {
        match decision {
            Decision::Go(admitted) => admitted,
            wait => panic!("{wait:?}"),
        }
    }

    fn unavailable(operation: u32) -> CallResult {
        CallResult::Unavailable(Key::of(&operation.to_string()))
    }

    /// Calls to endpoints of which nothing was known.
    fn flood(admission: &mut Admission, endpoints: u32, now: Instant) {
        for number in 0..endpoints {
            let endpoint = Key::of(&format!("made-up-{number}"));
            let admitted = go(admission.acquire(endpoint, None, false, now, 0.5));
            assert_eq!(admission.record(&admitted, unavailable(number), now), None);
        }
    }

    /// An endpoint with an open breaker.
    fn opened(admission: &mut Admission, now: Instant) -> Key {
        let endpoint = Key::of("real");
        for operation in 1..=3 {
            let admitted = go(admission.acquire(endpoint, None, false, now, 0.5));
            let change = admission.record(&admitted, unavailable(operation), now);
            assert_eq!(change, (operation == 3).then_some(StateChange::Opened));
        }
        endpoint
    }

    #[test]
    fn ten_thousand_made_up_endpoints_take_nothing_from_one_that_is_used() {
        let (mut admission, now) = (admission(), begin());
        let endpoint = opened(&mut admission, now);
        for _ in 0..10 {
            flood(&mut admission, 1000, now);
            let decision = admission.acquire(endpoint, None, false, now, 0.5);
            assert!(matches!(decision, Decision::CircuitOpen(_)), "{decision:?}");
        }
        let probe = go(admission.acquire(endpoint, None, false, now + BREAKER.probe_interval, 0.5));
        assert!(probe.is_probe());
        flood(&mut admission, 1000, now);
        let change = admission.record(&probe, CallResult::Answered, now + BREAKER.probe_interval);
        assert_eq!(change, Some(StateChange::Closed));
    }

    #[test]
    fn ten_thousand_made_up_endpoints_at_once_take_nothing_from_one_that_has_ever_answered() {
        let (mut admission, now) = (admission(), begin());
        let endpoint = Key::of("real");
        let answered = go(admission.acquire(endpoint, None, false, now, 0.5));
        let under_way = go(admission.acquire(endpoint, None, false, now, 0.5));
        assert_eq!(admission.record(&answered, CallResult::Answered, now), None);
        opened(&mut admission, now);
        flood(&mut admission, 10_000, now);
        let decision = admission.acquire(endpoint, None, false, now, 0.5);
        assert!(matches!(decision, Decision::CircuitOpen(_)), "{decision:?}");
        let change = admission.record(&under_way, CallResult::Answered, now);
        assert_eq!(change, Some(StateChange::Closed), "a call from before its first answer is still its own");
    }

    #[test]
    fn made_up_endpoints_each_have_a_breaker_of_their_own() {
        let (mut admission, now) = (admission(), begin());
        flood(&mut admission, 10_000, now);
        flood(&mut admission, 10_000, now);
    }

    #[test]
    fn a_call_whose_endpoint_was_forgotten_changes_nothing_of_the_endpoint_that_is_known_again() {
        let (mut admission, now) = (admission(), begin());
        let endpoint = Key::of("real");
        let forgotten: Vec<AdmittedCall> =
            (0..2).map(|_| go(admission.acquire(endpoint, None, true, now, 0.5))).collect();
        assert!(matches!(admission.acquire(endpoint, None, true, now, 0.5), Decision::CircuitOpen(_)), "two retries");
        flood(&mut admission, 2000, now);
        for operation in 1..=2 {
            let _under_way = go(admission.acquire(endpoint, None, true, now, 0.5));
            assert_eq!(admission.record(&forgotten[operation - 1], CallResult::Dropped, now), None);
        }
        let decision = admission.acquire(endpoint, None, true, now, 0.5);
        assert!(matches!(decision, Decision::CircuitOpen(_)), "both are still under way: {decision:?}");
        for operation in 0..30 {
            assert_eq!(admission.record(&forgotten[0], unavailable(operation), now), None);
        }
        let _call = go(admission.acquire(endpoint, None, false, now, 0.5));
    }

    #[test]
    fn a_retry_whose_endpoint_was_forgotten_is_still_given_up_and_other_calls_are_not() {
        let (mut admission, now) = (admission(), begin());
        let [call, retry] = [false, true].map(|retry| go(admission.acquire(Key::of("real"), None, retry, now, 0.5)));
        flood(&mut admission, 2000, now);
        assert_eq!(admission.time_left(&retry, now + Duration::from_secs(1)), Some(Duration::from_secs(2)));
        assert_eq!(admission.time_left(&retry, now + Duration::from_secs(3)), None);
        assert_eq!(admission.time_left(&call, now + Duration::from_secs(3)), Some(Duration::from_secs(3)));
    }

    #[test]
    fn another_policy_leaves_an_open_breaker_open_and_its_limits_count_at_once() {
        let (mut admission, now) = (admission(), begin());
        let endpoint = opened(&mut admission, now);
        let policy = AdmissionPolicy {
            breaker: Some(BreakerPolicy { failures: 100, ..BREAKER }),
            endpoint: Some(LIMIT),
            project: Some(LIMIT),
        };
        admission.set_policy(policy, now);
        let decision = admission.acquire(endpoint, None, false, now, 0.5);
        assert!(matches!(decision, Decision::CircuitOpen(_)), "{decision:?}");
        let other = Key::of("other");
        for _ in 0..3 {
            let _call = go(admission.acquire(other, Some(other), false, now, 0.5));
        }
        let decision = admission.acquire(other, Some(other), false, now, 0.5);
        assert!(matches!(decision, Decision::RateLimited(_)), "{decision:?}");
        admission.set_policy(AdmissionPolicy::default(), now);
        for key in [endpoint, other] {
            let _call = go(admission.acquire(key, None, false, now, 0.5));
        }
    }

    #[test]
    fn a_call_waits_for_the_limit_of_its_endpoint_and_for_that_of_its_project() {
        let now = begin();
        let limits = AdmissionPolicy { breaker: None, endpoint: Some(LIMIT), project: Some(LIMIT) };
        let mut admission = Admission::new(limits);
        let [a, b] = ["a", "b"].map(Key::of);
        for _ in 0..3 {
            let _call = go(admission.acquire(a, Some(a), false, now, 0.5));
        }
        for (endpoint, project) in [(a, b), (b, a)] {
            let decision = admission.acquire(endpoint, Some(project), false, now, 0.5);
            assert!(matches!(decision, Decision::RateLimited(_)), "{decision:?}");
        }
        let last = go(admission.acquire_at_deadline(a, Some(a), false, now));
        assert_eq!(admission.time_left(&last, now), Some(Duration::MAX));
        let _call = go(admission.acquire(b, Some(b), false, now, 0.5));
    }
}
