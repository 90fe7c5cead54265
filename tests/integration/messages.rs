//! The forms that requests come in, what of them is handed on to events, and what is kept of failed ones.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;
use tokio::time::timeout;

use crate::event::{Event, header};
use crate::support::persistent;
use crate::test_env::{PATIENCE, TestEnv, event_id, operation, properties, request, request_key};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Not as any program would write it again.
const CONTEXT: &str = "{ \"price\" : 1.50e+02,\n\t\"ü\":\"\\u00e9\\/\", \"a\":[null , {}],\"a\":2 }";

fn with_headers(properties: BasicProperties, headers: &[(&str, &str)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in headers {
        table.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    properties.with_headers(table)
}

/// A structured CloudEvent whose data is a request for this operation.
fn cloud_event(id: &str, rest: serde_json::Value) -> Vec<u8> {
    let mut event = json!({ "specversion": "1.0", "id": id, "source": "/upstream", "type": "cancel" });
    event.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    event.to_string().into_bytes()
}

#[tokio::test]
async fn a_request_is_read_from_each_of_its_forms_and_known_by_what_it_says() {
    let mut env = TestEnv::new().await;
    let _worker = env.worker().await;
    let structured = || persistent().with_content_type("application/cloudevents+json; charset=utf-8".into());
    let data = |id: &str| json!({ "name": operation(id) });
    let attributes = |prefix: &str, id: &str| {
        [("specversion", "1.0"), ("id", id), ("source", "/upstream"), ("type", "cancel")]
            .map(|(name, value)| (format!("cloudEvents{prefix}{name}"), value.to_owned()))
    };
    let binary = |prefix: &str, id: &str, content_type: &str| {
        let attributes = attributes(prefix, id);
        let headers: Vec<(&str, &str)> =
            attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        with_headers(persistent().with_content_type(content_type.into()), &headers)
    };
    // The message, its operation's id, and the request's identity.
    let forms = [
        (request("cancels-1", json!({})).to_string().into_bytes(), persistent(), "cancels-1", "cancels-1".to_owned()),
        (data("cancels-2").to_string().into_bytes(), properties(), "cancels-2", operation("cancels-2")),
        (
            data("cancels-3").to_string().into_bytes(),
            properties().with_message_id("m-3".into()),
            "cancels-3",
            "m-3".to_owned(),
        ),
        (
            operation("cancels-4").into_bytes(),
            persistent().with_content_type("text/plain".into()),
            "cancels-4",
            operation("cancels-4"),
        ),
        (
            format!(" {}\n", operation("cancels-5")).into_bytes(),
            persistent().with_content_type("text/plain; charset=utf-8".into()).with_message_id("m-5".into()),
            "cancels-5",
            "m-5".to_owned(),
        ),
        (
            cloud_event("e-6", json!({ "data": data("cancels-6") })),
            structured(),
            "cancels-6",
            "/upstream e-6".to_owned(),
        ),
        (
            cloud_event("e-7", json!({ "data": operation("cancels-7"), "datacontenttype": "text/plain" })),
            structured(),
            "cancels-7",
            "/upstream e-7".to_owned(),
        ),
        (
            cloud_event("e-8", json!({ "data_base64": "eyJuYW1lIjoicHJvamVjdHMvcC9vcGVyYXRpb25zL2NhbmNlbHMtOCJ9" })),
            structured(),
            "cancels-8",
            "/upstream e-8".to_owned(),
        ),
        (
            cloud_event("e-9", json!({ "data": request("cancels-9", json!({})) })),
            structured().with_message_id("m-9".into()),
            "cancels-9",
            "cancels-9".to_owned(),
        ),
        (
            data("cancels-10").to_string().into_bytes(),
            binary(":", "e-10", "application/json"),
            "cancels-10",
            "/upstream e-10".to_owned(),
        ),
        (
            operation("cancels-11").into_bytes(),
            binary("_", "e-11", "text/plain"),
            "cancels-11",
            "/upstream e-11".to_owned(),
        ),
    ];
    for (body, properties, ..) in &forms {
        env.publish(body, properties.clone()).await;
    }
    for (_, _, id, identity) in &forms {
        let event = env.event_for(identity).await;
        assert_eq!(event.outcome(), "cancelled", "{}", event.data());
        assert!(event.data()["name"].as_str().unwrap().ends_with(&format!("/operations/{id}")), "{}", event.data());
        assert_eq!(event.correlation_id(), identity, "without a correlation id of its own");
    }
    assert_eq!(env.events(forms.len(), PATIENCE).await.len(), forms.len());
    env.end().await;
}

#[tokio::test]
async fn an_event_says_what_happened_and_hands_on_what_was_given() {
    let mut env = TestEnv::new().await;
    env.set("events.source", "/tested");
    env.set("events.type_prefix", "com.example");
    // So that the second request is parked, and everything has to survive that.
    env.set("worker.inline_wait", "0s");
    let _worker = env.worker().await;
    for id in ["cancels-a", "cancels-500ms-a"] {
        let name = operation(id);
        let body = format!(
            r#"{{"name":"{name}","request_id":"{id}","reason":"no longer needed","requested_by":"ann","timeout":"10m","context":{CONTEXT}}}"#
        );
        let properties = properties().with_correlation_id("c-1".into()).with_timestamp(1_700_000_000);
        // RabbitMQ takes no other than the name of who publishes.
        let properties = properties.with_user_id("guest".into());
        let properties =
            with_headers(properties, &[("traceparent", PARENT), ("tracestate", "congo=t61"), ("x-own", "1")]);
        env.publish(body.as_bytes(), properties).await;

        let event = env.event_for(id).await;
        let properties = &event.properties;
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/cloudevents+json; charset=utf-8");
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "cancel-worker");
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "com.example.operation.cancelled");
        assert!(properties.timestamp().is_some());
        assert_eq!((event.correlation_id(), event.routing_key.as_str()), ("c-1", "operation.cancelled"));
        assert_eq!(event.header("traceparent").as_deref(), Some(PARENT));
        assert_eq!(event.header("tracestate").as_deref(), Some("congo=t61"));
        assert_eq!(event.header("x-own"), None);

        let envelope = event.json();
        assert_eq!(envelope["specversion"], "1.0");
        let key = request_key(id);
        assert_eq!((&envelope["requestkey"], &envelope["id"]), (&json!(key), &json!(event_id(&key, "cancelled"))));
        assert_eq!((&envelope["source"], &envelope["subject"]), (&json!("/tested"), &json!(name)));
        assert_eq!(envelope["type"], "com.example.operation.cancelled");
        let data = event.data();
        for (field, value) in [
            ("name", json!(name)),
            ("request_id", json!(id)),
            ("outcome", json!("cancelled")),
            ("reason", json!("no longer needed")),
            ("requested_by", json!("ann")),
            ("user_id", json!("guest")),
            ("requested_at", json!("2023-11-14T22:13:20.000Z")),
        ] {
            assert_eq!(data[field], value, "{field}");
        }
        let operation = &data["operation"];
        assert_eq!(
            (&operation["name"], &operation["done"], &operation["error"]["code"]),
            (&json!(name), &json!(true), &json!(1))
        );
        let time = |field: &str| data[field].as_str().unwrap();
        assert!(time("requested_at") < time("accepted_at") && time("accepted_at") <= time("finished_at"), "{data}");
        let body = String::from_utf8(event.body.clone()).unwrap();
        assert!(body.contains(&format!("\"context\":{CONTEXT}")), "the context was changed: {body}");
    }
    env.end().await;
}

