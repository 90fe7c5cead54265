//! Reads cancel requests in all their formats. One pass, which goes on after a problem: what it finds then is what an
//! unusable request can be answered with.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use super::cancel_request::CancelRequest;
use super::event_attributes::{self, Attributes, DATA, Data};
use super::request_body::RequestBody;
use super::request_context::RequestContext;
use super::unusable::Unusable;
use crate::message::cloud_event;
use crate::message::dead_letter::DeadLetterHeaders;
use crate::message::envelope::Envelope;
use crate::message::identity::{Identity, MAX_SHORT_STRING};
use crate::message::json::{BODY, FieldError, FirstError, quoted};
use crate::message::name_patterns::NamePatterns;
use crate::message::trace_context;

/// Base64 of the standard alphabet, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// How much of a body that is too large is searched for the request's identity: what RabbitMQ takes by default.
const MAX_SEARCHED: usize = 16 * 1024 * 1024;

/// The beginning of a reply queue that is no queue: a direct reply.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to.";

impl CancelRequest {
    /// Reads a request from any of the accepted formats; the content type tells which:
    ///
    /// - `application/cloudevents+json`, or a JSON object with `specversion` and `data` under any other: a structured CloudEvent
    ///   whose `data` (or `data_base64`) is the JSON object below,
    /// - `text/plain`: the operation's name and nothing else,
    /// - anything else, or none: a JSON object, of which only `name` is required.
    ///
    /// Headers `cloudEvents:*`, `cloudEvents_*`, `ce-*` or `ce_*` make the last two a binary CloudEvent.
    ///
    /// # Errors
    /// Says what is wrong with it. A body of more than `limit` bytes is refused, and so is a name that `names` do not
    /// admit.
    pub fn read(envelope: &Envelope<'_>, limit: usize, names: &NamePatterns) -> Result<Self, Box<Unusable>> {
        let mut reading = Reading { names, problem: FirstError::default(), event: None, body: RequestBody::default() };
        if envelope.body.len() > limit {
            reading
                .problem
                .note(FieldError(format!("the body has {} bytes; at most {limit} are read", envelope.body.len())));
        }
        reading.read(envelope);
        if envelope.body.len() > limit {
            reading.body.details.context = None;
        }
        reading.finish(envelope)
    }
}

/// A request, as far as it has been read.
struct Reading<'n> {
    names: &'n NamePatterns,
    problem: FirstError,
    event: Option<Attributes>,
    body: RequestBody,
}

impl Reading<'_> {
    fn read(&mut self, envelope: &Envelope<'_>) {
        if let Some(encoding) = compression(envelope) {
            return self.problem.note(FieldError(format!(
                "the body is compressed ({encoding}): publish it as it is, without a content_encoding"
            )));
        }
        let text = self.utf8(envelope.body);
        let media_type = cloud_event::media_type(envelope.content_type.unwrap_or_default());
        if media_type.eq_ignore_ascii_case(cloud_event::STRUCTURED) {
            return self.read_structured(text, envelope.shared);
        }
        if cloud_event::is_structured(media_type) {
            return self.problem.note(FieldError(format!(
                "of the CloudEvents formats only {} is read, one event in a message",
                cloud_event::STRUCTURED
            )));
        }
        // Whatever the content type says: some senders have no other than their own default.
        if event_attributes::is_structured(text) {
            return self.read_structured(text, envelope.shared);
        }
        self.event = event_attributes::binary(envelope, &mut self.problem);
        let is_text =
            self.event.as_ref().map_or(media_type.eq_ignore_ascii_case("text/plain"), |event| event.data_is_text);
        self.body = if is_text {
            RequestBody::from_text(text, self.names, &mut self.problem)
        } else {
            RequestBody::from_json(text, BODY, Some(self.names), envelope.shared, &mut self.problem)
        };
    }

    /// The body as text: what stands before the first byte that is not UTF-8.
    fn utf8<'a>(&mut self, body: &'a [u8]) -> &'a str {
        let searched = &body[..body.len().min(MAX_SEARCHED)];
        let text = str::from_utf8(searched).unwrap_or_else(|error| {
            let valid = &searched[..error.valid_up_to()];
            self.problem.note(FieldError(format!("the body is not UTF-8: byte {} is no character", valid.len() + 1)));
            str::from_utf8(valid).unwrap_or_default()
        });
        text.strip_prefix('\u{feff}').unwrap_or(text)
    }

    fn read_structured(&mut self, text: &str, message: Option<&Bytes>) {
        let (event, data) = event_attributes::structured(text, &mut self.problem);
        let is_text = event.data_is_text;
        self.event = Some(event);
        match data {
            Data { json: Some(_), base64: Some(_) } => {
                self.problem.note(FieldError("the CloudEvent has both `data` and `data_base64`".to_owned()));
            }
            Data { json: Some(data), base64: None } if is_text => {
                if let Some(name) = self.problem.take(data.any_text()) {
                    self.body = RequestBody::from_text(&name, self.names, &mut self.problem);
                }
            }
            Data { json: Some(data), base64: None } => {
                self.body =
                    RequestBody::from_json(data.raw().get(), DATA, Some(self.names), message, &mut self.problem);
            }
            Data { json: None, base64: Some(data) } => {
                let decoded = data.any_text().ok().and_then(|text| BASE64.decode(&*text).ok());
                let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
                let decoded = decoded.ok_or_else(|| data.problem("must be UTF-8 text in base64"));
                self.body = match self.problem.take(decoded) {
                    Some(text) if is_text => RequestBody::from_text(&text, self.names, &mut self.problem),
                    Some(text) => RequestBody::from_json(&text, DATA, Some(self.names), None, &mut self.problem),
                    None => RequestBody::default(),
                };
            }
            Data { json: None, base64: None } => {
                self.problem.note(FieldError("the CloudEvent has no `data`: the request belongs there".to_owned()));
            }
        }
    }

    /// A dead letter says how often its request was replayed before: that it comes again is one more.
    fn replay(&mut self, envelope: &Envelope<'_>) -> u32 {
        let Some(before) = header(envelope, DeadLetterHeaders::REPLAY) else { return 0 };
        let before = before.parse::<u32>().map_err(|_| {
            let name = DeadLetterHeaders::REPLAY;
            FieldError(format!("the header `{name}` must be a number such as \"0\", but is {}", quoted(before)))
        });
        self.problem.take(before).map_or(0, |before| before.saturating_add(1))
    }

    fn finish(mut self, envelope: &Envelope<'_>) -> Result<CancelRequest, Box<Unusable>> {
        self.body.details.replay = self.replay(envelope);
        let Self { problem: FirstError(problem), event, mut body, .. } = self;
        let event = event.unwrap_or_default();
        let identity = identity(&body, event.identity.as_ref(), envelope);
        read_metadata(&mut body.details, envelope, &event);
        match (problem, body.name.take(), identity) {
            (None, Some(name), Some(identity)) => Ok(CancelRequest::assemble(name, identity, body)),
            (problem, name, identity) => {
                body.name = name;
                let problem = problem.map_or_else(|| NAMELESS.to_owned(), |problem| problem.0);
                Err(Box::new(Unusable::assemble(problem, identity, body)))
            }
        }
    }
}

