use std::fmt;

use uuid::Uuid;

/// What a cancel request is known by: its `request_id`, else its CloudEvent's source and id, else its AMQP `message_id`,
/// else the operation's name. Repeated messages of one identity get results with the same event id.
///
/// At most 255 bytes, what AMQP's short strings hold. A longer text is replaced by its UUIDv5, so that an identity always
/// fits a `message_id`, and a request that is published again with its identity there keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity(String);

/// Longest text of AMQP's short strings, in bytes.
pub(super) const MAX_SHORT_STRING: usize = 255;

/// `UUIDv5(DNS namespace, "cancel-worker")`. Never changed: consumers recognise repeated events by the ids made from it.
const NAMESPACE: Uuid = Uuid::from_u128(0xfe04_dc8f_e4a3_53a9_9615_6681_d032_a409);

impl Identity {
    /// An identity from a text that names the request.
    pub(super) fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        if text.len() > MAX_SHORT_STRING { Self(event_id(&text).to_string()) } else { Self(text) }
    }

    /// The identity of a CloudEvent. A source is a URI and has no space in it, so the two parts stay apart.
    pub(super) fn of_event(source: &str, id: &str) -> Self {
        Self::new(format!("{source} {id}"))
    }

    /// The text, at most 255 bytes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the result event: UUIDv5 of the text in the namespace `fe04dc8f-e4a3-53a9-9615-6681d032a409`. The same
    /// for the same identity, whatever the answer, the worker and its version.
    #[must_use]
    pub fn event_id(&self) -> Uuid {
        event_id(&self.0)
    }
}

fn event_id(text: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, text.as_bytes())
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_the_documented_one() {
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"cancel-worker"));
        assert_eq!(NAMESPACE.to_string(), "fe04dc8f-e4a3-53a9-9615-6681d032a409");
    }

    #[test]
    fn event_ids_never_change() {
        assert_eq!(Identity::new("req-1").event_id().to_string(), "6e0b225b-a7ac-51f2-9cca-635653747c3b");
    }

    #[test]
    fn a_long_identity_becomes_short_and_stays_so() {
        let long = Identity::new("x".repeat(256));
        assert_eq!(long.as_str().len(), 36);
        assert_eq!(Identity::new(long.as_str()), long);
        assert_ne!(Identity::new("x".repeat(257)), long);
        assert_eq!(Identity::new("x".repeat(255)).as_str(), "x".repeat(255));
    }
}
