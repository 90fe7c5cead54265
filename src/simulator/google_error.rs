use std::time::Duration;

use serde::Serialize;

use crate::google_rpc::Code;

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
        Self { error: Body { code: code.http_status(), message: message(code), status: code.name(), details } }
    }
}

impl<'a> Envelope<'a> {
    pub(super) fn invalid_argument(message: &'a str) -> Self {
        let code = Code::InvalidArgument;
        Self { error: Body { code: code.http_status(), message, status: code.name(), details: Vec::new() } }
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

/// What Google's services say with it.
pub(super) const fn message(code: Code) -> &'static str {
    match code {
        Code::Cancelled => "The operation was cancelled.",
        Code::Unknown => "Unknown Error.",
        Code::InvalidArgument => "Request contains an invalid argument.",
        Code::DeadlineExceeded => "Deadline expired before operation could complete.",
        Code::NotFound => "Requested entity was not found.",
        Code::AlreadyExists => "Requested entity already exists",
        Code::PermissionDenied => "The caller does not have permission",
        Code::ResourceExhausted => "Resource has been exhausted (e.g. check quota).",
        Code::FailedPrecondition => "Precondition check failed.",
        Code::Aborted => "The operation was aborted.",
        Code::OutOfRange => "The operation was attempted past the valid range.",
        Code::Unimplemented => "Operation is not implemented, or supported, or enabled.",
        Code::Internal => "Internal error encountered.",
        Code::Unavailable => "The service is currently unavailable.",
        Code::DataLoss => "Unrecoverable data loss or data corruption.",
        Code::Unauthenticated => {
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other \
             valid authentication credential."
        }
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
