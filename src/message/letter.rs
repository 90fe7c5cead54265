use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::dead_letter::{DeadLetterHeaders, DeadReason};
use super::envelope::{Envelope, Outgoing};
use super::event::{EventFormat, ResultEvent};
use super::follow_up::{FollowUp, UnreadableFollowUp};
use super::identity::{Identity, NAMESPACE};
use super::name_patterns::NamePatterns;
use super::request::{CancelRequest, Unusable};
use super::request_key::RequestKey;
use super::timestamp;
use crate::cancellation::{Conclusion, ErrorDetail, Outcome, Reason};

/// What the broker says of a message that it has moved to the dead queue itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedByBroker {
    /// Its word: `delivery_limit`, `expired`, `maxlen`, `rejected`; `unknown` where it says nothing.
    pub reason: String,
    /// When, where it says so.
    pub time: Option<OffsetDateTime>,
}

/// A dead letter, as whoever looks after the dead queue needs it: why it is there, and whose request it was.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Why it is dead.
    pub cause: LetterCause,
    /// The reason of its *failed* answer, where it has one.
    pub failed: Option<Reason>,
    /// A sentence on it.
    pub detail: Option<String>,
    /// When it was put there.
    pub time: Option<OffsetDateTime>,
    /// Which worker did that.
    pub worker: Option<String>,
    /// How often its request had been replayed when it failed.
    pub replay: u32,
    /// What it holds.
    pub content: LetterContent,
    /// Tells it from others: the request key of its answer, else made of its bytes.
    pub id: Uuid,
    /// What the request is known by, where only its header tells.
    identity: Option<String>,
}

/// Who gave a message up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LetterCause {
    /// A worker. Where anybody could be answered, they were.
    Worker(DeadReason),
    /// The broker. Nobody was answered.
    Broker(MovedByBroker),
}

/// What a dead letter holds.
#[derive(Clone, Debug)]
pub enum LetterContent {
    /// A request.
    Request(Box<CancelRequest>),
    /// A request that had to wait.
    FollowUp(Box<FollowUp>),
    /// A request that cannot be used.
    Unusable(Box<Unusable>),
    /// A follow-up that cannot be read.
    UnreadableFollowUp(Box<UnreadableFollowUp>),
}

