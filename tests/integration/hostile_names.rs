//! Names made to escape: through the real broker and the real worker, to a server that notes every byte of every
//! request line. Nothing but `/{version}/{valid name}[:cancel]` may ever be asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;
use futures_util::StreamExt;
use serde_json::json;

use crate::event::Event;
use crate::support::{Act, RawServer, Request};
use crate::test_env::{TestEnv, properties};

/// Of the generator: every run publishes the same names.
const SEED: u64 = 0x0ca1_1ab1_e5ca_11ed;

const NAMES: usize = 10_000;

/// For all names of a test.
const LIMIT: Duration = Duration::from_secs(180);

const CANCELLED: &str = r#"{"done":true,"error":{"code":1}}"#;

/// Pieces that some URL parser, proxy, router or log reader treats as more than text.
#[rustfmt::skip] // Each on a line of its own would be a page.
const PIECES: &[&str] = &[
    ".", "..", "...", "%2e", "%2E%2e", ".%2e", "%252e%252e", "/", "//", "\\", "..\\", "%2f", "%2F", "%5c", "%252f",
    ":", ":cancel", ":delete", "%3Acancel", ":cancel/", "?", "?a=b", "?alt=media", "#", "#frag", "@", "user:secret@",
    "@evil.example", ";", ";a=b", "&", "=", "+", " ", "\t", "\r", "\n", "\r\n", "\r\nHost: evil.example",
    "\r\n\r\nGET /evil HTTP/1.1\r\n\r\n", "%0d%0a", "%0D%0AHost:%20evil", "\0", "%00", "\u{1}", "\u{1f}", "\u{7f}",
    "\u{80}", "\u{85}", "\u{9f}", "\u{2028}", "\u{2029}", "\u{200b}", "\u{200e}", "\u{202e}", "\u{feff}", "\u{ff0f}",
    "\u{2215}", "\u{2044}", "\u{29f8}", "\u{ff0e}", "\u{2024}", "\u{fe52}", "\u{ff1a}", "\u{ff1f}", "\u{ff03}",
    "\u{ff20}", "\u{ff05}", "\u{2100}", "\u{338}", "e\u{301}", "é", "ß", "İ", "\u{1f4a3}", "\u{10ffff}", "\u{fffd}",
    "~", "-", "_", "*", "**", "{", "}", "{name}", "{location}", "$", "!", "'", "\"", "(", ")", "<script>", "[", "]",
    "[::1]", "|", "^", "`", ",", "%", "%%", "%zz", "%u002e", "%c0%ae", "%c0%af", "%e0%80%af", "http:",
    "http://evil.example", "https://evil.example/", "//evil.example", "file:///etc/passwd", "127.0.0.1",
    "evil.example", "localhost", "evil.example:443", "xn--evil", "projects", "locations", "operations", "v1",
    "v2beta1", "admin", "o", "a1", "us-central1", "global", "europe-west3", "US-CENTRAL1", "us-central1.",
    "us-central1-", "-us-central1", "us_central1", "us-central1.evil.example", "us-central1/../../x",
    "us-central1%2f", "us-central1@evil.example", "us-central1#", "us-central1?", "us-central1:80", "ｕs-central1",
];

#[tokio::test]
async fn ten_thousand_hostile_names_reach_nothing_but_the_operations_they_name() {
    let attack = Attack::run(|address| (format!("http://{address}"), String::new())).await;
    for request in &attack.requests {
        assert_eq!(request.header("host"), Some(attack.address.as_str()), "{request:?}");
    }
    let expected = attack.valid.clone();
    attack.check(|request| request.target.as_str(), &expected);
}

