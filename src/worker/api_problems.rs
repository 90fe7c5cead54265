use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{info, warn};

use crate::cancellation::{Failure, FailureKind, Reply};
use crate::message::OperationName;
use crate::pacing::{Answer, CallTarget, Key, RefusalChange, Refusals};
use crate::telemetry::meters::NotReady;

/// What the API's answers tell that is the worker's own fault, and that somebody has to mend: credentials that are refused or
/// cannot be had, and endpoints that refuse whoever calls. Each is said once when it begins, once when it ends, and meanwhile
/// the worker is not ready.
#[derive(Debug, Default)]
pub(super) struct ApiProblems {
    refusals: Refusals,
    credentials: Option<CredentialsProblem>,
    /// Those that were said, each a sentence: of an endpoint, or of the credentials.
    said: Vec<(Option<Key>, String)>,
    readers: watch::Sender<Vec<(NotReady, String)>>,
}

#[derive(Debug)]
struct CredentialsProblem {
    since: Instant,
    last: Instant,
    said: bool,
}

/// Renewed credentials may do: those that are refused for so long do not.
const CREDENTIALS_PATIENCE: Duration = Duration::from_secs(10);

/// Where no call has needed credentials for so long, nobody knows whether they are still refused.
const CREDENTIALS_MEMORY: Duration = Duration::from_secs(120);

impl ApiProblems {
    /// Those of now.
    pub(super) fn watch(&self) -> watch::Receiver<Vec<(NotReady, String)>> {
        self.readers.subscribe()
    }

    /// How many endpoints refuse whoever calls.
    pub(super) fn refusing_endpoints(&self) -> usize {
        self.said.iter().filter(|(endpoint, _)| endpoint.is_some()).count()
    }

    /// A refusal that is only a request's becomes one of its project.
    pub(super) fn judge(&mut self, reply: &mut Reply, target: &CallTarget, now: Instant) {
        if let Reply::Failure(failure) = reply
            && failure.kind == FailureKind::PermissionDenied
            && self.refusals.is_of_the_project(target, now)
        {
            failure.kind = FailureKind::ForeignProject;
        }
    }

    /// A call was answered, or could not be made.
    pub(super) fn heard(&mut self, reply: &Reply, target: &CallTarget, operation: &OperationName, now: Instant) {
        self.heard_of_credentials(reply, now);
        if let Some(change) = answer(reply).and_then(|answer| self.refusals.answered(target, answer, now)) {
            self.refusals_changed(change, target, reply, operation);
        }
    }

    /// The circuit breaker opened: tells whether that was since something else stands where the API should, which is said
    /// here.
    pub(super) fn opened(&mut self, reply: &Reply, target: &CallTarget, operation: &OperationName) -> bool {
        let is_wrong =
            matches!(reply, Reply::Failure(Failure { kind: FailureKind::BadEndpoint | FailureKind::UnknownHost, .. }));
        if is_wrong && let Some(change) = self.refusals.not_served(target) {
            self.refusals_changed(change, target, reply, operation);
        }
        is_wrong && self.said.iter().any(|(endpoint, _)| *endpoint == Some(target.endpoint))
    }

    /// Time has passed, in which there may have been no call.
    pub(super) fn time_passed(&mut self, now: Instant) {
        let endpoints: Vec<Key> = self.said.iter().filter_map(|(endpoint, _)| *endpoint).collect();
        for endpoint in endpoints {
            if self.refusals.time_passed(endpoint, now).is_some() {
                info!("an endpoint that refused whoever called has not been called for a minute");
                self.unsay(Some(endpoint));
            }
        }
        let forgotten = |problem: &CredentialsProblem| now.saturating_duration_since(problem.last) > CREDENTIALS_MEMORY;
        if self.credentials.as_ref().is_some_and(forgotten) {
            self.credentials_end("no call has needed the credentials that were refused for some time");
        }
    }

    fn heard_of_credentials(&mut self, reply: &Reply, now: Instant) {
        match reply {
            Reply::Failure(Failure { kind: FailureKind::Unauthenticated, error, .. })
            | Reply::NotMade(Failure { kind: FailureKind::Unauthenticated, error, .. }) => {
                let problem = self.credentials.get_or_insert(CredentialsProblem { since: now, last: now, said: false });
                problem.last = now;
                if !problem.said && now.saturating_duration_since(problem.since) >= CREDENTIALS_PATIENCE {
                    problem.said = true;
                    let error = error.message.as_str();
                    warn!(error, "the worker's credentials are refused or cannot be had; requests wait until they can");
                    self.say(None, format!("the worker's credentials are refused or cannot be had: {error}"));
                }
            }
            Reply::NotMade(_) => {}
            Reply::Failure(Failure { kind, .. }) if kind.is_unavailable() || *kind == FailureKind::RateLimited => {}
            Reply::Failure(_) | Reply::Accepted | Reply::Operation(_) | Reply::Undecodable { .. } => {
                if self.credentials.is_some() {
                    self.credentials_end("the worker's credentials are taken again");
                }
            }
        }
    }

