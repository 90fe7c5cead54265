//! The attributes of a request that comes as a CloudEvent, in the structured or in the binary mode.

use std::borrow::Cow;

use time::OffsetDateTime;

use crate::message::cloud_event::{attribute_name, media_type};
use crate::message::envelope::Envelope;
use crate::message::identity::Identity;
use crate::message::json::{BODY, Field, FieldError, FirstError, Location, quoted, read_fields};
use crate::message::timestamp;

/// The data inside a structured event.
pub(super) const DATA: Location = Location { whole: "the CloudEvent's `data`", prefix: "data." };

/// The attributes that matter for a request.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// Of source and id.
    pub(super) identity: Option<Identity>,
    pub(super) time: Option<OffsetDateTime>,
    pub(super) data_is_text: bool,
    /// The distributed tracing extension, not checked.
    pub(super) traceparent: Option<String>,
    pub(super) tracestate: Option<String>,
}

/// The data of a structured event: at most one of the two.
pub(super) struct Data<'a> {
    pub(super) json: Option<Field<'a>>,
    pub(super) base64: Option<Field<'a>>,
}

/// One attribute, wherever it was read: its name and its text.
type Attribute<'a> = Option<Result<Cow<'a, str>, FieldError>>;

/// The attributes before they are checked.
struct Unchecked<'a> {
    specversion: Attribute<'a>,
    id: Attribute<'a>,
    source: Attribute<'a>,
    time: Attribute<'a>,
    datacontenttype: Attribute<'a>,
    traceparent: Attribute<'a>,
    tracestate: Attribute<'a>,
}

/// Whether a text is a structured event: a JSON object with `specversion` and data. Cheap for what is none.
pub(super) fn is_structured(text: &str) -> bool {
    let ([specversion, data, base64], result) = match text.trim_start().starts_with('{') && text.contains("specversion")
    {
        true => read_fields(text, BODY, ["specversion", "data", "data_base64"]),
        false => return false,
    };
    result.is_ok() && specversion.is_some() && (data.is_some() || base64.is_some())
}

/// Reads the envelope of a structured event.
pub(super) fn structured<'a>(json: &'a str, problem: &mut FirstError) -> (Attributes, Data<'a>) {
    let names =
        ["specversion", "id", "source", "time", "datacontenttype", "traceparent", "tracestate", "data", "data_base64"];
    let (fields, result) = read_fields(json, BODY, names);
    problem.take(result);
    let [specversion, id, source, time, datacontenttype, traceparent, tracestate, json, base64] = fields;
    let text = |field: Option<Field<'a>>| field.map(|field| field.any_text());
    let unchecked = Unchecked {
        specversion: text(specversion),
        id: text(id),
        source: text(source),
        time: text(time),
        datacontenttype: text(datacontenttype),
        traceparent: text(traceparent),
        tracestate: text(tracestate),
    };
    (unchecked.check(problem), Data { json, base64 })
}

/// Reads the headers of a binary event; `None` where there are none of a CloudEvent.
pub(super) fn binary(envelope: &Envelope<'_>, problem: &mut FirstError) -> Option<Attributes> {
    if !envelope.headers.iter().any(|(name, _)| attribute_name(name).is_some()) {
        return None;
    }
    let text = |attribute: &str| {
        let header = envelope.headers.iter().find(|(name, _)| attribute_name(name) == Some(attribute));
        header.map(|(_, value)| Ok(Cow::Borrowed(&**value)))
    };
    let unchecked = Unchecked {
        specversion: text("specversion"),
        id: text("id"),
        source: text("source"),
        time: text("time"),
        datacontenttype: envelope.content_type.map(|kind| Ok(Cow::Borrowed(kind))).or_else(|| text("datacontenttype")),
        traceparent: text("traceparent"),
        tracestate: text("tracestate"),
    };
    Some(unchecked.check(problem))
}

impl Unchecked<'_> {
    fn check(self, problem: &mut FirstError) -> Attributes {
        if let Some(version) = required("specversion", self.specversion, problem)
            && !version.starts_with("1.")
        {
            problem.note(FieldError(format!("`specversion` must be \"1.0\", but is {}", quoted(&version))));
        }
        let source = required("source", self.source, problem);
        let id = required("id", self.id, problem);
        let time = self.time.and_then(|text| problem.take(text)).and_then(|text| problem.take(read_time(&text)));
        let kind = self.datacontenttype.and_then(|text| problem.take(text));
        let owned = |text: Attribute<'_>| text.and_then(Result::ok).map(Cow::into_owned);
        Attributes {
            identity: source.zip(id).map(|(source, id)| Identity::of_event(&source, &id)),
            time,
            data_is_text: kind.is_some_and(|kind| media_type(&kind).eq_ignore_ascii_case("text/plain")),
            traceparent: owned(self.traceparent),
            tracestate: owned(self.tracestate),
        }
    }
}

fn required<'a>(name: &str, attribute: Attribute<'a>, problem: &mut FirstError) -> Option<Cow<'a, str>> {
    let text = attribute.and_then(|text| problem.take(text)).filter(|text| !text.is_empty());
    if text.is_none() {
        problem.note(FieldError(format!("the CloudEvent has no `{name}`")));
    }
    text
}

fn read_time(text: &str) -> Result<OffsetDateTime, FieldError> {
    let expected = "`time` must be a time such as \"2026-01-31T12:00:00Z\"";
    timestamp::parse(text).ok_or_else(|| FieldError(format!("{expected}, but is {}", quoted(text))))
}
