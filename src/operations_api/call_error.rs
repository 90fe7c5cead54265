use std::time::Duration;

use super::auth::AuthError;
use super::endpoints::NoEndpoint;
use super::text::{MAX_MESSAGE_BYTES, printable};
use crate::cancellation::{ErrorDetail, Failure, FailureKind};

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{0}")]
    NoEndpoint(#[from] NoEndpoint),
    #[error("failed to {0}")]
    Credentials(#[from] AuthError),
    #[error("there was no token within {0:?} (api.call_timeout)")]
    CredentialsTimeout(Duration),
    #[error("no connection to {host} within {timeout:?} (api.connect_timeout)")]
    ConnectTimeout { host: String, timeout: Duration },
    #[error("no connection to {host}: {cause}; {}", remedy(cause, setting))]
    Connect { host: String, cause: String, setting: &'static str },
    #[error("no connection to {host} could be begun: {refusal}; {remedy}")]
    Shortage { host: String, refusal: String, remedy: &'static str },
    #[error("no answer from {host} within {timeout:?} (api.call_timeout)")]
    AnswerTimeout { host: String, timeout: Duration },
    #[error("the answer from {host} had not ended after {timeout:?} (api.call_timeout)")]
    BodyTimeout { host: String, timeout: Duration },
    #[error("the connection to {host} failed before the answer had ended: {cause}{}", missing_certificate(cause))]
    Broken { host: String, cause: String },
}

impl CallError {
    /// Whether nothing was asked of the service: whatever it is, it says nothing about it.
    pub(super) const fn is_before_the_call(&self) -> bool {
        matches!(self, Self::Credentials(_) | Self::CredentialsTimeout(_) | Self::Shortage { .. })
    }

    pub(super) fn into_failure(self) -> Failure {
        let kind = match &self {
            Self::NoEndpoint(_) => FailureKind::NoEndpoint,
            Self::Credentials(_) | Self::CredentialsTimeout(_) => FailureKind::Unauthenticated,
            Self::Connect { cause, .. } if is_unknown_host(cause) => FailureKind::UnknownHost,
            _ => FailureKind::Unavailable,
        };
        let retry_after = match &self {
            Self::Credentials(error) => error.retry_after(),
            _ => None,
        };
        let message = printable(&self.to_string(), MAX_MESSAGE_BYTES);
        Failure { kind, error: ErrorDetail { message, ..ErrorDetail::default() }, retry_after }
    }
}

/// Whether the system's resolver says that there is no such name, in the words of glibc or of musl. That it cannot tell now
/// is another answer.
fn is_unknown_host(cause: &str) -> bool {
    [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
    ]
    .iter()
    .any(|words| cause.contains(words))
}

/// What to do about a host that cannot be reached.
fn remedy(cause: &str, setting: &str) -> String {
    if cause.contains("UnknownIssuer") {
        "if its certificate is right, name its CA in api.ca_file".to_owned()
    } else if cause.contains("tunnel error") {
        "the proxy comes from HTTPS_PROXY or ALL_PROXY in the environment, and NO_PROXY names hosts to be called without it".to_owned()
    } else {
        format!("the host comes from {setting}")
    }
}

/// What to do about a connection that broke. In TLS 1.3 a server says only after the handshake that it misses a certificate.
fn missing_certificate(cause: &str) -> &'static str {
    if cause.contains("CertificateRequired") {
        "; it wants a client certificate: set api.client_certificate_file and api.client_key_file"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_that_does_not_exist_is_told_from_one_that_cannot_be_looked_up_now() {
        for (cause, kind) in [
            ("dns error: failed to lookup address information: Name or service not known", FailureKind::UnknownHost),
            ("dns error: failed to lookup address information: Name does not resolve", FailureKind::UnknownHost),
            (
                "dns error: failed to lookup address information: Temporary failure in name resolution",
                FailureKind::Unavailable,
            ),
            ("dns error: failed to lookup address information: Try again", FailureKind::Unavailable),
            ("tcp connect error: Connection refused (os error 111)", FailureKind::Unavailable),
        ] {
            let (host, cause) = ("https://host".to_owned(), cause.to_owned());
            assert_eq!(CallError::Connect { host, cause, setting: "api.endpoint" }.into_failure().kind, kind);
        }
    }
}
