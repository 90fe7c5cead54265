use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::bounded_map::BoundedMap;
use super::key::Key;

/// Which endpoint a call goes to, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallTarget {
    /// The endpoint.
    pub endpoint: Key,
    /// It stands in the settings; the hosts of all other endpoints are made of what messages say.
    pub in_settings: bool,
    /// The operation's project.
    pub project: Key,
    /// The operation.
    pub operation: Key,
}

/// What an answer says of those who call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// They are served.
    Worked,
    /// The endpoint refuses them, or something else stands where it should.
    Refused,
    /// Neither.
    Other,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalChange {
    /// The endpoint refuses whoever calls.
    Began,
    /// It does no more.
    Ended,
}

/// Tells a refusal that is the worker's own fault from one that is a request's: an endpoint that refuses most calls, as it
/// does where a role was revoked or a proxy stands before it, and a project for which no call has ever worked, at an
/// endpoint that works for others.
///
/// Pure and bounded, like [`Admission`](super::Admission). Of endpoints that no setting names, only those that have worked are
/// known: messages can make up any number of others.
#[derive(Debug)]
pub struct Refusals {
    endpoints: BoundedMap<Endpoint>,
    projects: BoundedMap<()>,
}

#[derive(Debug, Default)]
struct Endpoint {
    worked_at: Option<Instant>,
    /// Calls that worked since the last that was refused.
    worked_in_a_row: usize,
    /// Different operations that were refused, and when last: the latest [`MIN_OPERATIONS`].
    refused: VecDeque<(Key, Instant)>,
    /// Calls of the last [`WINDOW`], by the time of their end; the newest last.
    buckets: VecDeque<Bucket>,
    refuses: bool,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    start: Instant,
    calls: u32,
    refused: u32,
}

/// How far back calls are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// How finely: calls that end within this are counted together.
const BUCKET_INTERVAL: Duration = Duration::from_secs(5);

/// An endpoint for which no call has worked for so long refuses all.
const SILENCE: Duration = Duration::from_secs(10);

/// And one that has refused nobody for so long refuses no more, if it works.
const SETTLED: Duration = Duration::from_secs(2);

/// Fewer operations that are refused may all have the same owner; and after so many calls in a row that worked, an endpoint
/// refuses no more.
const MIN_OPERATIONS: usize = 10;

const MAX_ENDPOINTS: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

const MAX_PROJECTS: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

impl Default for Refusals {
    fn default() -> Self {
        Self { endpoints: BoundedMap::new(MAX_ENDPOINTS), projects: BoundedMap::new(MAX_PROJECTS) }
    }
}

impl Refusals {
    /// A call was answered.
    pub fn answered(&mut self, target: &CallTarget, answer: Answer, now: Instant) -> Option<RefusalChange> {
        if answer == Answer::Worked {
            self.projects.get_or_insert(target.project, || ());
        } else if !target.in_settings && !self.endpoints.contains(target.endpoint) {
            return None;
        }
        let (_, endpoint) = self.endpoints.get_or_insert(target.endpoint, Endpoint::default);
        endpoint.answered(target.operation, answer, now);
        endpoint.change(now)
    }

    /// The circuit breaker of an endpoint opened since something else stands there.
    pub fn not_served(&mut self, target: &CallTarget) -> Option<RefusalChange> {
        if !target.in_settings && !self.endpoints.contains(target.endpoint) {
            return None;
        }
        let (_, endpoint) = self.endpoints.get_or_insert(target.endpoint, Endpoint::default);
        let began = !std::mem::replace(&mut endpoint.refuses, true);
        began.then_some(RefusalChange::Began)
    }

    /// Whether a refusal is only this project's: the endpoint works for others, and never worked for it.
    pub fn is_of_the_project(&mut self, target: &CallTarget, now: Instant) -> bool {
        let works =
            |endpoint: &Endpoint| endpoint.worked_at.is_some_and(|at| now.saturating_duration_since(at) < WINDOW);
        self.endpoints.peek(target.endpoint).is_some_and(works) && !self.projects.contains(target.project)
    }

