use bytes::Bytes;
use lapin::BasicProperties;
use lapin::protocol::basic::gen_properties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::content::Content;
use super::delivery::DELIVERY_COUNT;
use crate::broker::delivery_kind::DeliveryKind;
use crate::broker::publish_error::PublishError;
use crate::broker::target::Target;
use crate::message::{DeadLetterHeaders, Outgoing};

/// Says in a dead letter how many bytes of headers did not fit.
const HEADERS_DROPPED: &str = "cancel-worker-headers-dropped";
/// What a dead letter keeps of properties that would harm it.
const EXPIRATION: &str = "cancel-worker-expiration";
const USER_ID: &str = DeadLetterHeaders::USER_ID;
/// What the broker's headers on why and where it dead-lettered a message begin with. With them it would take what comes
/// back from a wait queue for a message that goes in circles, and drop it.
const DEATHS: [&str; 3] = ["x-death", "x-first-death-", "x-last-death-"];
/// In `reply_to` this is a request to the broker, which refuses it without a reply consumer, by closing the channel.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// Headers that would route the message to further queues, by whatever exchange it is published to.
const ROUTING_HEADERS: [(&str, &str); 2] = [("CC", "cancel-worker-cc"), ("BCC", "cancel-worker-bcc")];

/// What the workers' headers begin with.
const NOTES: &str = "cancel-worker-";

/// Which headers of a message go with it when it is published again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptHeaders {
    /// All.
    All,
    /// All but what the broker notes of why it dead-lettered it.
    WithoutDeaths,
    /// Those of whoever published it first, and every one of them: what the broker and the workers have noted goes.
    Senders,
}

impl KeptHeaders {
    /// What goes to a target.
    pub(super) const fn of(target: &Target) -> Self {
        if matches!(target, Target::Wait(_)) { Self::WithoutDeaths } else { Self::All }
    }

    fn drops(self, name: &str) -> bool {
        match self {
            Self::All => false,
            Self::WithoutDeaths => DEATHS.iter().any(|death| name.starts_with(death)),
            Self::Senders => name.starts_with("x-") || name.starts_with(NOTES),
        }
    }
}

const PERSISTENT: u8 = 2;
const APP_ID: &str = "cancel-worker";
/// A content header frame around its properties: type, channel, length, class, weight, body size, end.
const FRAME_OVERHEAD: usize = 1 + 2 + 4 + 2 + 2 + 8 + 1;

/// A message as it goes onto the wire, checked against what the wire can carry: lapin checks nothing, and the broker
/// answers what does not fit by closing the connection.
pub(super) struct Outbound {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) body: Bytes,
    pub(super) properties: BasicProperties,
}

impl Outbound {
    /// A message of our own.
    pub(super) fn new(route: (String, String), message: Outgoing, frame_max: usize) -> Result<Self, PublishError> {
        let mut properties = BasicProperties::default()
            .with_content_type(message.content_type.into())
            .with_delivery_mode(PERSISTENT)
            .with_app_id(APP_ID.into())
            .with_timestamp(u64::try_from(message.timestamp.unix_timestamp()).unwrap_or_default());
        if let Some(id) = message.message_id {
            properties = properties.with_message_id(short("message_id", id)?);
        }
        if let Some(id) = message.correlation_id {
            properties = properties.with_correlation_id(short("correlation_id", id)?);
        }
        if let Some(kind) = message.kind {
            properties = properties.with_type(short("type", kind)?);
        }
        if !message.headers.is_empty() {
            properties = properties.with_headers(with_headers(FieldTable::default(), message.headers)?);
        }
        let size = frame_size(&properties);
        if size > frame_max {
            return Err(PublishError::TooLarge { what: "properties", size, limit: frame_max });
        }
        Self::addressed(route, message.body, properties)
    }

    /// A message that no queue takes.
    pub(super) fn probe(route: (String, String)) -> Result<Self, PublishError> {
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_app_id(APP_ID.into());
        Self::addressed(route, Bytes::new(), properties)
    }