    fn credentials_end(&mut self, words: &str) {
        if self.credentials.take().is_some_and(|problem| problem.said) {
            info!("{words}");
            self.unsay(None);
        }
    }

    fn refusals_changed(
        &mut self,
        change: RefusalChange,
        target: &CallTarget,
        reply: &Reply,
        operation: &OperationName,
    ) {
        match change {
            RefusalChange::Began => {
                let (error, remedy) = match reply {
                    Reply::Failure(Failure { kind: FailureKind::PermissionDenied, error, .. }) => {
                        (error.message.as_str(), "grant the worker's account its role again")
                    }
                    Reply::Failure(failure) => (failure.error.message.as_str(), "correct the endpoint, or the proxy"),
                    _ => ("", ""),
                };
                warn!(%operation, error, remedy, "an endpoint refuses whoever calls; requests wait until it does no more");
                let sentence = format!("an endpoint refuses whoever calls, such as for {operation}: {error}; {remedy}");
                self.say(Some(target.endpoint), sentence);
            }
            RefusalChange::Ended => {
                info!(%operation, "the endpoint that refused whoever called serves calls again");
                self.unsay(Some(target.endpoint));
            }
        }
    }

    fn say(&mut self, of: Option<Key>, sentence: String) {
        self.said.push((of, sentence));
        self.publish();
    }

    fn unsay(&mut self, of: Option<Key>) {
        self.said.retain(|(said, _)| *said != of);
        self.publish();
    }

    fn publish(&self) {
        let kind = |of: &Option<Key>| if of.is_some() { NotReady::Endpoint } else { NotReady::Credentials };
        self.readers.send_replace(self.said.iter().map(|(of, sentence)| (kind(of), sentence.clone())).collect());
    }
}

