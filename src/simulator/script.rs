use std::time::Duration;

use super::fault::Fault;
use crate::google_rpc::Code;

/// What becomes of an operation, and what its calls are answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    /// The cancel is accepted, and that long after it the operation is done.
    Ends { ending: Ending, after: Duration },
    /// The cancel is accepted, and the operation is never done.
    Never,
    /// The operation was done before the first call.
    Already(Ending),
    /// The cancel and, where no ending is given, the get answer NOT_FOUND.
    NotFound(Option<Ending>),
    /// Once the cancel was accepted, a get answers NOT_FOUND.
    Lost(Times),
    /// The cancel is accepted, with an answer that is not JSON.
    OddBody,
    /// The cancel answers with a fault; a get tells the ending, or else that the operation is running.
    CancelFails { fault: Fault, times: Times, meanwhile: Option<Ending> },
    /// The cancel is accepted, a get answers with a fault.
    GetFails { fault: Fault, times: Times },
}

/// How an operation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With `error.code` 1.
    Cancelled,
    /// With a response.
    Completed,
    /// With this error.
    Error(Code),
    /// With neither an error nor a response.
    Empty,
    /// With `error: {}`.
    EmptyError,
}

/// How many times a fault happens; `None`: every time.
pub(super) type Times = Option<u32>;

/// Why a text is no script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidScript {
    #[error("the script's word {0:?} is not known")]
    Word(String),
    #[error("the script's parameter {0:?} does not fit there")]
    Parameter(String),
}

impl Script {
    /// What an operation does whose id says nothing.
    pub(super) const DEFAULT: Self = Self::Ends { ending: Ending::Cancelled, after: Duration::ZERO };

    /// The script that an id begins with.
    pub(super) fn of_id(id: &str) -> Self {
        let (word, mut parameters) = Parameters::split(id);
        read(word, &mut parameters).unwrap_or(Self::DEFAULT)
    }

    /// A script and nothing else.
    ///
    /// # Errors
    /// The word is not known, or a parameter is not one of the word's.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidScript> {
        let (word, mut parameters) = Parameters::split(text);
        let script = read(word, &mut parameters).ok_or_else(|| InvalidScript::Word(word.to_owned()))?;
        match parameters.next {
            None => Ok(script),
            Some(rest) => Err(InvalidScript::Parameter(rest.to_owned())),
        }
    }
}

fn read(word: &str, parameters: &mut Parameters<'_>) -> Option<Script> {
    let ends = |ending, parameters: &mut Parameters<'_>| {
        Some(Script::Ends { ending, after: parameters.delay().unwrap_or_default() })
    };
    match word {
        "cancels" | "running" => ends(Ending::Cancelled, parameters),
        "completes" => ends(Ending::Completed, parameters),
        "empty" => ends(Ending::Empty, parameters),
        "emptyerror" => ends(Ending::EmptyError, parameters),
        "errs" => {
            let code = parameters.code().unwrap_or(Code::Internal);
            ends(Ending::Error(code), parameters)
        }
        "never" => Some(Script::Never),
        "already" => Some(Script::Already(parameters.ending().unwrap_or(Ending::Cancelled))),
        "notfound" => Some(Script::NotFound(parameters.ending())),
        "lost" => Some(Script::Lost(parameters.times())),
        "garbage" => Some(Script::GetFails { fault: Fault::NotJson, times: parameters.times() }),
        "big" => Some(Script::GetFails { fault: Fault::Big, times: parameters.times() }),
        "oddbody" => Some(Script::OddBody),
        _ => faulty(word, parameters),
    }
}

fn faulty(word: &str, parameters: &mut Parameters<'_>) -> Option<Script> {
    if let Some(word) = word.strip_suffix("get") {
        let (fault, times) = read_fault(word, parameters)?;
        return Some(Script::GetFails { fault, times });
    }
    let (fault, times) = read_fault(word, parameters)?;
    Some(Script::CancelFails { fault, times, meanwhile: parameters.ending() })
}

fn read_fault(word: &str, parameters: &mut Parameters<'_>) -> Option<(Fault, Times)> {
    let fault = plain_fault(word)?;
    if !fault.is_passing() {
        return Some((fault, None));
    }
    let times = parameters.times();
    let fault = match fault {
        Fault::Limited { wait } => Fault::Limited { wait: parameters.delay().unwrap_or(wait) },
        Fault::Quota403 { wait } => Fault::Quota403 { wait: parameters.delay().unwrap_or(wait) },
        Fault::RetryAfter { status, seconds } => {
            Fault::RetryAfter { status, seconds: parameters.seconds().unwrap_or(seconds) }
        }
        Fault::RetryDate { seconds } => Fault::RetryDate { seconds: parameters.seconds().unwrap_or(seconds) },
        other => other,
    };
    Some((fault, times))
}