    /// The original as it is, plus `headers`. What differs: it is persistent; it does not expire, claim a user or name
    /// further queues, which would lose it, have it refused or send it elsewhere (headers with our prefix say so
    /// instead); and where the headers of both do not fit into one frame, the original's are dropped, which a header says,
    /// unless they are what its publisher is to be understood by.
    pub(super) fn forward(
        route: (String, String),
        kept_headers: KeptHeaders,
        original: &Content,
        mut headers: Vec<(String, String)>,
        frame_max: usize,
    ) -> Result<Self, PublishError> {
        let properties = original.properties();
        let mut kept = copied(properties).with_delivery_mode(PERSISTENT);
        for (name, value) in [(EXPIRATION, properties.expiration()), (USER_ID, properties.user_id())] {
            if let Some(value) = value {
                headers.push((name.to_owned(), value.to_string()));
            }
        }
        if let Some(reply_to) = properties.reply_to().as_ref().filter(|reply_to| reply_to.as_str() != REPLY_TO) {
            kept = kept.with_reply_to(reply_to.clone());
        }

        let mut originals = FieldTable::default();
        let is_dropped =
            |name: &str| name == DELIVERY_COUNT || name == DeliveryKind::HEADER || kept_headers.drops(name);
        for (name, value) in original.headers().filter(|(name, _)| !is_dropped(name)) {
            let name = ROUTING_HEADERS.iter().find(|(routing, _)| *routing == name).map_or(name, |(_, kept)| kept);
            originals.insert(short("header", name)?, value.clone());
        }
        let bytes = frame_size(&BasicProperties::default().with_headers(originals.clone()));
        let whole = kept.clone().with_headers(with_headers(originals, headers.clone())?);
        if frame_size(&whole) <= frame_max {
            return Self::addressed(route, original.body().clone(), whole);
        }
        if kept_headers == KeptHeaders::Senders {
            return Err(PublishError::TooLarge { what: "properties", size: frame_size(&whole), limit: frame_max });
        }
        headers.push((HEADERS_DROPPED.to_owned(), bytes.to_string()));
        let headers = with_headers(FieldTable::default(), headers)?;
        let named = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let named = match properties.message_id() {
            Some(id) => named.with_message_id(id.clone()),
            None => named,
        };
        // With each long property, and then with what it is found by.
        let candidates = [kept, named].map(|properties| properties.with_headers(headers.clone()));
        let sizes = candidates.each_ref().map(frame_size);
        match candidates.into_iter().zip(sizes).find(|(_, size)| *size <= frame_max) {
            Some((fitting, _)) => Self::addressed(route, original.body().clone(), fitting),
            None => Err(PublishError::TooLarge { what: "properties", size: sizes[1], limit: frame_max }),
        }
    }

    fn addressed(
        (exchange, routing_key): (String, String),
        body: Bytes,
        properties: BasicProperties,
    ) -> Result<Self, PublishError> {
        let (exchange, routing_key) = (short("exchange", exchange)?, short("routing key", routing_key)?);
        Ok(Self { exchange, routing_key, body, properties })
    }
}

/// All properties but headers, delivery mode, expiration, user id and reply-to.
fn copied(original: &BasicProperties) -> BasicProperties {
    let mut copy = BasicProperties::default();
    if let Some(value) = original.content_type() {
        copy = copy.with_content_type(value.clone());
    }
    if let Some(value) = original.content_encoding() {
        copy = copy.with_content_encoding(value.clone());
    }
    if let Some(value) = original.priority() {
        copy = copy.with_priority(*value);
    }
    if let Some(value) = original.correlation_id() {
        copy = copy.with_correlation_id(value.clone());
    }
    if let Some(value) = original.message_id() {
        copy = copy.with_message_id(value.clone());
    }
    if let Some(value) = original.timestamp() {
        copy = copy.with_timestamp(*value);
    }
    if let Some(value) = original.kind() {
        copy = copy.with_type(value.clone());
    }
    if let Some(value) = original.app_id() {
        copy = copy.with_app_id(value.clone());
    }
    if let Some(value) = original.cluster_id() {
        copy = copy.with_cluster_id(value.clone());
    }
    copy
}

fn with_headers(mut table: FieldTable, headers: Vec<(String, String)>) -> Result<FieldTable, PublishError> {
    for (name, value) in headers {
        table.insert(short("header", name)?, AMQPValue::LongString(value.into()));
    }
    Ok(table)
}

fn short(what: &'static str, text: impl Into<String>) -> Result<ShortString, PublishError> {
    let text = text.into();
    let size = text.len();
    ShortString::try_new(text).map_err(|_| PublishError::TooLarge { what, size, limit: 255 })
}

