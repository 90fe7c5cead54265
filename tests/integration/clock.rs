//! A machine whose clock is wrong: deadlines go by the API's.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use cancel_worker::worker::now;
use serde_json::json;
use time::format_description::well_known::Rfc3339;

use crate::support::{Act, RawServer, Request};
use crate::test_env::TestEnv;

/// So much later than the API's is this machine's time.
const AHEAD: Duration = Duration::from_secs(600);

/// An API at which it is ten minutes earlier. An operation is done some gets after its cancel.
async fn api() -> RawServer {
    let gets: Mutex<BTreeMap<String, u32>> = Mutex::default();
    RawServer::start(move |request: &Request| {
        let date = httpdate::fmt_http_date((now() - AHEAD).into());
        let id = request.target.rsplit_once('/').unwrap().1;
        let body = if request.method == "POST" {
            json!({})
        } else {
            let mut gets = gets.lock().unwrap();
            let gets = gets.entry(id.to_owned()).or_default();
            *gets += 1;
            let name = format!("projects/p/locations/global/operations/{id}");
            match *gets {
                1..=2 => json!({ "name": name }),
                _ => json!({ "name": name, "done": true, "error": { "code": 1, "message": "cancelled" } }),
            }
        };
        Act::json(&format!("200 OK\r\ndate: {date}"), &body.to_string())
    })
    .await
}

#[tokio::test]
async fn a_machine_whose_clock_is_ahead_answers_by_the_time_of_the_api_and_says_so_once() {
    let (mut env, api) = (TestEnv::new().await, api().await);
    env.set("api.endpoint", &api.url());
    let worker = env.worker().await;
    let passed = (now() - AHEAD / 2).format(&Rfc3339).unwrap();
    for number in 0..3 {
        env.request_with(&format!("at-{number}"), json!({ "deadline": passed })).await;
        env.request_with(&format!("in-{number}"), json!({ "timeout": "30s" })).await;
    }
    for number in 0..3 {
        for id in [format!("at-{number}"), format!("in-{number}")] {
            let event = env.event_for(&id).await;
            assert_eq!(event.data()["outcome"], "cancelled", "{event:?}");
        }
    }
    let line = worker.line_with("this machine's clock", Duration::from_secs(1)).await;
    assert!(line.contains("s ahead of the API's") && line.contains("WARN"), "{line}");
    let lines = worker.lines().into_iter().filter(|line| line.contains("this machine's clock")).count();
    assert_eq!(lines, 1);
}
