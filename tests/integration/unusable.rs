//! Messages that are no requests: each is kept with a reason, and whoever sent it is told where that is possible.

use std::collections::HashMap;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;

use crate::event::header;
use crate::support::persistent;
use crate::test_env::{PATIENCE, TestEnv, operation, properties, request};

/// Of the form of a name, as sentences give it.
const FORM: &str =
    "the operation's name is not of the form projects/*/locations/*/operations/* or projects/*/operations/*";
const NAMELESS: &str = "`name` is missing: the operation's name, such as \"projects/*/locations/*/operations/*\"";

/// A message, the sentence about it, and the identity that can be read from it.
struct Case {
    body: Vec<u8>,
    properties: BasicProperties,
    detail: String,
    identity: Option<String>,
}

impl Case {
    fn json(body: impl Into<Vec<u8>>, detail: &str, identity: Option<&str>) -> Self {
        let (detail, identity) = (detail.to_owned(), identity.map(str::to_owned));
        Self { body: body.into(), properties: properties(), detail, identity }
    }

    fn of_type(self, content_type: &str) -> Self {
        Self { properties: self.properties.with_content_type(content_type.into()), ..self }
    }

    fn with_message_id(self, id: &str) -> Self {
        Self { properties: self.properties.with_message_id(id.into()), ..self }
    }
}

/// `open` so many times, then `close` as often.
fn nested(open: &str, close: &str, times: usize) -> String {
    open.repeat(times) + &close.repeat(times)
}

fn bodies_that_are_no_json_object() -> Vec<Case> {
    vec![
        Case::json("", "the body is empty, but must be a JSON object", None),
        Case::json("cancel it, please", "the body is not JSON: expected value at line 1 column 1", None),
        Case::json("cancel it, please", "the body is not JSON: expected value at line 1 column 1", Some("m-1"))
            .with_message_id("m-1"),
        Case::json("[1,2]", "the body must be a JSON object, but is an array", None),
        Case::json("\"cancel\"", "the body must be a JSON object, but is a string", None),
        Case::json("null", "the body must be a JSON object, but is null", None),
        Case::json(nested("[", "]", 10_000), "the body must be a JSON object, but is an array", None),
        Case::json(
            r#"{"request_id":"cut","name":"projects/p/oper"#,
            "the body is cut off: EOF while parsing a string at line 1 column 43",
            Some("cut"),
        ),
        Case::json(
            r#"{"request_id":"trailing","name":"projects/p/operations/a"} and more"#,
            "the body is not JSON: trailing characters at line 1 column 60",
            Some("trailing"),
        ),
        Case::json(b"{\"name\":\"\xff\"}".to_vec(), "the body is not UTF-8: byte 10 is no character", None),
        Case::json(
            b"{\"request_id\":\"latin\",\"reason\":\"\xe9\"}".to_vec(),
            "the body is not UTF-8: byte 33 is no character",
            Some("latin"),
        ),
    ]
}

