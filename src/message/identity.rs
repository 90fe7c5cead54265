use std::fmt;

use uuid::Uuid;

/// What a cancel request is known by: its `request_id`, else its CloudEvent's source and id, else its AMQP `message_id`,
/// else the operation's name. Of these the kind is a part: "42" of one and "42" of another are two identities.
///
/// Its text has at most 255 bytes, what AMQP's short strings hold. A longer one is replaced by its UUIDv5, of an event a
/// source or an id of more than 127: so an identity always fits a property, and keeps its [`RequestKey`](super::RequestKey)
/// when its request is published again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    kind: IdentityKind,
    text: String,
    /// Of an event: how much of the text is its source. A space follows it, then the id.
    source_bytes: usize,
}

/// What an identity was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityKind {
    /// The field `request_id`.
    RequestId,
    /// The source and the id of a CloudEvent.
    Event,
    /// The AMQP property `message_id`.
    MessageId,
    /// The operation's name.
    Name,
}

impl IdentityKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::RequestId, Self::Event, Self::MessageId, Self::Name];

    /// The word in request keys, follow-ups and headers of dead letters. Never changed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestId => "request_id",
            Self::Event => "event",
            Self::MessageId => "message_id",
            Self::Name => "name",
        }
    }
}

/// `UUIDv5(DNS namespace, "cancel-worker")`. Never changed: consumers recognise requests and answers by the ids made in it.
pub(super) const NAMESPACE: Uuid = Uuid::from_u128(0xfe04_dc8f_e4a3_53a9_9615_6681_d032_a409);

/// Longest text of AMQP's short strings, in bytes.
pub(super) const MAX_SHORT_STRING: usize = 255;

/// Longest source, and longest id, of an event, in bytes: with a space between them, both fit a short string.
const MAX_EVENT_PART: usize = 127;

impl Identity {
    /// Of a `request_id`.
    pub(super) fn of_request_id(text: &str) -> Self {
        Self::simple(IdentityKind::RequestId, text)
    }

    /// Of a CloudEvent.
    pub(super) fn of_event(source: &str, id: &str) -> Self {
        let source = fitting(source, MAX_EVENT_PART);
        let text = format!("{source} {}", fitting(id, MAX_EVENT_PART));
        Self { kind: IdentityKind::Event, text, source_bytes: source.len() }
    }

    /// Of a `message_id`.
    pub(super) fn of_message_id(text: &str) -> Self {
        Self::simple(IdentityKind::MessageId, text)
    }

    /// Of an operation's name.
    pub(super) fn of_name(text: &str) -> Self {
        Self::simple(IdentityKind::Name, text)
    }

    /// As a follow-up has it; `None` where its parts do not belong together.
    pub(super) fn restored(kind: IdentityKind, text: &str, source: Option<&str>) -> Option<Self> {
        match (kind, source) {
            (IdentityKind::Event, Some(source)) => {
                Some(Self::of_event(source, text.strip_prefix(source)?.strip_prefix(' ')?))
            }
            (IdentityKind::Event, None) | (_, Some(_)) => None,
            (kind, None) => Some(Self::simple(kind, text)),
        }
    }

    fn simple(kind: IdentityKind, text: &str) -> Self {
        Self { kind, text: fitting(text, MAX_SHORT_STRING), source_bytes: 0 }
    }

    /// What it was read from.
    #[must_use]
    pub fn kind(&self) -> IdentityKind {
        self.kind
    }

    /// The text, at most 255 bytes; of an event its source, a space and its id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Of an event, its source and its id.
    #[must_use]
    pub fn event_parts(&self) -> Option<(&str, &str)> {
        let is_event = self.kind == IdentityKind::Event;
        is_event.then(|| (&self.text[..self.source_bytes], &self.text[self.source_bytes + 1..]))
    }
}

/// A text, or its UUIDv5 where it has more bytes than that.
fn fitting(text: &str, limit: usize) -> String {
    if text.len() > limit { Uuid::new_v5(&NAMESPACE, text.as_bytes()).to_string() } else { text.to_owned() }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_identity_becomes_short_and_stays_so() {
        let long = Identity::of_request_id(&"x".repeat(256));
        assert_eq!(long.as_str().len(), 36);
        assert_eq!(Identity::of_request_id(long.as_str()), long);
        assert_ne!(Identity::of_request_id(&"x".repeat(257)), long);
        assert_eq!(Identity::of_request_id(&"x".repeat(255)).as_str(), "x".repeat(255));

        let (short, long) = ("é".repeat(63), "é".repeat(64));
        let event = Identity::of_event(&short, &long);
        let (source, id) = event.event_parts().expect("an event");
        assert_eq!((source, id.len()), (short.as_str(), 36));
        assert_eq!(Identity::of_event(source, id), event);
        assert!(Identity::of_event(&"s".repeat(127), &"i".repeat(127)).as_str().len() == MAX_SHORT_STRING);
    }

    #[test]
    fn an_identity_is_restored_from_its_parts_and_from_no_others() {
        for identity in [
            Identity::of_request_id("a b"),
            Identity::of_event("/a b", "c"),
            Identity::of_event("/a", "b c"),
            Identity::of_message_id(""),
            Identity::of_name("projects/p/operations/o"),
        ] {
            let source = identity.event_parts().map(|(source, _)| source);
            assert_eq!(Identity::restored(identity.kind(), identity.as_str(), source), Some(identity.clone()));
        }
        for (kind, text, source) in [
            (IdentityKind::Event, "/a b", None),
            (IdentityKind::Event, "/a b", Some("/b")),
            (IdentityKind::Event, "/a", Some("/a")),
            (IdentityKind::Name, "/a b", Some("/a")),
        ] {
            assert_eq!(Identity::restored(kind, text, source), None, "{kind:?} {text} {source:?}");
        }
    }
}