/// With the location in the endpoint's host name, seen by a proxy, which is told the whole URL.
#[tokio::test]
async fn ten_thousand_hostile_locations_reach_no_host_but_those_of_regions() {
    let attack =
        Attack::run(|address| ("http://{location}.operations.example".to_owned(), format!("http://{address}"))).await;
    let host = |name: &str| format!("http://{}.operations.example", location(name).unwrap_or("global"));
    let expected: BTreeSet<String> =
        attack.valid.iter().filter(|name| is_region(location(name).unwrap_or("global"))).cloned().collect();
    assert!(expected.len() > 500 && expected.len() < attack.valid.len(), "{} regions", expected.len());
    let hosts: BTreeSet<String> = expected.iter().map(|name| host(name)).collect();
    for request in &attack.requests {
        let host = hosts.iter().find(|host| request.target.starts_with(&format!("{host}/"))).expect("a foreign host");
        let name = named(request.method.as_str(), &request.target[host.len()..]);
        assert_eq!(*host, format!("http://{}.operations.example", location(&name).unwrap_or("global")));
        assert_eq!(request.header("host"), host.strip_prefix("http://"));
    }
    attack.check(|request| &request.target[request.target.find("/v2beta1").unwrap()..], &expected);
}

/// What was published, and what the endpoint saw of it.
struct Attack {
    address: String,
    requests: Vec<Request>,
    /// The published names; the request's id is the place here.
    names: Vec<String>,
    /// Those of them that are names.
    valid: BTreeSet<String>,
    events: Vec<Event>,
}

impl Attack {
    /// Publishes all names to a worker with the endpoint and the proxy that are made of the server's address, and waits
    /// for as many events.
    async fn run(endpoint_and_proxy: impl Fn(&str) -> (String, String)) -> Self {
        let server = RawServer::start(|request| match request.method.as_str() {
            "POST" => Act::json("200 OK", "{}"),
            _ => Act::json("200 OK", CANCELLED),
        })
        .await;
        let address = server.address().to_string();
        let (endpoint, proxy) = endpoint_and_proxy(&address);
        let mut env = TestEnv::new().await;
        env.set("api.endpoint", &endpoint);
        // The endpoint is no loopback address, and there are no credentials here.
        env.set("api.credentials.kind", "none");
        env.set_variable("http_proxy", &proxy);
        let worker = env.worker().await;
        let names = names();
        publish(&env, &names).await;
        let events = env.events(names.len(), LIMIT).await;
        assert_eq!(events.len(), names.len(), "requests without an answer");
        drop(worker);
        env.end().await;
        let valid = names.iter().filter(|name| is_name(name)).cloned().collect();
        Self { address, requests: server.requests(), names, valid, events }
    }

    /// `expected` were called, each was cancelled, and nothing else was asked for; every request has its answer.
    fn check<'a>(&'a self, path: impl Fn(&'a Request) -> &'a str, expected: &BTreeSet<String>) {
        let mut cancelled = BTreeSet::new();
        for request in &self.requests {
            let name = named(&request.method, path(request));
            assert!(expected.contains(&name), "{name:?} was called by {request:?}");
            assert!(["0", ""].contains(&request.header("content-length").unwrap_or("")), "{request:?}");
            assert_eq!(request.header("transfer-encoding"), None);
            if request.method == "POST" {
                cancelled.insert(name);
            }
        }
        assert_eq!(cancelled, *expected, "not every valid name was cancelled");
        let mut answered = BTreeSet::new();
        for event in &self.events {
            let number: usize = event.data()["request_id"].as_str().unwrap().parse().unwrap();
            let name = &self.names[number];
            let right = match (is_name(name), expected.contains(name)) {
                (false, _) => "failed: unusable_request",
                (true, true) => "cancelled",
                (true, false) => "failed: bad_endpoint",
            };
            assert_eq!(event.verdict(), right, "{name:?}: {}", event.data());
            answered.insert(number);
        }
        assert_eq!(answered.len(), self.names.len(), "requests without an answer");
    }
}

