//! What holds for every message, whatever it says.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::{
    CancelRequest, DeadLetterHeaders, DeadReason, Envelope, EventFormat, EventMode, FollowUp, Identity, JsonText,
    NamePatterns, OperationName, Outgoing, ReceivedEvent, RequestContext, RequestKey, ResultEvent,
};
use crate::cancellation::{Calls, Conclusion, ErrorDetail, Outcome, Phase, Progress, Reason};

const LIMIT: usize = 1024 * 1024;

fn names() -> NamePatterns {
    let texts = ["projects/*/locations/*/operations/*", "projects/*/operations/*"];
    NamePatterns::new(texts.map(str::to_owned).into()).expect("patterns")
}

/// The message as it is delivered; AMQP timestamps have whole seconds.
fn delivered(message: &Outgoing) -> Envelope<'_> {
    Envelope {
        body: &message.body,
        shared: None,
        content_type: Some(message.content_type),
        content_encoding: None,
        message_id: message.message_id.as_deref(),
        correlation_id: message.correlation_id.as_deref(),
        reply_to: None,
        timestamp: message.timestamp.replace_nanosecond(0).ok(),
        user_id: None,
        headers: message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str().into())).collect(),
    }
}

fn any_time() -> impl Strategy<Value = OffsetDateTime> {
    (-62_167_219_200_i64..253_402_300_800, prop_oneof![Just(0), 0_u32..1_000_000_000]).prop_map(|(seconds, nanos)| {
        let time = OffsetDateTime::from_unix_timestamp(seconds).expect("within the years");
        time.replace_nanosecond(nanos).expect("within a second")
    })
}

fn any_words() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,20}", "\\PC{1,50}", "[\\x00-\\x7f]{1,50}"]
}

