use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use cancel_worker::cancellation::{ErrorDetail, Failure, FailureKind, Operation, OperationStatus, Reply};
use cancel_worker::message::OperationName;
use cancel_worker::operations_api::{Call, CallSent, Operations, ServingEndpoint, ToldTime};
use cancel_worker::pacing::Key;

use crate::test_env::TestEnv;

/// What a bug says.
pub const PANIC: &str = "a simulated bug";

/// What an operation does by itself and when it is cancelled. Times are from its beginning, or from the cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    Cancels {
        after: Duration,
    },
    Completes {
        at: Duration,
    },
    EndsWithItsOwnError {
        at: Duration,
    },
    /// Completes, unless a cancel comes early enough.
    Races {
        at: Duration,
        after: Duration,
    },
    NeverDone,
    Unimplemented,
    NotFound,
    Denied,
    NotCancellable,
    /// Calling it panics: a bug of the worker.
    Panics,
}

/// The truth about an operation.
pub struct SimulatedOperation {
    pub script: Script,
    pub began: Instant,
    pub cancelled: Option<Instant>,
    /// Cancels that reached it.
    pub cancels: u32,
}

impl SimulatedOperation {
    /// The google.rpc code that it has ended with, if it has.
    pub fn ended(&self, now: Instant) -> Option<i32> {
        let over = |end: Instant, code| (now >= end).then_some(code);
        match self.script {
            Script::Cancels { after } => over(self.cancelled? + after, 1),
            Script::Completes { at } => over(self.began + at, 0),
            Script::EndsWithItsOwnError { at } => over(self.began + at, 13),
            Script::Races { at, after } => {
                let completes = self.began + at;
                match self.cancelled.map(|cancelled| cancelled + after) {
                    Some(cancels) if cancels < completes => over(cancels, 1),
                    _ => over(completes, 0),
                }
            }
            Script::NeverDone
            | Script::Unimplemented
            | Script::NotFound
            | Script::Denied
            | Script::NotCancellable
            | Script::Panics => None,
        }
    }

    fn cancel(&mut self, now: Instant) -> Reply {
        self.cancels += 1;
        match self.script {
            Script::Unimplemented => failure(FailureKind::Unimplemented),
            Script::NotFound => failure(FailureKind::NotFound),
            Script::Denied => failure(FailureKind::PermissionDenied),
            Script::NotCancellable => failure(FailureKind::FailedPrecondition),
            _ if self.ended(now).is_some() => failure(FailureKind::FailedPrecondition),
            _ => {
                self.cancelled.get_or_insert(now);
                Reply::Accepted
            }
        }
    }

    fn get(&self, name: &OperationName, now: Instant) -> Reply {
        match self.script {
            Script::NotFound => return failure(FailureKind::NotFound),
            Script::Denied => return failure(FailureKind::PermissionDenied),
            _ => {}
        }
        let ended = self.ended(now);
        let error = ended.filter(|code| *code != 0);
        let error = error.map(|code| OperationStatus { code, message: "ended so".to_owned() });
        let resource = json!({ "name": name.as_str(), "done": ended.is_some() }).to_string();
        Reply::Operation(Operation {
            done: ended.is_some(),
            error,
            resource: Arc::from(RawValue::from_string(resource).unwrap()),
        })
    }
}

fn failure(kind: FailureKind) -> Reply {
    failure_after(kind, None)
}

fn failure_after(kind: FailureKind, retry_after: Option<Duration>) -> Reply {
    let error = ErrorDetail { message: format!("simulated {kind:?}"), ..ErrorDetail::default() };
    Reply::Failure(Failure { kind, error, retry_after })
}

/// The simulated API, as one worker sees it: the truth through bad weather.
pub struct SimulatedApi {
    pub env: TestEnv,
    pub worker: usize,
}

impl SimulatedApi {
    async fn answer(&self, what: &str, name: &OperationName, effect: impl FnOnce() -> Reply) -> Reply {
        self.env.edge(self.worker, format!("{what} {name}")).await;
        let (before, hangs) = {
            let mut state = self.env.state();
            (state.strikes("no effect", 0.06), state.jitter.u8(..4) == 0)
        };
        if before {
            return self.bad_weather(hangs).await;
        }
        let reply = effect();
        self.env.edge(self.worker, format!("{what} {name} has its effect: {}", shown(&reply))).await;
        let after = self.env.state().strikes("answer lost after the effect", 0.06);
        if after { self.bad_weather(hangs).await } else { reply }
    }

    async fn bad_weather(&self, hangs: bool) -> Reply {
        if hangs {
            sleep(Duration::from_secs(10)).await;
        }
        let kind = match self.env.state().jitter.u8(..6) {
            0 => FailureKind::RateLimited,
            1 => FailureKind::Unauthenticated,
            _ => FailureKind::Unavailable,
        };
        let retry_after = self.env.state().jitter.bool().then_some(Duration::from_secs(2));
        failure_after(kind, retry_after)
    }
}

fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Accepted => "accepted".to_owned(),
        Reply::Operation(operation) => format!("done {}, {:?}", operation.done, operation.error),
        Reply::Undecodable { detail } => detail.clone(),
        Reply::Failure(failure) | Reply::NotMade(failure) => format!("{:?}", failure.kind),
    }
}

impl Operations for SimulatedApi {
    async fn call(&self, call: Call, name: &OperationName, sent: &CallSent) -> Reply {
        sent.tell();
        let script = self.env.state().operations.get(name.as_str()).map(|operation| operation.script);
        if matches!(script, Some(Script::Panics)) {
            std::panic::panic_any(PANIC);
        }
        let effect = || match (call, self.env.state().operations.get_mut(name.as_str())) {
            (Call::Cancel, Some(operation)) => operation.cancel(Instant::now()),
            (Call::Get, Some(operation)) => operation.get(name, Instant::now()),
            (_, None) => failure(FailureKind::NotFound),
        };
        let began = Instant::now();
        let reply = self.answer(if call == Call::Cancel { "cancel" } else { "get" }, name, effect).await;
        if !matches!(&reply, Reply::Failure(Failure { kind: FailureKind::Unavailable, .. })) {
            let time = self.env.wall_clock().replace_nanosecond(0).unwrap();
            sent.tell_time(ToldTime { time, round_trip: began.elapsed(), arrived: Instant::now() });
        }
        reply
    }

    fn endpoint(&self, _name: &OperationName) -> Option<ServingEndpoint> {
        Some(ServingEndpoint { key: Key::of("simulated"), in_settings: true })
    }
}