/// The name that a request is about. Panics if the path could mean anything else.
fn named(method: &str, path: &str) -> String {
    let path = path.strip_prefix("/v2beta1/").unwrap_or_else(|| panic!("{path:?}"));
    let path = match method {
        "POST" => path.strip_suffix(":cancel").unwrap_or_else(|| panic!("{path:?}")),
        "GET" => path,
        _ => panic!("{method} {path:?}"),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/%".contains(&byte);
    assert!(path.bytes().all(plain), "{path:?} has characters that are not encoded");
    assert!(path.split('/').all(|segment| !["", ".", ".."].contains(&segment)), "{path:?}");
    percent_encoding::percent_decode_str(path).decode_utf8().unwrap().into_owned()
}

/// The rule of names, said once more and in other words than the worker's.
fn is_name(name: &str) -> bool {
    let segments: Vec<&str> = name.split('/').collect();
    let form = match segments.len() {
        6 => segments[0] == "projects" && segments[2] == "locations" && segments[4] == "operations",
        4 => segments[0] == "projects" && segments[2] == "operations",
        _ => false,
    };
    let plain = !segments.iter().any(|segment| ["", ".", ".."].contains(segment));
    form && plain && name.len() <= 1024 && !name.chars().any(char::is_control)
}

fn location(name: &str) -> Option<&str> {
    let segments: Vec<&str> = name.split('/').collect();
    (segments.len() == 6).then(|| segments[3])
}

/// `us`, `us-central1`.
fn is_region(location: &str) -> bool {
    let (area, place) = location.split_once('-').map_or((location, None), |(area, place)| (area, Some(place)));
    let letters = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase());
    letters(area)
        && place.is_none_or(|place| {
            let point = place.trim_end_matches(|letter: char| letter.is_ascii_digit());
            letters(point) && point != place
        })
}

/// Each name in a request of its own, whose id is the name's place.
async fn publish(env: &TestEnv, names: &[String]) {
    let bodies: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(number, name)| json!({ "name": name, "request_id": number.to_string() }).to_string())
        .collect();
    let publishing = bodies.iter().map(|body| env.publish(body.as_bytes(), properties()));
    futures_util::stream::iter(publishing).buffer_unordered(256).collect::<Vec<()>>().await;
}

/// The same names in every run.
fn names() -> Vec<String> {
    let mut rng = Rng::with_seed(SEED);
    let names: Vec<String> = (0..NAMES).map(|_| name(&mut rng)).collect();
    let valid = names.iter().filter(|name| is_name(name)).count();
    // Both kinds, many of each: the valid ones are as hostile as a name may be.
    assert!((3000..8000).contains(&valid), "{valid} of {NAMES} names are valid");
    names
}

fn name(rng: &mut Rng) -> String {
    let form = match rng.u8(..10) {
        0..6 => "projects/*/locations/*/operations/*",
        6..8 => "projects/*/operations/*",
        _ => "",
    };
    if form.is_empty() {
        return misshapen(rng);
    }
    let mut name = String::new();
    let hostile = rng.usize(..form.matches('*').count());
    for (place, text) in form.split('*').enumerate() {
        name.push_str(text);
        if text.is_empty() && place > 0 {
            break;
        }
        let regional = text.ends_with("locations/") && rng.bool();
        match () {
            () if place == hostile => name.push_str(&segment(rng)),
            () if regional => name.push_str(["us-central1", "europe-west3", "global"][rng.usize(..3)]),
            () => name.push_str(&format!("p{}", rng.u16(..))),
        }
    }
    name
}

/// One to four pieces; now and then very many.
fn segment(rng: &mut Rng) -> String {
    let pieces = if rng.u8(..50) == 0 { rng.usize(100..700) } else { rng.usize(1..4) };
    (0..pieces).map(|_| PIECES[rng.usize(..PIECES.len())]).collect()
}

/// Not of the form, or only just.
fn misshapen(rng: &mut Rng) -> String {
    let valid = "projects/p/locations/us-central1/operations/o";
    match rng.u8(..7) {
        0 => segment(rng),
        1 => format!("{}{valid}", segment(rng)),
        2 => format!("{valid}/{}", segment(rng)),
        3 => format!("/{valid}"),
        4 => valid.replacen('/', PIECES[rng.usize(..PIECES.len())], rng.usize(1..3)),
        5 => valid.to_uppercase(),
        _ => format!("projects/{}/operations/o", "x".repeat(rng.usize(950..1100))),
    }
}