    /// Time has passed: whether this endpoint refuses no more, since nobody has called it.
    pub fn time_passed(&mut self, endpoint: Key, now: Instant) -> Option<RefusalChange> {
        let endpoint = self.endpoints.peek_mut(endpoint)?;
        let called = |bucket: &Bucket| now < bucket.start + WINDOW;
        if !endpoint.refuses || endpoint.buckets.iter().any(called) {
            return None;
        }
        endpoint.refuses = false;
        Some(RefusalChange::Ended)
    }
}

impl Endpoint {
    fn answered(&mut self, operation: Key, answer: Answer, now: Instant) {
        let bucket = self.bucket(now);
        bucket.calls = bucket.calls.saturating_add(1);
        match answer {
            Answer::Worked => {
                self.worked_at = Some(now);
                self.worked_in_a_row = self.worked_in_a_row.saturating_add(1);
            }
            Answer::Refused => {
                bucket.refused = bucket.refused.saturating_add(1);
                self.worked_in_a_row = 0;
                self.refused.retain(|(refused, _)| *refused != operation);
                if self.refused.len() == MIN_OPERATIONS {
                    self.refused.pop_front();
                }
                self.refused.push_back((operation, now));
            }
            Answer::Other => {}
        }
    }

    fn change(&mut self, now: Instant) -> Option<RefusalChange> {
        let sum = |count: fn(&Bucket) -> u32| self.buckets.iter().map(count).fold(0, u32::saturating_add);
        let (calls, refused) = (sum(|bucket| bucket.calls), sum(|bucket| bucket.refused));
        let most = refused > calls / 2;
        if self.refuses {
            // Most calls that are counted may be from before.
            let last = self.refused.back().map_or(Duration::MAX, |(_, at)| now.saturating_duration_since(*at));
            let served =
                self.worked_in_a_row > 0 && (!most || self.worked_in_a_row >= MIN_OPERATIONS) && last >= SETTLED;
            if !served {
                return None;
            }
            self.refuses = false;
            self.refused.clear();
            return Some(RefusalChange::Ended);
        }
        let works = self.worked_at.is_some_and(|at| now.saturating_duration_since(at) < SILENCE);
        let many = self.refused.len() == MIN_OPERATIONS
            && self.refused.iter().all(|(_, at)| now.saturating_duration_since(*at) < WINDOW);
        if !many || (works && !most) {
            return None;
        }
        self.refuses = true;
        Some(RefusalChange::Began)
    }

