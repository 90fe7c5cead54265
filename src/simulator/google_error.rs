use std::time::Duration;

use serde::Serialize;

/// google.rpc.Code without OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Cancelled = 1,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl Code {
    /// In the order of their numbers, which begin with 1.
    const ALL: [Self; 16] = [
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    pub(super) const fn number(self) -> u8 {
        self as u8
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.number() == number)
    }

    /// The code that stands for a status where only a status is given.
    pub(super) fn from_http(status: u16) -> Option<Self> {
        match status {
            400 => Some(Self::InvalidArgument),
            409 => Some(Self::Aborted),
            500 => Some(Self::Internal),
            _ => Self::ALL.into_iter().find(|code| code.http() == status),
        }
    }

    /// The mapping of google/rpc/code.proto.
    pub(super) const fn http(self) -> u16 {
        match self {
            Self::InvalidArgument | Self::FailedPrecondition | Self::OutOfRange => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Aborted => 409,
            Self::ResourceExhausted => 429,
            Self::Cancelled => 499,
            Self::Unknown | Self::Internal | Self::DataLoss => 500,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    /// What Google's services say with it.
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::Cancelled => "The operation was cancelled.",
            Self::Unknown => "Unknown Error.",
            Self::InvalidArgument => "Request contains an invalid argument.",
            Self::DeadlineExceeded => "Deadline expired before operation could complete.",
            Self::NotFound => "Requested entity was not found.",
            Self::AlreadyExists => "Requested entity already exists",
            Self::PermissionDenied => "The caller does not have permission",
            Self::ResourceExhausted => "Resource has been exhausted (e.g. check quota).",
            Self::FailedPrecondition => "Precondition check failed.",
            Self::Aborted => "The operation was aborted.",
            Self::OutOfRange => "The operation was attempted past the valid range.",
            Self::Unimplemented => "Operation is not implemented, or supported, or enabled.",
            Self::Internal => "Internal error encountered.",
            Self::Unavailable => "The service is currently unavailable.",
            Self::DataLoss => "Unrecoverable data loss or data corruption.",
            Self::Unauthenticated => {
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other \
                 valid authentication credential."
            }
        }
    }
}

/// Google's error envelope: `{"error":{…}}`.
#[derive(Debug, Serialize)]
pub(super) struct Envelope<'a> {
    error: Body<'a>,
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Detail>,
}

/// The google.rpc error details that decide something.
#[derive(Debug, Serialize)]
#[serde(tag = "@type")]
pub(super) enum Detail {
    #[serde(rename = "type.googleapis.com/google.rpc.RetryInfo")]
    RetryInfo {
        #[serde(rename = "retryDelay")]
        retry_delay: String,
    },
    #[serde(rename = "type.googleapis.com/google.rpc.QuotaFailure")]
    QuotaFailure { violations: [Violation; 1] },
    #[serde(rename = "type.googleapis.com/google.rpc.ErrorInfo")]
    ErrorInfo { reason: &'static str, domain: &'static str, metadata: Metadata },
}

#[derive(Debug, Serialize)]
pub(super) struct Violation {
    subject: &'static str,
    description: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct Metadata {
    service: &'static str,
}

impl Envelope<'static> {
    pub(super) fn new(code: Code, details: Vec<Detail>) -> Self {
        Self { error: Body { code: code.http(), message: code.message(), status: code.name(), details } }
    }
}

impl<'a> Envelope<'a> {
    pub(super) fn invalid_argument(message: &'a str) -> Self {
        let code = Code::InvalidArgument;
        Self { error: Body { code: code.http(), message, status: code.name(), details: Vec::new() } }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        // Strings and numbers only: it cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Detail {
    pub(super) fn retry_info(delay: Duration) -> Self {
        Self::RetryInfo { retry_delay: proto_duration(delay) }
    }

    pub(super) fn quota_failure() -> Self {
        Self::QuotaFailure {
            violations: [Violation {
                subject: "project:simulated",
                description: "Quota exceeded for quota metric 'All other requests' and limit 'All other requests per minute'.",
            }],
        }
    }

    pub(super) fn error_info(reason: &'static str) -> Self {
        let metadata = Metadata { service: "dialogflow.googleapis.com" };
        Self::ErrorInfo { reason, domain: "googleapis.com", metadata }
    }
}

/// `google.protobuf.Duration` in proto3 JSON: seconds with no or three decimals.
fn proto_duration(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_millis()) {
        (seconds, 0) => format!("{seconds}s"),
        (seconds, millis) => format!("{seconds}.{millis:03}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_numbers_of_google_rpc() {
        assert_eq!(
            (Code::Cancelled.number(), Code::Unimplemented.number(), Code::Unauthenticated.number()),
            (1, 12, 16)
        );
        for number in 1..=16 {
            assert_eq!(Code::from_number(number).map(Code::number), Some(number));
        }
        assert_eq!((Code::from_number(0), Code::from_number(17)), (None, None));
    }

    #[test]
    fn a_bare_status_stands_for_its_usual_code() {
        let of = |status| Code::from_http(status).map(Code::name);
        assert_eq!(of(400), Some("INVALID_ARGUMENT"));
        assert_eq!(of(409), Some("ABORTED"));
        assert_eq!(of(500), Some("INTERNAL"));
        assert_eq!(of(503), Some("UNAVAILABLE"));
        assert_eq!(of(502), None);
    }

    #[test]
    fn the_envelope_is_google_s() {
        let details = vec![Detail::retry_info(Duration::from_millis(1500)), Detail::error_info("X")];
        let json = String::from_utf8(Envelope::new(Code::Unavailable, details).to_json()).expect("text");
        assert_eq!(
            json,
            concat!(
                r#"{"error":{"code":503,"message":"The service is currently unavailable.","status":"UNAVAILABLE","details":["#,
                r#"{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.500s"},"#,
                r#"{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"X","domain":"googleapis.com","metadata":{"service":"dialogflow.googleapis.com"}}]}}"#
            )
        );
    }
}