fn any_object() -> impl Strategy<Value = Box<RawValue>> {
    prop_oneof![
        Just("{}".to_owned()),
        Just(r#"{ "a" : [ 1.50e+02, "\u00e9\/", null ],"a":{"name":"projects/x/operations/y"} }"#.to_owned()),
        any_words().prop_map(|words| format!("{{\n\t\"words\" : {}}}", serde_json::to_string(&words).expect("JSON"))),
        (1_usize..99).prop_map(|depth| format!("{{\"deep\":{}{}}}", "[".repeat(depth), "]".repeat(depth))),
    ]
    .prop_map(|json| RawValue::from_string(json).expect("JSON"))
}

prop_compose! {
    fn any_request()(
        name in "projects/[a-z]{1,8}/(locations/[a-z1-9-]{1,9}/)?operations/[^\\x00-\\x1f/\\p{C}]{3,70}",
        request_id in proptest::option::of(any_words()),
        deadline in proptest::option::of(any_time()),
        timeout in proptest::option::of((0..u64::MAX / 4, 0_u32..1_000_000_000)),
        reason in proptest::option::of(any_words()),
        requested_by in proptest::option::of(any_words()),
        context in proptest::option::of(any_object()),
        correlation_id in proptest::option::of("[a-z]{1,255}"),
        requested_at in proptest::option::of(any_time()),
        known_by in prop_oneof![
            Just(None),
            "\\PC{1,60}".prop_map(|id| Some(Identity::of_message_id(&id))),
            ("[^\\p{C}]{1,150}", "[^\\p{C}]{1,150}").prop_map(|(source, id)| Some(Identity::of_event(&source, &id))),
        ],
        (traced, replay, user_id) in (any::<bool>(), 0_u32..3, proptest::option::of("[a-z]{1,255}")),
    ) -> CancelRequest {
        let name = OperationName::parse(name).expect("a name");
        let mut request = CancelRequest::new(name, request_id);
        if let (None, Some(identity)) = (&request.details.request_id, known_by) {
            request.identity = identity;
        }
        request.deadline = deadline;
        request.timeout = timeout.map(|(seconds, nanos)| Duration::new(seconds, nanos));
        let RequestContext { request_id, reply_to, .. } = request.details;
        request.details = RequestContext {
            request_id,
            reason,
            requested_by,
            user_id,
            context: context.map(JsonText::from),
            correlation_id,
            reply_to,
            requested_at,
            traceparent: traced.then(|| "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
            tracestate: traced.then(|| "congo=t61rcWkgMzE".to_owned()),
            replay,
        };
        request
    }
}

fn any_error() -> impl Strategy<Value = ErrorDetail> {
    (any::<Option<i32>>(), proptest::option::of("[A-Z_]{1,20}"), any_words())
        .prop_map(|(code, status, message)| ErrorDetail { code, status, message })
}

fn any_reason() -> impl Strategy<Value = Reason> {
    prop_oneof![Just(Reason::NotCancellable), Just(Reason::Unavailable), Just(Reason::NotFound)]
}

prop_compose! {
    fn any_progress()(
        phase in prop_oneof![
            Just(Phase::Cancelling),
            Just(Phase::Polling),
            (any_reason(), any_error()).prop_map(|(reason, error)| Phase::Verifying { reason, error }),
        ],
        times in [any_time(), any_time(), any_time()],
        accepted_at in proptest::option::of(any_time()),
        (cancel, get) in any::<(u32, u32)>(),
        (failures, conflicts, polls, not_found, undecodable) in any::<(u32, u32, u32, u32, u32)>(),
        renewed in any::<bool>(),
        last_error in proptest::option::of(any_error()),
        operation in proptest::option::of(any_object()),
    ) -> Progress {
        Progress {
            phase,
            wait_left: Duration::from_millis(times[2].millisecond().into()),
            accepted_at,
            calls: Calls { cancel, get },
            failures,
            conflicts,
            polls,
            not_found,
            undecodable,
            renewed,
            last_error,
            operation: operation.map(Into::into),
            ..Progress::new(times[0], times[1])
        }
    }
}

fn any_conclusion() -> impl Strategy<Value = Conclusion> {
    let outcome = prop_oneof![
        Just(Outcome::Cancelled),
        Just(Outcome::Completed),
        Just(Outcome::Unimplemented),
        any_reason().prop_map(Outcome::Failed),
    ];
    (outcome, proptest::option::of(any_error())).prop_map(|(outcome, error)| Conclusion { outcome, error })
}

fn any_format() -> impl Strategy<Value = EventFormat> {
    ("[a-z.]{1,20}", "/[a-z]{0,20}", prop_oneof![Just(EventMode::Structured), Just(EventMode::Binary)])
        .prop_map(|(type_prefix, source, mode)| EventFormat { type_prefix, source, mode })
}

/// Bodies that come closer to a request than chance would.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("\""),
        Just(":"),
        Just(","),
        Just("\"name\":"),
        Just("\"request_id\":"),
        Just("\"data\":"),
        Just("\"data_base64\":"),
        Just("\"timeout\":"),
        Just("\"context\":"),
        Just("\"id\":"),
        Just("\"source\":"),
        Just("\"specversion\":\"1.0\""),
        Just("\"projects/p/operations/o\""),
        Just("\"10m\""),
        Just("\"e30=\""),
        Just("null"),
        Just("5"),
        Just("\\ud800"),
        Just(" "),
        Just("\u{feff}"),
    ];
    prop_oneof![
        any::<Vec<u8>>(),
        ".*".prop_map(String::into_bytes),
        proptest::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat().into_bytes()),
    ]
}

fn any_content_type() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![
        Just(None),
        Just(Some("application/json")),
        Just(Some("text/plain; charset=utf-8")),
        Just(Some("Application/CloudEvents+JSON;charset=utf-8")),
        Just(Some("application/cloudevents-batch+json")),
        Just(Some("")),
    ]
}

fn same(one: &CancelRequest, other: &CancelRequest) -> bool {
    // Debug shows every field, and raw JSON byte by byte.
    format!("{one:?}") == format!("{other:?}")
}