/// Bytes of the one frame that carries the properties.
fn frame_size(properties: &BasicProperties) -> usize {
    let written = gen_properties(properties)(Vec::new().into());
    // Writing to memory does not fail; if it did, nothing would fit.
    written.map_or(usize::MAX, |written| {
        usize::try_from(written.into_inner().1).unwrap_or(usize::MAX).saturating_add(FRAME_OVERHEAD)
    })
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn outgoing() -> Outgoing {
        Outgoing {
            body: Bytes::from_static(b"{}"),
            content_type: "application/json",
            message_id: Some("m".to_owned()),
            correlation_id: Some("c".to_owned()),
            kind: Some("t".to_owned()),
            timestamp: datetime!(2023-11-14 22:13:20.5 UTC),
            headers: vec![("traceparent".to_owned(), "00-1".to_owned())],
        }
    }

    fn route() -> (String, String) {
        ("exchange".to_owned(), "key".to_owned())
    }

    fn header<'a>(outbound: &'a Outbound, name: &str) -> Option<&'a AMQPValue> {
        outbound.properties.headers().as_ref().and_then(|headers| headers.inner().get(name))
    }

    #[test]
    fn our_messages_are_persistent_and_carry_their_properties() {
        let outbound = Outbound::new(route(), outgoing(), 4096).expect("it fits");
        let properties = &outbound.properties;
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(*properties.timestamp(), Some(1_700_000_000));
        assert_eq!(properties.app_id().as_ref().map(ShortString::as_str), Some("cancel-worker"));
        assert_eq!(properties.kind().as_ref().map(ShortString::as_str), Some("t"));
        assert_eq!(header(&outbound, "traceparent"), Some(&AMQPValue::LongString("00-1".into())));
    }

    #[test]
    fn what_does_not_fit_onto_the_wire_is_refused_by_name() {
        let refused = |message| Outbound::new(route(), message, 4096).map(|_| ()).expect_err("too large").to_string();
        let long = refused(Outgoing { correlation_id: Some("c".repeat(256)), ..outgoing() });
        assert!(long.contains("correlation_id") && long.contains("256"), "{long}");
        let long = refused(Outgoing { headers: vec![("h".to_owned(), "v".repeat(4096))], ..outgoing() });
        assert!(long.contains("properties") && long.contains("4096"), "{long}");
    }

    #[test]
    fn a_dead_letter_keeps_everything_but_what_would_lose_it() {
        let mut headers = FieldTable::default();
        headers.insert("n".into(), AMQPValue::LongInt(7));
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(3));
        let queues = AMQPValue::FieldArray(vec![AMQPValue::LongString("q".into())].into());
        headers.insert("CC".into(), queues.clone());
        let properties = BasicProperties::default()
            .with_content_encoding("gzip".into())
            .with_delivery_mode(1)
            .with_priority(4)
            .with_expiration("1000".into())
            .with_user_id("ann".into())
            .with_reply_to("amq.rabbitmq.reply-to".into())
            .with_headers(headers);
        let original = Content::new(b"body".to_vec(), properties);
        let ours = vec![("cancel-worker-reason".to_owned(), "why".to_owned())];

        let letter = Outbound::forward(route(), KeptHeaders::All, &original, ours, 4096).expect("it fits");
        let properties = &letter.properties;
        assert_eq!(*letter.body, *b"body");
        assert_eq!((*properties.delivery_mode(), *properties.priority()), (Some(2), Some(4)));
        assert_eq!(properties.content_encoding().as_ref().map(ShortString::as_str), Some("gzip"));
        assert!(properties.expiration().is_none() && properties.user_id().is_none() && properties.reply_to().is_none());
        assert_eq!(header(&letter, "n"), Some(&AMQPValue::LongInt(7)));
        assert_eq!(header(&letter, "cancel-worker-reason"), Some(&AMQPValue::LongString("why".into())));
        assert_eq!(header(&letter, "cancel-worker-expiration"), Some(&AMQPValue::LongString("1000".into())));
        assert_eq!(header(&letter, "cancel-worker-user-id"), Some(&AMQPValue::LongString("ann".into())));
        assert_eq!((header(&letter, "x-delivery-count"), header(&letter, "CC")), (None, None));
        assert_eq!(header(&letter, "cancel-worker-cc"), Some(&queues));
    }

    #[test]
    fn headers_that_do_not_fit_into_a_frame_with_ours_are_dropped_and_counted() {
        let mut headers = FieldTable::default();
        headers.insert("h".into(), AMQPValue::LongString("v".repeat(4050).into()));
        let original = Content::new(b"body".to_vec(), BasicProperties::default().with_headers(headers));
        let ours = || vec![("cancel-worker-reason".to_owned(), "w".repeat(100))];

        let letter = Outbound::forward(route(), KeptHeaders::All, &original, ours(), 4096).expect("ours fit");
        assert_eq!(header(&letter, "h"), None);
        assert_eq!(header(&letter, HEADERS_DROPPED), Some(&AMQPValue::LongString("4083".into())));
        assert!(frame_size(&letter.properties) <= 4096);
        let whole = Outbound::forward(route(), KeptHeaders::All, &original, ours(), 8192).expect("all fits");
        assert!(header(&whole, "h").is_some() && header(&whole, HEADERS_DROPPED).is_none());
    }
}
