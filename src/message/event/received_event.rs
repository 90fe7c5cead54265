use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::cancellation::Calls;
use crate::message::cloud_event;
use crate::message::envelope::Envelope;

/// A result event as its consumers read it, from either content mode.
#[derive(Clone, Debug)]
pub struct ReceivedEvent {
    /// CloudEvents `id`: the same for every repetition of this answer.
    pub id: String,
    /// CloudEvents extension `requestkey`: the same for every answer to one request.
    pub request_key: String,
    /// CloudEvents `source`.
    pub source: String,
    /// CloudEvents `type`.
    pub kind: String,
    /// CloudEvents `subject`: the operation's name.
    pub subject: Option<String>,
    /// The answer.
    pub data: ResultData,
}

/// The data of a result event.
#[derive(Clone, Debug, Deserialize)]
pub struct ResultData {
    /// The request's own.
    pub request_id: Option<String>,
    /// The operation. For a request that could not be used whatever it gave as a name, if anything.
    pub name: Option<String>,
    /// `cancelled`, `completed`, `unimplemented` or `failed`.
    pub outcome: String,
    /// The operation as last seen.
    pub operation: Option<Box<RawValue>>,
    /// Why it failed; for `completed` the operation's own error.
    pub error: Option<EventError>,
    /// When upstream asked.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub requested_at: Option<OffsetDateTime>,
    /// When the service accepted the cancel.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub accepted_at: Option<OffsetDateTime>,
    /// When the answer was known.
    #[serde(with = "time::serde::rfc3339")]
    pub finished_at: OffsetDateTime,
    /// Calls made; unknown of a request whose follow-up could not be read.
    pub attempts: Option<Calls>,
    /// How often the request was published again after it had failed.
    #[serde(default)]
    pub replay: u32,
    /// The broker's user who published the request, which the broker has checked.
    pub user_id: Option<String>,
    /// The request's own.
    pub requested_by: Option<String>,
    /// The request's own.
    pub reason: Option<String>,
    /// The request's own, byte by byte.
    pub context: Option<Box<RawValue>>,
}

/// The `error` of a result event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EventError {
    /// For `failed`: one of the words of [`Reason`](crate::cancellation::Reason).
    pub reason: Option<String>,
    /// google.rpc.Code, where one is known.
    pub code: Option<i32>,
    /// The code's name.
    pub status: Option<String>,
    /// A sentence.
    pub message: String,
}

/// A message that is no result event.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableEvent {
    /// The structured form or the data is something else.
    #[error("read the result event: {0}")]
    Json(#[from] serde_json::Error),
    /// A header of the binary form is missing.
    #[error("read the result event: it has no header cloudEvents:{0}")]
    Header(&'static str),
}

/// The structured form.
#[derive(Deserialize)]
struct Structured {
    id: String,
    requestkey: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    subject: Option<String>,
    data: ResultData,
}

impl ReceivedEvent {
    /// Reads an event.
    ///
    /// # Errors
    /// Says what is missing or wrong.
    pub fn read(envelope: &Envelope<'_>) -> Result<Self, UnreadableEvent> {
        let media_type = cloud_event::media_type(envelope.content_type.unwrap_or_default());
        if media_type.eq_ignore_ascii_case(cloud_event::STRUCTURED) {
            let Structured { id, requestkey, source, kind, subject, data } = serde_json::from_slice(envelope.body)?;
            return Ok(Self { id, request_key: requestkey, source, kind, subject, data });
        }
        let header = |name: &'static str| {
            let mut attributes =
                envelope.headers.iter().map(|(name, value)| (cloud_event::attribute_name(name), value));
            let found = attributes.find(|(attribute, _)| *attribute == Some(name));
            found.map(|(_, value)| value.clone().into_owned()).ok_or(UnreadableEvent::Header(name))
        };
        Ok(Self {
            id: header("id")?,
            request_key: header("requestkey")?,
            source: header("source")?,
            kind: header("type")?,
            subject: header("subject").ok(),
            data: serde_json::from_slice(envelope.body)?,
        })
    }
}