fn wrong_fields() -> Vec<Case> {
    let with = |id: &str, fields, detail: &str| Case::json(request(id, fields).to_string(), detail, Some(id));
    let deep = format!(
        r#"{{"request_id":"deep","name":"{}","context":{}}}"#,
        operation("never-called"),
        nested("{\"a\":", "}", 10_000).replacen("}", "1}", 1)
    );
    let big = request("big", json!({ "context": { "padding": "x".repeat(5 << 20) } })).to_string();
    let too_big = format!("the body has {} bytes; at most 1048576 are read", big.len());
    vec![
        Case::json("{}", NAMELESS, None),
        Case::json(r#"{"name":null,"request_id":"null"}"#, NAMELESS, Some("null")),
        Case::json(r#"{"name":7,"request_id":"seven"}"#, "`name` must be a string, but is 7", Some("seven")),
        Case::json(r#"{"name":""}"#, "the operation's name is empty", None),
        Case::json(r#"{"name":"operations/1"}"#, &format!("{FORM}: \"operations/1\""), Some("operations/1")),
        Case::json(
            r#"{"name":"projects/../operations/a"}"#,
            "the operation's name has a segment that is empty, '.' or '..', or has a control character: \"projects/../operations/a\"",
            Some("projects/../operations/a"),
        ),
        with("t-number", json!({ "timeout": 5 }), "`timeout` must be a duration such as \"10m\", but is 5"),
        with("t-word", json!({ "timeout": "soon" }), "`timeout` must be a duration such as \"10m\", but is \"soon\""),
        with(
            "d-word",
            json!({ "deadline": "tomorrow" }),
            "`deadline` must be a time such as \"2026-01-31T12:00:00Z\", but is \"tomorrow\"",
        ),
        with("r-object", json!({ "reason": {} }), "`reason` must be a string, but is an object"),
        with("r-long", json!({ "reason": "x".repeat(5000) }), "`reason` may be at most 4096 bytes long, but is 5000"),
        with("c-array", json!({ "context": [] }), "`context` must be a JSON object, but is an array"),
        Case::json(deep, "`context` may be nested at most 100 deep, but is 10000", Some("deep")),
        Case::json(big, &too_big, Some("big")),
        Case::json(
            format!(r#"{{"request_id":5,"name":"{}"}}"#, operation("number")),
            "`request_id` must be a string, but is 5",
            Some(&operation("number")),
        ),
        Case::json(
            format!(r#"{{"request_id":"{}","name":"{}"}}"#, "x".repeat(300), operation("long")),
            "`request_id` may be at most 255 bytes long, but is 300",
            Some("m-2"),
        )
        .with_message_id("m-2"),
        Case::json(
            r#"{"request_id":"twice","name":"projects/p/operations/a","name":"projects/p/operations/b"}"#,
            "`name` is given twice",
            Some("twice"),
        ),
        Case::json(
            r#"{"request_id":"one","request_id":"two","name":"projects/p/operations/twofold"}"#,
            "`request_id` is given twice",
            Some("projects/p/operations/twofold"),
        ),
        Case::json("", "the operation's name is empty", None).of_type("text/plain"),
        Case::json("operation 5", &format!("{FORM}: \"operation 5\""), Some("operation 5")).of_type("text/plain"),
    ]
}

fn wrong_cloud_events() -> Vec<Case> {
    let event = |id: &str, rest: serde_json::Value, detail: &str| {
        let mut event = json!({ "specversion": "1.0", "id": id, "source": "/upstream", "type": "cancel" });
        event.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let identity = format!("/upstream {id}");
        Case::json(event.to_string(), detail, Some(&identity)).of_type("application/cloudevents+json")
    };
    let name = operation("never-called");
    vec![
        event("e-1", json!({}), "the CloudEvent has no `data`: the request belongs there"),
        event("e-2", json!({ "data": "x" }), "the CloudEvent's `data` must be a JSON object, but is a string"),
        event("e-3", json!({ "data": { "name": 7 } }), "`data.name` must be a string, but is 7"),
        event("e-4", json!({ "data_base64": "%" }), "`data_base64` must be UTF-8 text in base64"),
        event(
            "e-5",
            json!({ "data": { "name": name }, "data_base64": "e30=" }),
            "the CloudEvent has both `data` and `data_base64`",
        ),
        event(
            "e-6",
            json!({ "specversion": "0.3", "data": { "name": name } }),
            "`specversion` must be \"1.0\", but is \"0.3\"",
        ),
        event(
            "e-7",
            json!({ "time": "noon", "data": { "name": name } }),
            "`time` must be a time such as \"2026-01-31T12:00:00Z\", but is \"noon\"",
        ),
        Case::json(
            json!({ "specversion": "1.0", "id": "e-8", "data": { "name": name } }).to_string(),
            "the CloudEvent has no `source`",
            Some(&name),
        )
        .of_type("application/cloudevents+json"),
        Case::json(
            "[]",
            "of the CloudEvents formats only application/cloudevents+json is read, one event in a message",
            None,
        )
        .of_type("application/cloudevents-batch+json"),
    ]
}

/// The properties of the message with this number: all that a publisher can set, so that all must be found again.
fn numbered(properties: BasicProperties, number: usize) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("case".into(), AMQPValue::LongString(number.to_string().into()));
    headers.insert("number".into(), AMQPValue::LongLongInt(-7));
    properties
        .with_headers(headers)
        .with_correlation_id(format!("c-{number}").into())
        .with_content_encoding("identity".into())
        .with_priority(3)
        .with_timestamp(1_700_000_000)
        .with_type("their type".into())
        .with_app_id("their app".into())
}

#[tokio::test]
async fn every_unusable_message_is_kept_with_its_reason_and_answered_where_its_identity_can_be_read() {
    let mut env = TestEnv::new().await;
    let worker = env.worker().await;
    let cases: Vec<Case> =
        [bodies_that_are_no_json_object(), wrong_fields(), wrong_cloud_events()].into_iter().flatten().collect();
    let mut good = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        env.publish(&case.body, numbered(case.properties.clone(), number)).await;
        for copy in ["a", "b", "c"] {
            good.push(format!("cancels-{copy}{number}"));
            env.request(&good[good.len() - 1]).await;
        }
    }
    // Unknown fields are none of the worker's business, whatever they are.
    let deep = nested("[", "]", 10_000);
    let name = operation("cancels-deep");
    env.publish(format!(r#"{{"name":"{name}","request_id":"cancels-deep","x":{deep}}}"#).as_bytes(), properties())
        .await;
    good.push("cancels-deep".to_owned());
    assert!(good.len() >= 100);

    for id in &good {
        assert_eq!(env.event_for(id).await.verdict(), "cancelled", "{id}");
    }
    let letters = env.dead_letters(u16::try_from(cases.len()).unwrap()).await;
    let by_number: HashMap<usize, _> =
        letters.iter().map(|letter| (header(&letter.properties, "case").unwrap().parse().unwrap(), letter)).collect();
    let mut problems = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let letter = by_number[&number];
        let told = |name: &str| header(&letter.properties, name);
        assert_eq!(letter.data, case.body, "the body of case {number}");
        assert_eq!(without_ours(&letter.properties), numbered(case.properties.clone(), number), "case {number}");
        let expected = (Some("unusable_request".to_owned()), Some(case.detail.clone()), case.identity.clone());
        let got = (told("cancel-worker-reason"), told("cancel-worker-detail"), told("cancel-worker-identity"));
        if got != expected {
            problems.push(format!("case {number}: {expected:?}\n    but {got:?}"));
        }
        assert_eq!(told("cancel-worker-worker").as_deref(), Some("tested"));
        let time = told("cancel-worker-time").unwrap();
        assert!(time.starts_with("20") && time.ends_with('Z') && time.len() == 24, "{time}");
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));

    let answered = cases.iter().filter_map(|case| Some((case, case.identity.as_deref()?)));
    let mut events = good.len();
    for (case, identity) in answered {
        let event = env.event_for(identity).await;
        assert_eq!(event.verdict(), "failed: unusable_request");
        assert_eq!(event.data()["error"]["message"], case.detail.as_str());
        assert_eq!(event.attempts(), (0, 0));
        assert!(event.correlation_id().starts_with("c-"));
        events += 1;
    }
    assert_eq!(env.events(events, PATIENCE).await.len(), events, "no event but for these");
    // Who sent the others can only be looked for.
    let nameless = cases.iter().filter(|case| case.identity.is_none()).count();
    let (lines, exchange) = (worker.lines(), format!("\"exchange\":{:?}", env.queue("requests")));
    let told = lines.iter().filter(|line| line.contains("names nobody who could be answered"));
    assert_eq!(told.filter(|line| line.contains(&exchange) && line.contains("\"routing_key\":")).count(), nameless);
    assert_eq!(env.api.calls("never-called").await["cancel_calls"], 0);
    assert_eq!(worker.lines().iter().filter(|line| line.contains("\"consuming\"")).count(), 1, "it went on");
    for queue in ["requests", "followups", "dead"] {
        env.depth_becomes(queue, 0).await;
    }
    env.end().await;
}

/// The properties without the headers that the worker adds.
fn without_ours(properties: &BasicProperties) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flatten() {
        if !name.as_str().starts_with("cancel-worker-") {
            headers.insert(name.clone(), value.clone());
        }
    }
    properties.clone().with_headers(headers)
}

#[tokio::test]
async fn a_follow_up_that_cannot_be_read_is_kept_with_its_reason_and_answered_where_its_identity_can_be_read() {
    let mut env = TestEnv::new().await;
    let _worker = env.worker().await;
    for (body, detail) in [
        (r#"{"v":2,"request":{},"progress":{}}"#, "`v` must be 1, the only version that this worker knows, but is 2"),
        ("{}", "the follow-up has no `v`"),
        ("hello", "the body is not JSON: expected value at line 1 column 1"),
    ] {
        let exchange = env.queue("followups");
        env.amqp.publish(&exchange, "followup", body.as_bytes(), persistent()).await;
        let letters = env.dead_letters(1).await;
        let told = |name: &str| header(&letters[0].properties, name).unwrap();
        assert_eq!(letters[0].data, body.as_bytes());
        assert_eq!(told("cancel-worker-reason"), "unreadable_follow_up");
        assert_eq!(told("cancel-worker-detail"), detail);
    }
    let newer = r#"{"v":2,"request":{"identity":"r-1","name":"projects/p/locations/global/operations/cancels-b","correlation_id":"c-1"},"progress":{"phase":"dreaming"}}"#;
    env.amqp.publish(&env.queue("followups"), "followup", newer.as_bytes(), persistent()).await;
    let event = env.event_for("r-1").await;
    assert_eq!((event.verdict().as_str(), event.correlation_id()), ("failed: unreadable_follow_up", "c-1"));
    assert!(event.data()["error"]["message"].as_str().unwrap().starts_with("`v` must be 1"));
    assert_eq!(event.data().get("attempts"), None, "nobody knows");
    assert_eq!(env.dead_letters(1).await[0].data, newer.as_bytes());
    env.request("cancels-a").await;
    assert_eq!(env.event_for("cancels-a").await.outcome(), "cancelled");
    assert_eq!(env.api.stats().await["cancel_calls"], 1);
    env.end().await;
}