    fn bucket(&mut self, now: Instant) -> &mut Bucket {
        if self.buckets.back().is_none_or(|newest| now >= newest.start + BUCKET_INTERVAL) {
            while self.buckets.front().is_some_and(|oldest| now >= oldest.start + WINDOW) {
                self.buckets.pop_front();
            }
            self.buckets.push_back(Bucket { start: now, calls: 0, refused: 0 });
        }
        let newest = self.buckets.len() - 1;
        &mut self.buckets[newest]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn call(endpoint: &str, project: &str, operation: u32) -> CallTarget {
        CallTarget {
            endpoint: Key::of(endpoint),
            in_settings: false,
            project: Key::of(project),
            operation: Key::of(&operation.to_string()),
        }
    }

    fn answer(refusals: &mut Refusals, calls: u32, answer: Answer, now: Instant) -> Vec<RefusalChange> {
        (0..calls).filter_map(|operation| refusals.answered(&call("real", "p", operation), answer, now)).collect()
    }

    #[test]
    fn an_endpoint_that_worked_refuses_when_it_refuses_ten_operations_and_most_calls() {
        let (mut refusals, now) = (Refusals::default(), begin());
        assert_eq!(answer(&mut refusals, 100, Answer::Worked, now), []);
        assert_eq!(answer(&mut refusals, 100, Answer::Refused, now + seconds(1)), [], "half of them");
        assert_eq!(answer(&mut refusals, 1, Answer::Refused, now + seconds(2)), [RefusalChange::Began]);
        assert_eq!(answer(&mut refusals, 30, Answer::Refused, now + seconds(2)), []);
        assert_eq!(answer(&mut refusals, 9, Answer::Worked, now + seconds(3)), [], "some get through");
        assert_eq!(answer(&mut refusals, 10, Answer::Worked, now + seconds(3)), [], "not for long");
        assert_eq!(answer(&mut refusals, 1, Answer::Worked, now + seconds(4)), [RefusalChange::Ended]);
    }

    #[test]
    fn it_refuses_as_well_when_no_call_has_worked_for_ten_seconds() {
        let (mut refusals, now) = (Refusals::default(), begin());
        answer(&mut refusals, 1000, Answer::Worked, now);
        assert_eq!(answer(&mut refusals, 10, Answer::Refused, now + seconds(9)), []);
        assert_eq!(answer(&mut refusals, 1, Answer::Refused, now + seconds(10)), [RefusalChange::Began]);
    }

    #[test]
    fn one_that_refuses_now_and_then_is_not_told_of_again_and_again() {
        let (mut refusals, begin) = (Refusals::default(), begin());
        let mut changes = 0;
        let mut dice = fastrand::Rng::with_seed(1);
        for number in 0..100_000 {
            let answer = if dice.bool() { Answer::Worked } else { Answer::Refused };
            let now = begin + Duration::from_millis(10) * number;
            changes += usize::from(refusals.answered(&call("real", "p", number), answer, now).is_some());
        }
        assert!(changes <= 1, "{changes} changes in 1,000 s");
    }

    #[test]
    fn nine_operations_are_too_few_however_often_they_are_refused() {
        let (mut refusals, now) = (Refusals::default(), begin());
        answer(&mut refusals, 1, Answer::Worked, now);
        for round in 1..100 {
            assert_eq!(answer(&mut refusals, 9, Answer::Refused, now + seconds(round)), []);
        }
    }

    #[test]
    fn one_that_nobody_calls_any_more_refuses_no_more_after_a_minute() {
        let (mut refusals, now) = (Refusals::default(), begin());
        answer(&mut refusals, 1, Answer::Worked, now);
        assert_eq!(answer(&mut refusals, 10, Answer::Refused, now + seconds(20)), [RefusalChange::Began]);
        assert_eq!(refusals.time_passed(Key::of("real"), now + seconds(79)), None);
        assert_eq!(refusals.time_passed(Key::of("real"), now + seconds(80)), Some(RefusalChange::Ended));
        assert_eq!(refusals.time_passed(Key::of("real"), now + seconds(90)), None);
    }

    #[test]
    fn one_of_the_settings_refuses_also_before_it_has_ever_worked_and_one_of_a_message_does_not() {
        let now = begin();
        for in_settings in [true, false] {
            let mut refusals = Refusals::default();
            let refused = |operation| {
                refusals.answered(&CallTarget { in_settings, ..call("e", "p", operation) }, Answer::Refused, now)
            };
            let changes: Vec<RefusalChange> = (0..10).filter_map(refused).collect();
            assert_eq!(changes.len(), usize::from(in_settings));
            assert_eq!(refusals.not_served(&CallTarget { in_settings, ..call("f", "p", 1) }).is_some(), in_settings);
        }
    }

    #[test]
    fn ten_thousand_made_up_endpoints_are_not_remembered() {
        let (mut refusals, now) = (Refusals::default(), begin());
        answer(&mut refusals, 1, Answer::Worked, now);
        for number in 0..10_000 {
            let change = refusals.answered(&call(&format!("made-up-{number}"), "p", number), Answer::Refused, now);
            assert_eq!(change, None);
        }
        assert_eq!(answer(&mut refusals, 10, Answer::Refused, now + seconds(30)), [RefusalChange::Began]);
    }

    #[test]
    fn a_refusal_is_of_the_project_where_others_are_served_and_it_never_was() {
        let (mut refusals, now) = (Refusals::default(), begin());
        let [own, foreign] = [call("e", "own", 1), call("e", "foreign", 2)];
        assert!(!refusals.is_of_the_project(&foreign, now), "nobody is known to be served");
        refusals.answered(&own, Answer::Worked, now);
        assert!(refusals.is_of_the_project(&foreign, now));
        assert!(!refusals.is_of_the_project(&own, now));
        assert!(!refusals.is_of_the_project(&call("other", "foreign", 2), now), "of another endpoint nothing is known");
        assert!(!refusals.is_of_the_project(&foreign, now + seconds(60)), "too long ago");
        refusals.answered(&foreign, Answer::Worked, now);
        assert!(!refusals.is_of_the_project(&foreign, now));
    }
}
