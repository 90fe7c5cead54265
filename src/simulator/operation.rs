use std::time::Duration;

use tokio::time::Instant;

use super::fault::Fault;
use super::script::{Ending, Script, Times};
use crate::google_rpc::Code;

/// The two calls that operations get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Cancel,
    Get,
}

/// What a call is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The cancel was taken: `{}`.
    Accepted,
    /// The operation: running, or how it is done.
    Operation(Option<Ending>),
    /// INVALID_ARGUMENT: a cancel whose body is not empty.
    BadBody,
    /// Anything else.
    Fault(Fault),
}

impl Answer {
    /// `None` if there is no answer.
    pub(super) const fn status(self) -> Option<u16> {
        match self {
            Self::Accepted | Self::Operation(_) => Some(200),
            Self::BadBody => Some(400),
            Self::Fault(fault) => fault.status(),
        }
    }
}

/// One scripted operation.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) script: Script,
    /// When the first cancel was accepted.
    accepted: Option<Instant>,
    /// How many calls the script has answered with its fault.
    faults: u32,
    /// Until when an answer asked the client not to call.
    not_before: Option<Instant>,
    pub(super) log: Log,
}

/// The calls that an operation got.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) cancels: u32,
    pub(super) gets: u32,
    pub(super) too_early: u32,
    /// The first calls, at most [`Log::MAX_CALLS`].
    pub(super) calls: Vec<Record>,
    /// The last cancel's `Content-Length`.
    pub(super) content_length: Option<u32>,
    /// The last call's `x-goog-user-project`.
    pub(super) user_project: Option<Box<str>>,
}

/// One call. Small, because there are many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// Milliseconds since the simulator began.
    pub(super) at: u32,
    /// 0 if there was no answer.
    pub(super) status: u16,
    pub(super) method: Method,
    pub(super) too_early: bool,
    pub(super) authorized: bool,
}

impl Log {
    const MAX_CALLS: usize = 64;

    pub(super) fn add(&mut self, record: Record) {
        match record.method {
            Method::Cancel => self.cancels = self.cancels.saturating_add(1),
            Method::Get => self.gets = self.gets.saturating_add(1),
        }
        self.too_early = self.too_early.saturating_add(u32::from(record.too_early));
        if self.calls.len() < Self::MAX_CALLS {
            self.calls.push(record);
        }
    }
}

impl Operation {
    pub(super) fn new(script: Script) -> Self {
        Self { script, accepted: None, faults: 0, not_before: None, log: Log::default() }
    }

    /// What the script answers at this time.
    pub(super) fn call(&mut self, method: Method, now: Instant) -> Answer {
        match method {
            Method::Cancel => self.cancel(now),
            Method::Get => self.get(now),
        }
    }

    /// Whether a call at this time breaks a wait that was asked for.
    pub(super) fn is_too_early(&self, now: Instant) -> bool {
        self.not_before.is_some_and(|end| now < end)
    }

    /// Asks the client not to call for this long.
    pub(super) fn ask_to_wait(&mut self, wait: Duration, now: Instant) {
        self.not_before = Some(now + wait);
    }

    fn cancel(&mut self, now: Instant) -> Answer {
        let script = self.script;
        match script {
            Script::CancelFails { fault, times, .. } if self.fails_again(times) => return Answer::Fault(fault),
            Script::NotFound(_) => return Answer::Fault(Fault::Code(Code::NotFound)),
            _ => {}
        }
        self.accepted.get_or_insert(now);
        match script {
            Script::OddBody => Answer::Fault(Fault::NotJson),
            _ => Answer::Accepted,
        }
    }

    fn get(&mut self, now: Instant) -> Answer {
        let script = self.script;
        match script {
            Script::GetFails { fault, times } if self.fails_again(times) => Answer::Fault(fault),
            Script::Lost(times) if self.accepted.is_some() && self.fails_again(times) => {
                Answer::Fault(Fault::Code(Code::NotFound))
            }
            Script::NotFound(None) => Answer::Fault(Fault::Code(Code::NotFound)),
            _ => Answer::Operation(self.ending(now)),
        }
    }

    fn fails_again(&mut self, times: Times) -> bool {
        let fails = times.is_none_or(|times| self.faults < times);
        self.faults = self.faults.saturating_add(u32::from(fails));
        fails
    }

    /// How the operation is done, if it is by now.
    pub(super) fn ending(&self, now: Instant) -> Option<Ending> {
        match self.script {
            Script::Ends { ending, after } => self.accepted.filter(|accepted| now >= *accepted + after).map(|_| ending),
            Script::Never => None,
            Script::Already(ending)
            | Script::NotFound(Some(ending))
            | Script::CancelFails { meanwhile: Some(ending), .. } => Some(ending),
            Script::NotFound(None)
            | Script::OddBody
            | Script::Lost(_)
            | Script::CancelFails { meanwhile: None, .. }
            | Script::GetFails { .. } => self.accepted.map(|_| Ending::Cancelled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn the_delay_begins_with_the_first_cancel_that_is_accepted() {
        let start = Instant::now();
        let mut operation = Operation::new(Script::of_id("completes-250ms"));
        assert_eq!(operation.call(Method::Get, start), Answer::Operation(None));
        assert_eq!(operation.call(Method::Cancel, later(start, 100)), Answer::Accepted);
        assert_eq!(operation.call(Method::Cancel, later(start, 200)), Answer::Accepted);
        assert_eq!(operation.call(Method::Get, later(start, 349)), Answer::Operation(None));
        assert_eq!(operation.call(Method::Get, later(start, 350)), Answer::Operation(Some(Ending::Completed)));
    }

    #[test]
    fn a_fault_happens_so_many_times_and_no_more() {
        let now = Instant::now();
        let mut operation = Operation::new(Script::of_id("flaky-2"));
        let answers = [(); 4].map(|()| operation.call(Method::Cancel, now).status());
        assert_eq!(answers, [Some(503), Some(503), Some(200), Some(200)]);
        assert_eq!(operation.call(Method::Get, now), Answer::Operation(Some(Ending::Cancelled)));
    }

    #[test]
    fn a_wait_that_was_asked_for_is_over_at_its_end() {
        let start = Instant::now();
        let mut operation = Operation::new(Script::Never);
        assert!(!operation.is_too_early(start));
        operation.ask_to_wait(Duration::from_millis(50), start);
        assert!(operation.is_too_early(later(start, 49)));
        assert!(!operation.is_too_early(later(start, 50)));
    }

    #[test]
    fn the_log_of_a_call_stays_short_while_the_counts_go_on() {
        let mut log = Log::default();
        for at in 0..100 {
            log.add(Record { at, status: 200, method: Method::Get, too_early: at % 2 == 0, authorized: true });
        }
        assert_eq!((log.gets, log.too_early, log.calls.len()), (100, 50, Log::MAX_CALLS));
    }
}
