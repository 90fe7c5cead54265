use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::meters::NotReady;

/// Whether the worker can do its work now and, if not, why not. The worker writes it, probes read it.
#[derive(Debug, Default)]
pub struct Readiness {
    stop: CancellationToken,
    /// An answer waits in the broker since its event was not taken, and none has been taken since.
    untaken: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    session: Session,
    /// Deliveries whose publish is being repeated.
    stuck: usize,
    /// Why, of the last attempt.
    problem: String,
    /// What is wrong between the worker and the Operations API.
    api: Option<watch::Receiver<Vec<(NotReady, String)>>>,
}

#[derive(Default)]
enum Session {
    /// There was none yet.
    #[default]
    First,
    /// There is none, and why.
    None(String),
    There {
        consuming: bool,
        /// Whether an alarm keeps the broker from taking publishes.
        blocked: watch::Receiver<bool>,
        /// Tells what is wrong with queues and exchanges.
        topology: Box<dyn Fn() -> Option<String> + Send>,
    },
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("First"),
            Self::None(reason) => f.debug_tuple("None").field(reason).finish(),
            Self::There { consuming, .. } => {
                f.debug_struct("There").field("consuming", consuming).finish_non_exhaustive()
            }
        }
    }
}

impl Readiness {
    /// Of a worker that ends with `stop`. Not ready yet.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, untaken: AtomicBool::new(false), state: Mutex::default() }
    }

    /// Why the worker is not ready, each a sentence; nothing if it is.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        self.problems().into_iter().map(|(_, sentence)| sentence).collect()
    }

    /// The same, each with its kind.
    #[must_use]
    pub fn problems(&self) -> Vec<(NotReady, String)> {
        let state = self.state();
        let session = match &state.session {
            Session::First => Some((NotReady::Session, "there is no session with the broker yet".to_owned())),
            Session::None(reason) => {
                Some((NotReady::Session, format!("there is no session with the broker: {reason}")))
            }
            Session::There { blocked, .. } if *blocked.borrow() => Some((
                NotReady::Blocked,
                "the broker blocks publishing: an alarm for its memory or disk is on, see `rabbitmq-diagnostics alarms`"
                    .to_owned(),
            )),
            Session::There { consuming: false, .. } => Some((
                NotReady::Session,
                "the session with the broker begins: it has not been seen to take a publish yet".to_owned(),
            )),
            Session::There { .. } => None,
        };
        let stuck = (state.stuck > 0).then(|| {
            format!(
                "the broker does not take what the worker publishes ({} deliveries): {}",
                state.stuck, state.problem
            )
        });
        let untaken = (stuck.is_none() && self.untaken.load(Relaxed)).then(|| {
            format!("answers wait in the broker, which did not take them when they were published: {}", state.problem)
        });
        let unsettled = stuck.or(untaken).map(|sentence| (NotReady::Unsettled, sentence));
        let topology = match &state.session {
            Session::There { topology, .. } => topology().map(|sentence| (NotReady::Topology, sentence)),
            Session::First | Session::None(_) => None,
        };
        let stopping = self.stop.is_cancelled().then(|| (NotReady::Stopping, "the worker is stopping".to_owned()));
        let api = state.api.as_ref().map(|api| api.borrow().clone()).unwrap_or_default();
        [stopping, session, topology, unsettled].into_iter().flatten().chain(api).collect()
    }

    /// Deliveries whose publish is being repeated.
    #[must_use]
    pub fn stuck_deliveries(&self) -> usize {
        self.state().stuck
    }

    /// What is wrong between the worker and the Operations API is told there, each a sentence.
    pub fn watch_api(&self, api: watch::Receiver<Vec<(NotReady, String)>>) {
        self.state().api = Some(api);
    }

    /// There is no session, and this is why.
    pub fn no_session(&self, reason: &dyn fmt::Display) {
        self.state().session = Session::None(reason.to_string());
    }

    /// There is a session, which does not consume yet. `blocked` is whether the broker takes no publishes now, `topology`
    /// tells what is wrong with queues and exchanges now.
    pub fn preparing(&self, blocked: watch::Receiver<bool>, topology: impl Fn() -> Option<String> + Send + 'static) {
        self.state().session = Session::There { consuming: false, blocked, topology: Box::new(topology) };
    }

    /// Deliveries are taken.
    pub fn consuming(&self) {
        if let Session::There { consuming, .. } = &mut self.state().session {
            *consuming = true;
        }
    }

    /// What came of a delivery cannot be published; tells whether it is the only such delivery. To be ended with
    /// [`unstuck`](Self::unstuck).
    pub fn stuck(&self, problem: &dyn fmt::Display) -> bool {
        let mut state = self.state();
        state.stuck += 1;
        state.problem = problem.to_string();
        state.stuck == 1
    }

    /// A delivery is still stuck, and this is why.
    pub fn still_stuck(&self, problem: &dyn fmt::Display) {
        self.state().problem = problem.to_string();
    }

    /// A delivery is stuck no more; tells whether none is.
    pub fn unstuck(&self) -> bool {
        let mut state = self.state();
        state.stuck = state.stuck.saturating_sub(1);
        state.stuck == 0
    }

    /// An answer was not taken for so long that it waits in the broker.
    pub fn event_untaken(&self) {
        self.untaken.store(true, Relaxed);
    }

    /// An event was taken.
    pub fn event_taken(&self) {
        if self.untaken.load(Relaxed) {
            self.untaken.store(false, Relaxed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_ready_while_it_consumes_and_the_broker_takes_what_it_publishes() {
        let stop = CancellationToken::new();
        let readiness = Readiness::new(stop.clone());
        assert_eq!(readiness.reasons(), ["there is no session with the broker yet"]);
        let (alarm, blocked) = watch::channel(false);
        readiness.preparing(blocked.clone(), || None);
        assert!(readiness.reasons()[0].contains("begins"));
        readiness.consuming();
        assert_eq!(readiness.reasons(), [""; 0]);

        assert!(readiness.stuck(&"no queue is bound"));
        assert!(!readiness.stuck(&"the queue is full"));
        assert!(!readiness.unstuck());
        let reason = "the broker does not take what the worker publishes (1 deliveries): the queue is full";
        assert_eq!(readiness.reasons(), [reason]);
        assert!(readiness.unstuck());

        readiness.event_untaken();
        let reason = "answers wait in the broker, which did not take them when they were published: the queue is full";
        assert_eq!(readiness.reasons(), [reason]);
        readiness.event_taken();
        assert_eq!(readiness.reasons(), [""; 0]);

        let (tell, api) = watch::channel(vec![]);
        readiness.watch_api(api);
        tell.send_replace(vec![(NotReady::Endpoint, "an endpoint refuses whoever calls".to_owned())]);
        assert_eq!(readiness.reasons(), ["an endpoint refuses whoever calls"]);
        tell.send_replace(vec![]);

        readiness.preparing(blocked.clone(), || Some("queue \"q\" does not exist: create it".to_owned()));
        readiness.consuming();
        assert_eq!(readiness.reasons(), ["queue \"q\" does not exist: create it"]);

        alarm.send_replace(true);
        readiness.preparing(blocked, || None);
        readiness.consuming();
        assert!(readiness.reasons()[0].contains("alarm"));
        readiness.no_session(&"it was closed");
        stop.cancel();
        assert_eq!(
            readiness.reasons(),
            ["the worker is stopping", "there is no session with the broker: it was closed"]
        );
    }
}