impl Letter {
    /// Reads a letter; `header` gives the text of one of its headers. The broker has moved it, or it says itself why it is dead.
    #[must_use]
    pub fn read<'e>(
        envelope: &Envelope<'e>,
        header: impl Fn(&str) -> Option<&'e str>,
        moved: Option<MovedByBroker>,
        limit: usize,
        names: &NamePatterns,
    ) -> Self {
        let text = |name| header(name).map(str::to_owned);
        let cause = match (moved, header(DeadLetterHeaders::REASON).and_then(DeadReason::of_word)) {
            (None, Some(reason)) => LetterCause::Worker(reason),
            (moved, _) => {
                LetterCause::Broker(moved.unwrap_or(MovedByBroker { reason: UNKNOWN.to_owned(), time: None }))
            }
        };
        let (mut content, mut detail, mut worker, mut identity) = (None, None, None, None);
        let time;
        match &cause {
            LetterCause::Worker(reason) => {
                detail = text(DeadLetterHeaders::DETAIL);
                time = header(DeadLetterHeaders::TIME).and_then(timestamp::parse);
                worker = text(DeadLetterHeaders::WORKER);
                identity = text(DeadLetterHeaders::IDENTITY);
                if *reason == DeadReason::UnreadableFollowUp {
                    content = Some(LetterContent::of_follow_up(envelope));
                }
            }
            LetterCause::Broker(moved) => {
                time = moved.time;
                content = match LetterContent::of_follow_up(envelope) {
                    // Neither this version's nor a newer one's.
                    LetterContent::UnreadableFollowUp(unreadable) if unreadable.newer.is_none() => None,
                    follow_up => Some(follow_up),
                };
            }
        }
        let content = content.unwrap_or_else(|| LetterContent::of_request(envelope, limit, names));
        let counted = envelope.headers.iter().find(|(name, _)| *name == DeadLetterHeaders::REPLAY);
        let replay = match (&cause, counted.and_then(|(_, count)| count.parse().ok())) {
            // It says how often it had been replayed; read as a request that is one more.
            (LetterCause::Worker(_), Some(count)) => count,
            _ => content.replay(),
        };
        let failed = detail.as_deref().and_then(failed_reason);
        let id = match content.identity() {
            Some(identity) => RequestKey::new(identity, content.name(), replay).uuid(),
            None => Uuid::new_v5(&NAMESPACE, envelope.body),
        };
        Self { cause, failed, detail, time, worker, replay, content, id, identity }
    }

    /// Why it is dead, in one word.
    #[must_use]
    pub fn reason(&self) -> &str {
        match &self.cause {
            LetterCause::Worker(reason) => reason.as_str(),
            LetterCause::Broker(moved) => &moved.reason,
        }
    }

    /// Whether a worker has given the answer, wherever there was anybody to give it to.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        matches!(self.cause, LetterCause::Worker(_))
    }

    /// What its request is known by, if anything.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        self.content.identity().map(Identity::as_str).or(self.identity.as_deref())
    }

    /// The operation, or whatever was given as its name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.content.name()
    }

    /// The request, where it can be carried out.
    #[must_use]
    pub fn request(&self) -> Option<&CancelRequest> {
        match &self.content {
            LetterContent::Request(request) => Some(request),
            LetterContent::FollowUp(follow_up) => Some(&follow_up.request),
            LetterContent::Unusable(_) | LetterContent::UnreadableFollowUp(_) => None,
        }
    }

    /// The request as it has to be published for a replay, where the message as it is would not do: it is a follow-up, its
    /// deadline is over, or another `timeout` is wanted.
    #[must_use]
    pub fn rewritten(&self, timeout: Option<Duration>, now: OffsetDateTime) -> Option<Outgoing> {
        let is_follow_up = matches!(self.content, LetterContent::FollowUp(_));
        let mut request = self.request()?.clone();
        let is_over = request.deadline.is_some_and(|deadline| deadline <= now);
        if !is_follow_up && !is_over && timeout.is_none() {
            return None;
        }
        if is_over || timeout.is_some() {
            request.deadline = None;
            request.timeout = timeout.or(request.timeout);
        }
        let mut message = request.to_message(now);
        message.headers.push((DeadLetterHeaders::REPLAY.to_owned(), self.replay.to_string()));
        Some(message)
    }

    /// The *failed* event of a letter that the broker has moved, of which nobody was told; of one whose answer was known and
    /// waited, that answer. `None` where a worker has answered it, or nothing tells whom to answer.
    #[must_use]
    pub fn answer(&self, format: &EventFormat, now: OffsetDateTime) -> Option<(Outcome, Outgoing)> {
        let LetterCause::Broker(moved) = &self.cause else { return None };
        let message = format!("the broker gave the request up ({}) before a worker had answered it", moved.reason);
        let error = Some(ErrorDetail { message, ..ErrorDetail::default() });
        let conclusion = Conclusion { outcome: Outcome::Failed(Reason::GaveUp), error };
        let (outcome, event) = match &self.content {
            LetterContent::Request(request) => (conclusion.outcome, ResultEvent::given_up(request, &conclusion, now)),
            LetterContent::FollowUp(follow_up) => {
                let (conclusion, at) = match &follow_up.concluded {
                    Some(concluded) => (&concluded.conclusion, concluded.finished_at),
                    None => (&conclusion, now),
                };
                (conclusion.outcome, ResultEvent::concluded(&follow_up.request, &follow_up.progress, conclusion, at))
            }
            LetterContent::Unusable(unusable) => {
                (Outcome::Failed(Reason::UnusableRequest), ResultEvent::unusable(unusable, now)?)
            }
            LetterContent::UnreadableFollowUp(unreadable) => {
                (Outcome::Failed(Reason::UnreadableFollowUp), ResultEvent::unreadable_follow_up(unreadable, now)?)
            }
        };
        Some((outcome, event.encode(format)))
    }

    /// The headers of a letter that has been answered, so that nobody answers it again.
    #[must_use]
    pub fn answered(&self, outcome: Outcome, worker: &str, now: OffsetDateTime) -> DeadLetterHeaders {
        let reason = match &self.content {
            LetterContent::Request(_) | LetterContent::FollowUp(_) => DeadReason::GaveUp,
            LetterContent::Unusable(_) => DeadReason::UnusableRequest,
            LetterContent::UnreadableFollowUp(_) => DeadReason::UnreadableFollowUp,
        };
        let word = if let Outcome::Failed(reason) = outcome { reason.as_str() } else { outcome.as_str() };
        DeadLetterHeaders {
            reason,
            detail: format!("{word}: answered by hand; the broker had given it up ({})", self.reason()),
            identity: self.content.identity().cloned(),
            replay: self.replay,
            time: now,
            worker: worker.to_owned(),
        }
    }
}

/// The broker's reason where it says none.
const UNKNOWN: &str = "unknown";

/// The detail of a request that failed begins with the word of its reason.
fn failed_reason(detail: &str) -> Option<Reason> {
    let (word, _) = detail.split_once(": ")?;
    Reason::ALL.into_iter().find(|reason| reason.as_str() == word)
}

impl LetterContent {
    fn of_follow_up(envelope: &Envelope<'_>) -> Self {
        match FollowUp::read(envelope) {
            Ok(follow_up) => Self::FollowUp(Box::new(follow_up)),
            Err(unreadable) => Self::UnreadableFollowUp(unreadable),
        }
    }

    fn of_request(envelope: &Envelope<'_>, limit: usize, names: &NamePatterns) -> Self {
        match CancelRequest::read(envelope, limit, names) {
            Ok(request) => Self::Request(Box::new(request)),
            Err(unusable) => Self::Unusable(unusable),
        }
    }

    fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Request(request) => Some(&request.identity),
            Self::FollowUp(follow_up) => Some(&follow_up.request.identity),
            Self::Unusable(unusable) => unusable.identity.as_ref(),
            Self::UnreadableFollowUp(unreadable) => unreadable.request.identity.as_ref(),
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Request(request) => Some(request.name.as_str()),
            Self::FollowUp(follow_up) => Some(follow_up.request.name.as_str()),
            Self::Unusable(unusable) => unusable.name.as_deref(),
            Self::UnreadableFollowUp(unreadable) => unreadable.request.name.as_deref(),
        }
    }

    fn replay(&self) -> u32 {
        match self {
            Self::Request(request) => request.details.replay,
            Self::FollowUp(follow_up) => follow_up.request.details.replay,
            Self::Unusable(unusable) => unusable.details.replay,
            Self::UnreadableFollowUp(unreadable) => unreadable.request.details.replay,
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NAME: &str = "projects/p/locations/l/operations/o";
    const NOW: OffsetDateTime = datetime!(2026-01-31 12:00 UTC);

    fn letter(body: &str, headers: &[(&'static str, &'static str)], moved: Option<&str>) -> Letter {
        let counted = headers.iter().filter(|(name, _)| *name == DeadLetterHeaders::REPLAY);
        let envelope = Envelope {
            body: body.as_bytes(),
            headers: counted.map(|(name, value)| (*name, (*value).into())).collect(),
            ..Envelope::default()
        };
        let header = |name: &str| headers.iter().find(|(header, _)| *header == name).map(|(_, value)| *value);
        let moved = moved.map(|reason| MovedByBroker { reason: reason.to_owned(), time: Some(NOW) });
        let names = NamePatterns::new(vec!["projects/*/locations/*/operations/*".into()]).expect("a pattern");
        Letter::read(&envelope, header, moved, 1 << 20, &names)
    }

    fn request() -> String {
        format!(r#"{{"name":"{NAME}","request_id":"r","deadline":"2026-01-31T11:00:00Z"}}"#)
    }

    #[test]
    fn a_letter_of_a_worker_says_why_it_is_dead_and_comes_again_as_one_more_replay() {
        let headers = [
            (DeadLetterHeaders::REASON, "failed"),
            (DeadLetterHeaders::DETAIL, "not_found: no such operation"),
            (DeadLetterHeaders::TIME, "2026-01-31T12:00:00Z"),
            (DeadLetterHeaders::REPLAY, "2"),
        ];
        let letter = letter(&request(), &headers, None);
        assert_eq!((letter.reason(), letter.failed, letter.time), ("failed", Some(Reason::NotFound), Some(NOW)));
        assert_eq!((letter.identity(), letter.name(), letter.replay), (Some("r"), Some(NAME), 2));
        let identity = letter.content.identity().expect("an identity");
        assert_eq!(letter.id, RequestKey::new(identity, Some(NAME), 2).uuid(), "of the answer that it had");
        assert!(letter.answer(&format(), NOW).is_none(), "a worker has answered it");

        let replay = letter.rewritten(None, NOW).expect("its deadline is over");
        assert!(replay.headers.contains(&(DeadLetterHeaders::REPLAY.to_owned(), "2".to_owned())));
        let body = String::from_utf8(replay.body.to_vec()).expect("text");
        assert!(!body.contains("deadline") && body.contains(r#""request_id":"r""#), "{body}");
        let before = datetime!(2026-01-31 10:00 UTC);
        assert!(letter.rewritten(None, before).is_none(), "it can go as it is");
        let hour = letter.rewritten(Some(Duration::from_secs(3600)), before).expect("another timeout is wanted");
        assert!(String::from_utf8_lossy(&hour.body).contains(r#""timeout":"1h""#));
    }

    #[test]
    fn what_the_broker_gave_up_is_answered_once_with_what_is_known() {
        let moved = letter(&request(), &[(DeadLetterHeaders::REPLAY, "0")], Some("delivery_limit"));
        assert_eq!((moved.reason(), moved.replay), ("delivery_limit", 1), "it was one replay when it died");
        let (outcome, event) = moved.answer(&format(), NOW).expect("nobody has answered it");
        assert_eq!(outcome, Outcome::Failed(Reason::GaveUp));
        let body = String::from_utf8(event.body.to_vec()).expect("text");
        assert!(body.contains(r#""replay":1"#) && body.contains("gave_up") && !body.contains("attempts"), "{body}");
        let headers = moved.answered(outcome, "me", NOW);
        assert_eq!((headers.reason, headers.replay), (DeadReason::GaveUp, 1));

        let nobody = letter("no request", &[], None);
        assert_eq!((nobody.reason(), nobody.name()), ("unknown", None));
        assert!(nobody.answer(&format(), NOW).is_none(), "nothing tells whom to answer");
    }

    fn format() -> EventFormat {
        let mode = crate::message::EventMode::Structured;
        EventFormat { type_prefix: "t".to_owned(), source: "/s".to_owned(), mode }
    }
}