/// The value of a header.
fn header<'e>(envelope: &'e Envelope<'_>, name: &str) -> Option<&'e str> {
    envelope.headers.iter().find(|(header, _)| *header == name).map(|(_, value)| &**value)
}

/// How a body is compressed, by its property or by its first bytes.
fn compression<'a>(envelope: &Envelope<'a>) -> Option<&'a str> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let known = ["gzip", "x-gzip", "deflate", "br", "zstd", "compress"];
    let named = envelope.content_encoding.filter(|named| known.iter().any(|known| named.eq_ignore_ascii_case(known)));
    named.or_else(|| envelope.body.starts_with(&GZIP).then_some("gzip"))
}

/// Reads what the message says beside its body.
fn read_metadata(details: &mut RequestContext, envelope: &Envelope<'_>, event: &Attributes) {
    let parent = header(envelope, "traceparent").or(event.traceparent.as_deref()).and_then(trace_context::traceparent);
    let state = header(envelope, "tracestate").or(event.tracestate.as_deref()).and_then(trace_context::tracestate);
    let direct = short(envelope.reply_to).filter(|queue| queue.starts_with(DIRECT_REPLY));
    details.correlation_id = short(envelope.correlation_id).map(str::to_owned);
    details.reply_to = direct.map(str::to_owned);
    details.user_id = short(envelope.user_id).map(str::to_owned);
    details.requested_at = event.time.or(envelope.timestamp);
    details.traceparent = parent.map(str::to_owned);
    details.tracestate = state.filter(|_| parent.is_some()).map(str::to_owned);
}

/// The problem of a request that has no other.
const NAMELESS: &str = "`name` is missing: the operation's name, such as \"projects/*/locations/*/operations/*\"";

fn identity(body: &RequestBody, event: Option<&Identity>, envelope: &Envelope<'_>) -> Option<Identity> {
    let request_id = body.details.request_id.as_deref().map(Identity::of_request_id);
    let or_message = || short(envelope.message_id).map(Identity::of_message_id);
    request_id.or_else(|| event.cloned()).or_else(or_message).or_else(|| body.name_as_given().map(Identity::of_name))
}

/// A property that is set.
fn short(property: Option<&str>) -> Option<&str> {
    property.filter(|text| (1..=MAX_SHORT_STRING).contains(&text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_and_without_padding_and_nothing_else_is() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zg", "f"), ("Zm8=", "fo"), ("Zm9vYmE", "fooba"), ("Zh==", "f")]
        {
            assert_eq!(BASE64.decode(text).as_deref(), Ok(bytes.as_bytes()), "{text}");
        }
        for text in ["A", "AAAAA", "Zg===", "====", "Zm=v", "Zm 9v", "Zm9v\n", "Zm9-", "é"] {
            assert!(BASE64.decode(text).is_err(), "{text:?}");
        }
    }
}
