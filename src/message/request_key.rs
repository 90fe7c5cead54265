use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use super::identity::{Identity, NAMESPACE};
use crate::cancellation::Outcome;

/// The same for every answer to one request, and of no other: UUIDv5 of the JSON array `[kind, identity, name or null,
/// replay]`, of an event `["event", source, id, name or null, replay]`. Known before anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey(Uuid);

impl RequestKey {
    /// Of a request: what it is known by, the operation's name as its event has it, and how often it was replayed.
    #[must_use]
    pub fn new(identity: &Identity, name: Option<&str>, replay: u32) -> Self {
        let kind = identity.kind().as_str();
        Self(match identity.event_parts() {
            Some((source, id)) => id_of(&(kind, source, id, name, replay)),
            None => id_of(&(kind, identity.as_str(), name, replay)),
        })
    }

    /// As its bytes.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }

    /// The id of an answer: UUIDv5 of the JSON array `[request key, outcome, reason or null]`. The same answer repeated has
    /// the same id, another answer another.
    #[must_use]
    pub fn event_id(self, outcome: Outcome) -> Uuid {
        let reason = if let Outcome::Failed(reason) = outcome { Some(reason.as_str()) } else { None };
        id_of(&(self.to_string(), outcome.as_str(), reason))
    }
}

/// Of an array's JSON: no spaces, UTF-8, and no escapes but those that JSON demands.
fn id_of(array: &impl Serialize) -> Uuid {
    // Tuples of texts and numbers always have a JSON form.
    Uuid::new_v5(&NAMESPACE, &serde_json::to_vec(array).unwrap_or_default())
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::cancellation::Reason;

    const NAME: &str = "projects/p/locations/global/operations/o";

    #[test]
    fn the_namespace_is_the_documented_one() {
        assert_eq!(NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"cancel-worker"));
        assert_eq!(NAMESPACE.to_string(), "fe04dc8f-e4a3-53a9-9615-6681d032a409");
    }

    /// The vectors of `deploy/contract/README.md`; `tests/docs` makes them anew from the arrays there.
    #[test]
    fn keys_and_ids_never_change() {
        let key = RequestKey::new(&Identity::of_request_id("req-1"), Some(NAME), 0);
        assert_eq!(key.to_string(), "908eb38f-5a54-5755-9d0f-7248cea27aeb");
        assert_eq!(key.event_id(Outcome::Cancelled).to_string(), "f3751e61-d394-50be-b304-e63cb7b1b9ae");
        let key = RequestKey::new(&Identity::of_event("/shop", "é 7"), Some(NAME), 2);
        assert_eq!(key.to_string(), "fdd02a96-f467-53ad-81ff-542c4ddf5fd4");
        assert_eq!(key.event_id(Outcome::Completed).to_string(), "77ac2689-eb3e-543a-80e7-370ade93bf58");
        let key = RequestKey::new(&Identity::of_message_id("m-1"), None, 0);
        assert_eq!(key.to_string(), "c2318906-fdad-5a3c-b973-a3fe789a1e81");
        assert_eq!(
            key.event_id(Outcome::Failed(Reason::UnusableRequest)).to_string(),
            "f7b3fe9d-ac18-5e07-9351-1921403c73be"
        );
    }

    #[test]
    fn two_requests_never_share_a_key_nor_two_answers_an_id() {
        let keys = [
            (Identity::of_request_id("42"), Some(NAME), 0),
            (Identity::of_message_id("42"), Some(NAME), 0),
            (Identity::of_request_id("42"), Some("projects/p/operations/o"), 0),
            (Identity::of_request_id("42"), None, 0),
            (Identity::of_request_id("42"), Some(NAME), 1),
            (Identity::of_event("/a", "b c"), Some(NAME), 0),
            (Identity::of_event("/a b", "c"), Some(NAME), 0),
            (Identity::of_name(NAME), Some(NAME), 0),
        ]
        .map(|(identity, name, replay)| RequestKey::new(&identity, name, replay));
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        let outcomes = [
            Outcome::Cancelled,
            Outcome::Completed,
            Outcome::Unimplemented,
            Outcome::Failed(Reason::Unavailable),
            Outcome::Failed(Reason::NotFound),
        ];
        let ids: HashSet<Uuid> = outcomes.iter().map(|outcome| keys[0].event_id(*outcome)).collect();
        assert_eq!(ids.len(), outcomes.len());
    }
}