#[tokio::test]
async fn an_operation_that_finished_with_an_error_of_its_own_is_completed_and_the_error_is_told() {
    let mut env = TestEnv::new().await;
    let _worker = env.worker().await;
    for id in ["errs-13-a", "completes-a", "emptyerror-a"] {
        env.request(id).await;
    }
    let errs = env.event_for("errs-13-a").await;
    assert_eq!((errs.outcome(), &errs.data()["error"]["code"]), ("completed", &json!(13)));
    assert_eq!(errs.data()["error"]["status"], "INTERNAL");
    assert_eq!(errs.data()["operation"]["error"]["code"], 13);
    let completes = env.event_for("completes-a").await;
    assert!(completes.data().get("error").is_none() && completes.data()["operation"]["response"].is_object());
    assert!(env.event_for("emptyerror-a").await.data().get("error").is_none());
    env.end().await;
}

#[tokio::test]
async fn in_binary_mode_the_attributes_are_headers_and_the_data_is_the_body() {
    let mut env = TestEnv::new().await;
    env.set("events.mode", "binary");
    let _worker = env.worker().await;
    let body = request("cancels-a", json!({}));
    let properties = with_headers(properties(), &[("traceparent", PARENT)]);
    env.publish(body.to_string().as_bytes(), properties).await;

    let event = env.event_for("cancels-a").await;
    assert_eq!(event.properties.content_type().as_ref().unwrap().as_str(), "application/json");
    for (name, value) in [
        ("specversion", "1.0"),
        ("id", &event_id(&request_key("cancels-a"), "cancelled")),
        ("requestkey", &request_key("cancels-a")),
        ("source", "/cancel-worker"),
        ("type", "cancel-worker.operation.cancelled"),
        ("subject", &operation("cancels-a")),
    ] {
        assert_eq!(event.header(&format!("cloudEvents:{name}")).as_deref(), Some(value), "{name}");
    }
    assert!(event.header("cloudEvents:time").unwrap().ends_with('Z'));
    assert_eq!(event.header("traceparent").as_deref(), Some(PARENT));
    assert_eq!(event.json()["outcome"], "cancelled");
    env.end().await;
}

