use std::time::Duration;

use crate::google_rpc::Code;

/// An answer that is not the healthy one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Google's error envelope.
    Code(Code),
    /// 429 in an envelope with RetryInfo and QuotaFailure.
    Limited { wait: Duration },
    /// 403 in an envelope with RATE_LIMIT_EXCEEDED and RetryInfo.
    Quota403 { wait: Duration },
    /// A page with `Retry-After` as seconds.
    RetryAfter { status: u16, seconds: u32 },
    /// 429, a page with `Retry-After` as an HTTP date.
    RetryDate { seconds: u32 },
    /// A page of the front end.
    Html(u16),
    /// 302.
    Redirect,
    /// 200 with something that is not JSON.
    NotJson,
    /// 200 with an operation of more than 1 MiB.
    Big,
    /// No answer, for ever.
    Hang,
    /// The connection is closed instead of an answer.
    Cut,
}

impl Fault {
    /// `None` if there is no answer.
    pub(super) const fn status(self) -> Option<u16> {
        match self {
            Self::Code(code) => Some(code.http_status()),
            Self::Limited { .. } | Self::RetryDate { .. } => Some(429),
            Self::Quota403 { .. } => Some(403),
            Self::RetryAfter { status, .. } | Self::Html(status) => Some(status),
            Self::Redirect => Some(302),
            Self::NotJson | Self::Big => Some(200),
            Self::Hang | Self::Cut => None,
        }
    }

    /// How long it asks the client not to call.
    pub(super) const fn asked_wait(self) -> Option<Duration> {
        match self {
            Self::Limited { wait } | Self::Quota403 { wait } => Some(wait),
            Self::RetryAfter { seconds, .. } | Self::RetryDate { seconds } => Some(Duration::from_secs(seconds as u64)),
            _ => None,
        }
    }

    /// Whether the same call may succeed later, so that "n times, then not" makes sense.
    pub(super) const fn is_passing(self) -> bool {
        match self {
            Self::Code(code) => !matches!(
                code,
                Code::Unimplemented
                    | Code::FailedPrecondition
                    | Code::PermissionDenied
                    | Code::InvalidArgument
                    | Code::OutOfRange
                    | Code::NotFound
            ),
            Self::Html(status) => matches!(status, 408 | 429 | 499 | 500 | 502..),
            Self::Redirect => false,
            _ => true,
        }
    }
}