proptest! {
    #[test]
    fn no_message_makes_a_reader_panic(
        body in any_body(),
        content_type in any_content_type(),
        message_id in proptest::option::of(".{0,20}"),
        headers in proptest::collection::vec(("(cloudEvents[:_])?(id|source|specversion|time|traceparent)", ".{0,20}"), 0..5),
        limit in prop_oneof![Just(LIMIT), 0_usize..40],
    ) {
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str().into())).collect();
        let envelope = Envelope { body: &body, content_type, message_id: message_id.as_deref(), headers, ..Envelope::default() };
        let _ = FollowUp::read(&envelope);
        let _ = ReceivedEvent::read(&envelope);
        match CancelRequest::read(&envelope, limit, &names()) {
            Ok(request) => prop_assert!(body.len() <= limit && request.identity.as_str().len() <= 255),
            Err(unusable) => prop_assert!(!unusable.problem.is_empty() && unusable.problem.len() < 500, "{}", unusable.problem),
        }
    }

    #[test]
    fn a_request_that_is_published_again_is_the_same_request(request in any_request(), now in any_time()) {
        let message = request.to_message(now);
        let read = CancelRequest::read(&delivered(&message), LIMIT, &names()).expect("a request");
        let requested_at = request.details.requested_at.unwrap_or(now).replace_nanosecond(0).ok();
        let mut expected = request;
        expected.details.requested_at = requested_at;
        expected.details.user_id = None;
        let replay = std::mem::take(&mut expected.details.replay);
        prop_assert!(same(&read, &expected), "{read:?}\n{expected:?}");

        // As a dead letter it is the next replay, and another request for who waits for answers.
        let (reason, detail, worker) = (DeadReason::Failed, String::new(), String::new());
        let letter = DeadLetterHeaders { reason, detail, identity: Some(read.identity.clone()), replay, time: now, worker };
        let mut message = expected.to_message(now);
        message.headers.extend(letter.headers());
        let read = CancelRequest::read(&delivered(&message), LIMIT, &names()).expect("a request");
        prop_assert_eq!(read.details.replay, replay + 1);
        prop_assert_eq!(read.key(), RequestKey::new(&expected.identity, Some(expected.name.as_str()), replay + 1));
    }

    #[test]
    fn a_follow_up_is_read_back_equal(mut request in any_request(), progress in any_progress(), now in any_time()) {
        request.details.reply_to = Some("amq.rabbitmq.reply-to.g1h2".to_owned());
        let message = FollowUp { request: request.clone(), progress: progress.clone(), quarantined: 0, concluded: None }.encode(now).expect("written");
        let read = FollowUp::read(&delivered(&message)).expect("a follow-up");
        prop_assert!(same(&read.request, &request), "{:?}\n{request:?}", read.request);
        prop_assert_eq!(format!("{:?}", read.progress), format!("{progress:?}"));
    }

    #[test]
    fn a_result_event_says_what_is_known_and_its_id_is_that_of_the_answer(
        request in any_request(),
        progress in any_progress(),
        conclusion in any_conclusion(),
        finished_at in any_time(),
        format in any_format(),
    ) {
        let message = ResultEvent::concluded(&request, &progress, &conclusion, finished_at).encode(&format);
        let event = ReceivedEvent::read(&delivered(&message)).expect("an event");
        prop_assert_eq!(&event.request_key, &request.key().to_string());
        prop_assert_eq!(&event.id, &request.key().event_id(conclusion.outcome).to_string());
        prop_assert_eq!(Some(&event.id), message.message_id.as_ref());
        prop_assert_eq!(&event.source, &format.source);
        prop_assert_eq!(event.kind, format!("{}.operation.{}", format.type_prefix, conclusion.outcome.as_str()));
        prop_assert_eq!(event.subject.as_deref(), Some(request.name.as_str()));
        prop_assert_eq!(event.data.outcome, conclusion.outcome.as_str());
        prop_assert_eq!(event.data.request_id, request.details.request_id);
        prop_assert_eq!(event.data.replay, request.details.replay);
        prop_assert_eq!(event.data.user_id, request.details.user_id);
        prop_assert_eq!(event.data.requested_by, request.details.requested_by);
        prop_assert_eq!(event.data.reason, request.details.reason);
        prop_assert_eq!(event.data.attempts, Some(progress.calls));
        let raw = |json: Option<&RawValue>| json.map(|json| json.get().to_owned());
        prop_assert_eq!(event.data.context.as_deref().map(RawValue::get), request.details.context.as_ref().map(JsonText::get));
        prop_assert_eq!(raw(event.data.operation.as_deref()), raw(progress.operation.as_deref()));
    }

    #[test]
    fn the_headers_of_a_dead_letter_fit_a_frame(detail in "\\PC{0,1000}", worker in "\\PC{0,300}", time in any_time()) {
        let letter = DeadLetterHeaders { reason: DeadReason::Failed, detail, identity: None, replay: u32::MAX, time, worker };
        let size: usize = letter.headers().iter().map(|(name, value)| name.len() + value.len()).sum();
        prop_assert!(size < 2048);
    }
}