#[tokio::test]
async fn whoever_waits_for_a_direct_reply_gets_a_copy_and_no_other_queue_does() {
    let mut env = TestEnv::new().await;
    env.set("worker.inline_wait", "0s");
    let _worker = env.worker().await;
    let channel = env.amqp.channel().await;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let direct = "amq.rabbitmq.reply-to";
    let mut replies = channel.basic_consume(direct.into(), "".into(), options, FieldTable::default()).await.unwrap();
    // The second is parked meanwhile.
    for id in ["cancels-a", "cancels-500ms-a"] {
        let body = request(id, json!({})).to_string();
        let properties = properties().with_reply_to(direct.into()).with_correlation_id("mine".into());
        let (exchange, options) = (env.queue("requests").into(), BasicPublishOptions::default());
        channel
            .basic_publish(exchange, "cancel".into(), options, body.as_bytes(), properties)
            .await
            .unwrap()
            .await
            .unwrap();
        let reply = timeout(PATIENCE, replies.next()).await.expect("no reply").unwrap().unwrap();
        let reply = Event::read(&reply);
        assert_eq!((reply.outcome(), reply.correlation_id()), ("cancelled", "mine"));
        assert_eq!(reply.body, env.event_for(id).await.body);
    }

    let other = env.queue("somebodys");
    env.amqp.declare_queue(&other).await;
    let body = request("cancels-b", json!({})).to_string();
    env.publish(body.as_bytes(), properties().with_reply_to(other.as_str().into())).await;
    env.event_for("cancels-b").await;
    env.request("cancels-c").await;
    env.event_for("cancels-c").await;
    assert_eq!(env.amqp.queue_depth(&other).await, Some(0));
    env.amqp.channel().await.queue_delete(other.into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
    env.end().await;
}

#[tokio::test]
async fn a_requester_that_has_gone_keeps_nobody_from_being_answered() {
    let mut env = TestEnv::new().await;
    let _worker = env.worker().await;
    let body = request("cancels-a", json!({})).to_string();
    let gone = "amq.rabbitmq.reply-to.g1h2AA5yZXBseUA4MjQ4MTIyMQAABnEAAAAAYxfLNw==.zHJkQJZxbVPFJkbF0Ou0eA==";
    env.publish(body.as_bytes(), properties().with_reply_to(gone.into())).await;
    assert_eq!(env.event_for("cancels-a").await.outcome(), "cancelled");
    env.request("cancels-b").await;
    assert_eq!(env.event_for("cancels-b").await.outcome(), "cancelled");
    env.depth_becomes("requests", 0).await;
    env.end().await;
}

#[tokio::test]
async fn a_request_that_failed_is_kept_as_it_came_or_as_it_could_have_come_and_can_be_published_again() {
    let mut env = TestEnv::new().await;
    env.set("worker.inline_wait", "0s");
    let _worker = env.worker().await;
    let name = |id: &str| json!({ "name": operation(id) }).to_string();
    let base = || {
        with_headers(
            properties().with_correlation_id("c-1".into()).with_priority(4),
            &[("traceparent", PARENT), ("own", "x")],
        )
    };
    let fields = json!({ "timeout": "2s", "reason": "r", "context": { "a": 1 } });
    // Its body, properties and identity, whether it is parked before it fails, and what it fails with.
    let cases = [
        (request("denied-a", json!({})).to_string(), base(), "denied-a".to_owned(), false, "permission_denied"),
        (name("denied-b"), base().with_message_id("m-b".into()), "m-b".to_owned(), false, "permission_denied"),
        (request("never-a", fields.clone()).to_string(), base(), "never-a".to_owned(), true, "deadline_exceeded"),
        (
            json!({ "name": operation("never-b"), "timeout": "2s" }).to_string(),
            base().with_message_id("m-d".into()),
            "m-d".to_owned(),
            true,
            "deadline_exceeded",
        ),
        (
            json!({ "name": operation("never-c"), "timeout": "2s" }).to_string(),
            base(),
            operation("never-c"),
            true,
            "deadline_exceeded",
        ),
    ];
    let mut events = 0;
    for (body, properties, identity, parked, reason) in cases {
        env.publish(body.as_bytes(), properties.clone()).await;
        let first = env.event_for(&identity).await;
        assert_eq!(first.verdict(), format!("failed: {reason}"));
        let letter = env.dead_letters(1).await.remove(0);
        let told = |name: &str| header(&letter.properties, name).unwrap_or_default();
        assert_eq!(told("cancel-worker-reason"), "failed");
        let message = first.data()["error"]["message"].as_str().unwrap();
        assert_eq!(told("cancel-worker-detail"), format!("{reason}: {message}"));
        assert_eq!(told("cancel-worker-identity"), identity);
        assert_eq!(told("traceparent"), PARENT);
        assert_eq!(letter.properties.correlation_id(), properties.correlation_id());
        assert_eq!(told("own"), if parked { "" } else { "x" }, "foreign headers of a request that came at once");
        if !parked {
            assert_eq!(letter.data, body.as_bytes());
            assert_eq!(letter.properties.priority(), properties.priority());
            assert_eq!(letter.properties.message_id(), properties.message_id());
        }

        events += 2;
        env.publish(&letter.data, letter.properties.clone()).await;
        let all = env.events(events, PATIENCE).await;
        assert_eq!(all.len(), events, "an event for the message that was published again");
        let (again, first) = (&all[events - 1], &all[events - 2]);
        assert_eq!(again.verdict(), first.verdict());
        // Another answer to the same request, and the one to believe.
        assert_ne!((again.id(), again.request_key()), (first.id(), first.request_key()));
        assert_eq!((&first.data()["replay"], &again.data()["replay"]), (&json!(0), &json!(1)));
        assert_eq!(again.correlation_id(), first.correlation_id());
        for field in ["name", "request_id", "reason", "context"] {
            assert_eq!(again.data()[field], first.data()[field], "{field}");
        }
        let letter = env.dead_letters(1).await.remove(0);
        assert_eq!(header(&letter.properties, "cancel-worker-replay").as_deref(), Some("1"));
    }
    env.end().await;
}

#[tokio::test]
async fn nothing_that_failed_is_kept_where_the_settings_say_so() {
    let mut env = TestEnv::new().await;
    env.set("worker.keep_failed", "false");
    let _worker = env.worker().await;
    env.request("denied-a").await;
    env.request_with("never-a", json!({ "timeout": "1s" })).await;
    assert_eq!(env.event_for("denied-a").await.outcome(), "failed");
    assert_eq!(env.event_for("never-a").await.outcome(), "failed");
    env.depth_becomes("requests", 0).await;
    assert!(env.amqp.drain(&env.queue("dead"), 1, Duration::from_millis(500)).await.is_empty());
    env.end().await;
}
