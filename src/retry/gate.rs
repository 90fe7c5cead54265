use std::time::{Duration, Instant};

use super::breaker::{Breaker, BreakerPolicy, Call, Change, News, Verdict};
use super::crowd::{Crowd, Forgettable, Seat};
use super::key::Key;
use super::rate_limit::{RateLimit, RatePolicy};

/// What is in force; nothing where `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GatePolicy {
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
pub enum Admission {
    /// It goes, and its end has to be told to [`Gate::learn`].
    Go(Ticket),
    /// Others go first: ask again after this.
    Turn(Duration),
    /// The endpoint is unavailable: ask again after about this.
    Outage(Duration),
}

/// A call under way.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    endpoint: Seat,
    project: Option<Seat>,
    call: Call,
}

impl Ticket {
    /// Whether the call tries an endpoint that was unavailable.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.call.probe
    }
}

/// Decides for every call whether it goes now: circuit breaker and rate limit of its endpoint, rate limit of its project.
///
/// Pure: it reads no clock, rolls no dice and waits for nobody.
#[derive(Debug)]
pub struct Gate {
    policy: GatePolicy,
    endpoints: Crowd<Endpoint>,
    projects: Crowd<Option<RateLimit>>,
}

#[derive(Clone, Debug)]
struct Endpoint {
    breaker: Option<Breaker>,
    limit: Option<RateLimit>,
}

/// Google has some fifty regions.
const MOST_ENDPOINTS: usize = 1024;

const MOST_PROJECTS: usize = 16_384;

impl Gate {
    /// A gate that knows nothing yet.
    #[must_use]
    pub fn new(policy: GatePolicy, now: Instant) -> Self {
        Self {
            policy,
            endpoints: Crowd::new(MOST_ENDPOINTS, Endpoint::new(&policy, now)),
            projects: Crowd::new(MOST_PROJECTS, policy.project.map(|policy| RateLimit::new(policy, now))),
        }
    }

    /// Whether a call to this endpoint, for this project, goes now. It is a `retry` if the operation's last call found the
    /// endpoint unavailable. `dice` is from 0 to 1.
    pub fn admit(&mut self, endpoint: Key, project: Option<Key>, retry: bool, now: Instant, dice: f64) -> Admission {
        let mut ticket = self.ticket(endpoint, project, retry, now);
        let breaker = self.endpoints.at(ticket.endpoint).breaker.as_mut();
        match breaker.map_or(Verdict::Go, |breaker| breaker.ask(retry, now)) {
            Verdict::Wait(wait) => return Admission::Outage(wait),
            Verdict::Probe => ticket.call.probe = true,
            Verdict::Go => {}
        }
        let mut turn = None;
        for limit in self.limits(&ticket) {
            if !limit.is_ready(now) {
                turn = turn.max(Some(limit.turn(now, dice)));
            }
        }
        match turn {
            Some(turn) => Admission::Turn(turn),
            None => self.begin(ticket),
        }
    }

    /// A call whose deadline has come: it cannot wait any longer, so it goes, and is counted like any other.
    pub fn admit_last(&mut self, endpoint: Key, project: Option<Key>, now: Instant) -> Admission {
        let ticket = self.ticket(endpoint, project, false, now);
        self.begin(ticket)
    }

    /// How long an operation waits whose call tried this endpoint in vain: others go first.
    pub fn wait_behind(&mut self, endpoint: Key, now: Instant) -> Duration {
        let ticket = self.ticket(endpoint, None, true, now);
        let breaker = self.endpoints.at(ticket.endpoint).breaker.as_mut();
        breaker.map_or(Duration::ZERO, |breaker| breaker.wait(true, now))
    }

    /// How a call ended.
    pub fn learn(&mut self, ticket: &Ticket, news: News, now: Instant) -> Option<Change> {
        for limit in self.limits(ticket) {
            match news {
                News::Throttled(pause) => limit.throttled(pause, now),
                News::Answered => limit.succeeded(now),
                News::Unavailable(_) | News::Dropped => {}
            }
        }
        let breaker = self.endpoints.at(ticket.endpoint).breaker.as_mut()?;
        breaker.end(&ticket.call, news, now)
    }

    /// How much longer to wait for the answer to a call; None: give it up as [`News::Unavailable`].
    pub fn patience(&mut self, ticket: &Ticket, now: Instant) -> Option<Duration> {
        match &self.endpoints.at(ticket.endpoint).breaker {
            Some(breaker) => breaker.patience(&ticket.call, now),
            None => Some(Duration::MAX),
        }
    }

    fn ticket(&mut self, endpoint: Key, project: Option<Key>, retry: bool, now: Instant) -> Ticket {
        let policy = self.policy;
        let endpoint = self.endpoints.seat(endpoint, now, || Endpoint::new(&policy, now));
        let project = project
            .zip(policy.project)
            .map(|(project, limit)| self.projects.seat(project, now, || Some(RateLimit::new(limit, now))));
        Ticket { endpoint, project, call: Call { probe: false, retry, began: now } }
    }

    fn begin(&mut self, ticket: Ticket) -> Admission {
        for limit in self.limits(&ticket) {
            limit.take(ticket.call.began);
        }
        if let Some(breaker) = &mut self.endpoints.at(ticket.endpoint).breaker {
            breaker.begin(&ticket.call);
        }
        Admission::Go(ticket)
    }

    fn limits(&mut self, ticket: &Ticket) -> impl Iterator<Item = &mut RateLimit> {
        let project = ticket.project.and_then(|seat| self.projects.at(seat).as_mut());
        self.endpoints.at(ticket.endpoint).limit.as_mut().into_iter().chain(project)
    }
}

impl Endpoint {
    fn new(policy: &GatePolicy, now: Instant) -> Self {
        Self {
            breaker: policy.breaker.map(Breaker::new),
            limit: policy.endpoint.map(|limit| RateLimit::new(limit, now)),
        }
    }
}

impl Forgettable for Endpoint {
    fn is_as_new(&mut self, now: Instant) -> bool {
        self.breaker.as_mut().is_none_or(|breaker| breaker.is_as_new(now))
            && self.limit.as_mut().is_none_or(|limit| limit.is_as_new(now))
    }
}

impl Forgettable for Option<RateLimit> {
    fn is_as_new(&mut self, now: Instant) -> bool {
        self.as_mut().is_none_or(|limit| limit.is_as_new(now))
    }
}