/// What an answer says of those who call; nothing, if there was none.
fn answer(reply: &Reply) -> Option<Answer> {
    let Reply::Failure(Failure { kind, .. }) = reply else {
        return match reply {
            Reply::Accepted | Reply::Operation(_) => Some(Answer::Worked),
            Reply::Undecodable { .. } => Some(Answer::Other),
            Reply::NotMade(_) | Reply::Failure(_) => None,
        };
    };
    match kind {
        FailureKind::Unimplemented
        | FailureKind::FailedPrecondition
        | FailureKind::Conflict
        | FailureKind::NotFound => Some(Answer::Worked),
        FailureKind::PermissionDenied | FailureKind::BadEndpoint | FailureKind::UnknownHost => Some(Answer::Refused),
        FailureKind::RateLimited
        | FailureKind::Unauthenticated
        | FailureKind::ForeignProject
        | FailureKind::NoEndpoint
        | FailureKind::Rejected => Some(Answer::Other),
        FailureKind::Unavailable => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancellation::ErrorDetail;

    const SECOND: Duration = Duration::from_secs(1);

    fn begin() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn failure(kind: FailureKind) -> Failure {
        let error = ErrorDetail { message: format!("the words of {kind:?}"), ..ErrorDetail::default() };
        Failure { kind, error, retry_after: None }
    }

    fn target(project: &str, operation: u32) -> CallTarget {
        CallTarget {
            endpoint: Key::of("endpoint"),
            in_settings: true,
            project: Key::of(project),
            operation: Key::of(&operation.to_string()),
        }
    }

    fn name() -> OperationName {
        OperationName::parse("projects/p/operations/o").expect("a name")
    }

    fn hear(problems: &mut ApiProblems, reply: &Reply, operation: u32, now: Instant) {
        problems.heard(reply, &target("p", operation), &name(), now);
    }

    #[test]
    fn credentials_that_are_refused_or_cannot_be_had_for_ten_seconds_are_a_problem_until_a_call_gets_through() {
        let refused = failure(FailureKind::Unauthenticated);
        for reply in [Reply::Failure(refused.clone()), Reply::NotMade(refused)] {
            let (mut problems, now) = (ApiProblems::default(), begin());
            let reader = problems.watch();
            for second in 0..10 {
                hear(&mut problems, &reply, second, now + SECOND * second);
                hear(&mut problems, &Reply::Failure(failure(FailureKind::Unavailable)), second, now + SECOND * second);
                assert!(reader.borrow().is_empty(), "after {second} s");
            }
            hear(&mut problems, &reply, 10, now + SECOND * 10);
            let sentence = "the worker's credentials are refused or cannot be had: the words of Unauthenticated";
            assert_eq!(*reader.borrow(), [(NotReady::Credentials, sentence.to_owned())]);
            hear(&mut problems, &Reply::Failure(failure(FailureKind::NotFound)), 11, now + SECOND * 11);
            assert!(reader.borrow().is_empty());
        }
    }

    #[test]
    fn credentials_that_one_operation_is_refused_with_among_others_that_get_through_are_none() {
        let (mut problems, now) = (ApiProblems::default(), begin());
        let reader = problems.watch();
        for second in 0..100 {
            hear(&mut problems, &Reply::Failure(failure(FailureKind::Unauthenticated)), 1, now + SECOND * second);
            hear(&mut problems, &Reply::Accepted, 2, now + SECOND * second);
        }
        assert!(reader.borrow().is_empty());
    }

    #[test]
    fn what_nobody_has_tried_for_some_time_is_no_problem_any_more() {
        let (mut problems, now) = (ApiProblems::default(), begin());
        let reader = problems.watch();
        for second in [0, 10] {
            hear(&mut problems, &Reply::Failure(failure(FailureKind::Unauthenticated)), 1, now + SECOND * second);
        }
        for operation in 0..10 {
            hear(&mut problems, &Reply::Failure(failure(FailureKind::PermissionDenied)), operation, now + SECOND * 10);
        }
        assert_eq!(reader.borrow().len(), 1, "refused, thus the credentials are taken: {:?}", reader.borrow());
        problems.time_passed(now + SECOND * 69);
        assert_eq!(reader.borrow().len(), 1);
        problems.time_passed(now + SECOND * 70);
        assert!(reader.borrow().is_empty());
    }

    #[test]
    fn an_endpoint_that_refuses_ten_operations_is_a_problem_with_its_words_until_it_serves_again() {
        for (kind, remedy) in [
            (FailureKind::PermissionDenied, "grant the worker's account its role again"),
            (FailureKind::BadEndpoint, "correct the endpoint, or the proxy"),
            (FailureKind::UnknownHost, "correct the endpoint, or the proxy"),
        ] {
            let (mut problems, now) = (ApiProblems::default(), begin());
            let reader = problems.watch();
            for operation in 0..10 {
                assert!(reader.borrow().is_empty());
                hear(&mut problems, &Reply::Failure(failure(kind)), operation, now);
            }
            let words = format!("such as for projects/p/operations/o: the words of {kind:?}; {remedy}");
            let sentence = format!("an endpoint refuses whoever calls, {words}");
            assert_eq!((&*reader.borrow(), problems.refusing_endpoints()), (&vec![(NotReady::Endpoint, sentence)], 1));
            for operation in 0..10 {
                hear(&mut problems, &Reply::Accepted, operation, now + SECOND * 2);
            }
            assert!(reader.borrow().is_empty());
        }
    }

    #[test]
    fn what_opens_the_circuit_breaker_is_said_at_once_if_something_else_stands_there() {
        let (mut problems, now) = (ApiProblems::default(), begin());
        let reader = problems.watch();
        hear(&mut problems, &Reply::Accepted, 1, now);
        let bad = Reply::Failure(failure(FailureKind::BadEndpoint));
        assert!(problems.opened(&bad, &target("p", 2), &name()));
        assert_eq!(reader.borrow().len(), 1);
        hear(&mut problems, &bad, 3, now + SECOND);
        assert_eq!(reader.borrow().len(), 1, "a probe in vain");
        let unavailable = Reply::Failure(failure(FailureKind::Unavailable));
        assert!(!problems.opened(&unavailable, &target("p", 2), &name()));
    }

    #[test]
    fn a_project_that_alone_is_refused_is_told_from_the_worker_s_own_fault() {
        let (mut problems, now) = (ApiProblems::default(), begin());
        let judged = |problems: &mut ApiProblems, project| {
            let mut reply = Reply::Failure(failure(FailureKind::PermissionDenied));
            problems.judge(&mut reply, &target(project, 1), now);
            let Reply::Failure(failure) = reply else { panic!("a failure") };
            failure.kind
        };
        assert_eq!(judged(&mut problems, "foreign"), FailureKind::PermissionDenied);
        hear(&mut problems, &Reply::Accepted, 1, now);
        assert_eq!(judged(&mut problems, "foreign"), FailureKind::ForeignProject);
        assert_eq!(judged(&mut problems, "p"), FailureKind::PermissionDenied);
    }
}