/// The fault that a word names, as it is without parameters.
fn plain_fault(word: &str) -> Option<Fault> {
    const WAIT: Duration = Duration::from_secs(1);
    Some(match word {
        "unimplemented" => Fault::Code(Code::Unimplemented),
        "precondition" => Fault::Code(Code::FailedPrecondition),
        "denied" => Fault::Code(Code::PermissionDenied),
        "invalid" => Fault::Code(Code::InvalidArgument),
        "outofrange" => Fault::Code(Code::OutOfRange),
        "flaky" | "unavailable" => Fault::Code(Code::Unavailable),
        "internal" => Fault::Code(Code::Internal),
        "unknown" => Fault::Code(Code::Unknown),
        "deadline" => Fault::Code(Code::DeadlineExceeded),
        "dataloss" => Fault::Code(Code::DataLoss),
        "aborted" => Fault::Code(Code::Aborted),
        "exists" => Fault::Code(Code::AlreadyExists),
        "http499" => Fault::Code(Code::Cancelled),
        "unauthenticated" => Fault::Code(Code::Unauthenticated),
        "limited" => Fault::Limited { wait: WAIT },
        "quota403" => Fault::Quota403 { wait: WAIT },
        "retryafter" => Fault::RetryAfter { status: 429, seconds: 1 },
        "retrydate" => Fault::RetryDate { seconds: 1 },
        "redirect" => Fault::Redirect,
        "hangs" => Fault::Hang,
        "cut" => Fault::Cut,
        _ => Fault::Html(number(word.strip_prefix("html")?, 400, 599)?),
    })
}

/// The pieces after the word, each taken only if it is what is asked for.
struct Parameters<'a> {
    next: Option<&'a str>,
    rest: &'a str,
}

const SEPARATORS: [char; 2] = ['-', '.'];

impl<'a> Parameters<'a> {
    fn split(text: &'a str) -> (&'a str, Self) {
        let (word, rest) = text.split_once(SEPARATORS).map_or((text, None), |(word, rest)| (word, Some(rest)));
        let mut parameters = Self { next: None, rest: "" };
        parameters.advance(rest);
        (word, parameters)
    }

    fn advance(&mut self, rest: Option<&'a str>) {
        let (next, rest) = match rest {
            None => (None, ""),
            Some(rest) => rest.split_once(SEPARATORS).map_or((Some(rest), ""), |(next, rest)| (Some(next), rest)),
        };
        (self.next, self.rest) = (next, rest);
    }

    fn take<T>(&mut self, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let taken = read(self.next?)?;
        let rest = (!self.rest.is_empty()).then_some(self.rest);
        self.advance(rest);
        Some(taken)
    }

    fn times(&mut self) -> Times {
        self.take(|piece| number(piece, 1, 9999)).map(u32::from)
    }

    fn code(&mut self) -> Option<Code> {
        self.take(|piece| Code::from_number(i32::from(number(piece, 1, 16)?)))
    }

    fn seconds(&mut self) -> Option<u32> {
        self.take(|piece| number(piece.strip_suffix('s').unwrap_or(piece), 1, 9999)).map(u32::from)
    }

    fn delay(&mut self) -> Option<Duration> {
        self.take(read_delay)
    }

    fn ending(&mut self) -> Option<Ending> {
        self.take(|piece| match piece {
            "done" => Some(Ending::Completed),
            "cancelled" => Some(Ending::Cancelled),
            _ => None,
        })
    }
}

/// A decimal number of at most four digits without leading zeros, within bounds.
fn number(text: &str, least: u16, most: u16) -> Option<u16> {
    let plain = text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|number| plain && (least..=most).contains(number))
}

/// Digits and a unit, such as `250ms`.
pub(super) fn read_delay(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (amount, unit) = text.split_at_checked(digits)?;
    // At most nine digits: no unit makes it overflow.
    let amount: u64 = amount.parse().ok().filter(|_| digits <= 9)?;
    match unit {
        "ms" => Some(Duration::from_millis(amount)),
        "s" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_secs(amount * 60)),
        "h" => Some(Duration::from_secs(amount * 3600)),
        _ => None,
    }
}
