//! The files `config/*.toml` against what Google publishes about these services (`tests/data/discovery.json`).

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::select;
use serde::Deserialize;

use crate::message::OperationName;
use crate::operations_api::classify::Call;
use crate::operations_api::endpoints::Endpoints;
use crate::settings::{self, CancelBody};

/// Each discovery document and the settings that serve it; without a file, the defaults.
const PROFILES: [(&str, Option<&str>); 6] = [
    ("dialogflow.v2beta1", None),
    ("dialogflow.v2", Some("dialogflow-v2.toml")),
    ("dialogflow.v3", Some("dialogflow-v3.toml")),
    ("aiplatform.v1", Some("vertex-ai.toml")),
    ("documentai.v1", Some("document-ai.toml")),
    ("cloudbuild.v1", Some("cloud-build.toml")),
];

#[derive(Deserialize)]
struct Discovery {
    apis: BTreeMap<String, Document>,
}

#[derive(Deserialize)]
struct Document {
    root_url: String,
    mtls_root_url: String,
    endpoints: BTreeMap<String, String>,
    cancel: Method,
    get: Method,
}

#[derive(Deserialize)]
struct Method {
    verb: String,
    path: String,
    body: Option<Body>,
    patterns: Vec<String>,
}

#[derive(Deserialize)]
struct Body {
    properties: Vec<String>,
}

fn documents() -> BTreeMap<String, Document> {
    let json = include_str!("../../../tests/data/discovery.json");
    serde_json::from_str::<Discovery>(json).expect("discovery.json").apis
}

fn profile(file: Option<&str>) -> settings::Api {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let files: Vec<_> = file.map(|file| folder.join(file)).into_iter().collect();
    settings::load(&files, &[]).expect("valid settings").settings.api
}

fn each() -> impl Iterator<Item = (&'static str, Document, settings::Api)> {
    let mut documents = documents();
    PROFILES.into_iter().map(move |(api, file)| (api, documents.remove(api).expect("in the data"), profile(file)))
}

/// Whether a pattern of a discovery document matches, of which only `^`, `$`, `[^/]+` and `.*` are more than letters.
fn matches(pattern: &str, text: &str) -> bool {
    let inner = pattern.strip_prefix('^').and_then(|inner| inner.strip_suffix('$')).expect("anchored");
    inner_matches(inner, text)
}

fn inner_matches(pattern: &str, text: &str) -> bool {
    let repeated = |least: usize, admits: fn(char) -> bool, then: &str| {
        let most = text.chars().take_while(|c| admits(*c)).count();
        // What follows a segment is a `/` or the end: nothing shorter than the longest can match.
        let least = if then.is_empty() || then.starts_with('/') { most.max(least) } else { least };
        let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]).take(most + 1).skip(least);
        ends.any(|end| inner_matches(then, &text[end..]))
    };
    if let Some(then) = pattern.strip_prefix("[^/]+") {
        return repeated(1, |c| c != '/', then);
    }
    if let Some(then) = pattern.strip_prefix(".*") {
        return repeated(0, |c| c != '\n', then);
    }
    let Some(letter) = pattern.chars().next() else { return text.is_empty() };
    assert!(letter.is_ascii_alphabetic() || letter == '/', "a pattern of a new kind: {pattern}");
    text.strip_prefix(letter).is_some_and(|text| inner_matches(&pattern[1..], text))
}

/// What a name must not be in any case.
fn unsafe_name(text: &str) -> bool {
    text.len() > 1024
        || text.chars().any(char::is_control)
        || text.split('/').any(|segment| matches!(segment, "" | "." | ".."))
}

/// A name of some document's pattern, and what a careless or hostile hand makes of it.
fn any_name() -> impl Strategy<Value = String> {
    let patterns: Vec<String> = documents()
        .into_values()
        .flat_map(|document| [document.cancel.patterns, document.get.patterns].concat())
        .collect();
    let segment = prop_oneof![
        8 => "[A-Za-z0-9_-]{1,12}",
        2 => "[^/\\pC]{1,12}",
        1 => select(vec!["", ".", "..", "a\nb", "*", "**", "operations", "locations", "a%2Fb", "o:cancel", "a/b", "a/b/c"])
            .prop_map(str::to_owned),
    ];
    let segments = proptest::collection::vec(segment, 8);
    (select(patterns), segments, 0_usize..12, 0_usize..8).prop_map(|(pattern, with, change, at)| {
        let mut fill = with.iter().cycle().cloned();
        let inner = pattern.trim_matches(['^', '$']).replace("[^/]+", "\u{1}").replace(".*", "\u{1}");
        let mut name: Vec<String> =
            inner.split('\u{1}').flat_map(|words| [words.to_owned(), fill.next().unwrap_or_default()]).collect();
        name.truncate(name.len() - if inner.ends_with('\u{1}') { 1 } else { 0 });
        let name = name.concat();
        let mut name: Vec<&str> = name.split('/').collect();
        let at = at % name.len();
        match change {
            0 => drop(name.remove(at)),
            1 => name.insert(at, &with[0]),
            2 => name[at] = &with[1],
            3 => name.push(&with[2]),
            4 => name.insert(0, ""),
            _ => {}
        }
        name.join("/")
    })
}

#[test]
fn the_matcher_of_patterns_matches_as_expressions_do() {
    let models = "^projects/[^/]+/locations/[^/]+/models/[^/]+/operations/[^/]+$";
    assert!(matches(models, "projects/p/locations/l/models/m/operations/o"));
    for name in ["projects/p/locations/l/operations/o", "projects//locations/l/models/m/operations/o", "x"] {
        assert!(!matches(models, name), "{name}");
    }
    assert!(!matches(models, "projects/p/locations/l/models/m/operations/o/x"));
    assert!(matches("^operations/.*$", "operations/"));
    assert!(matches("^operations/.*$", "operations/a/b"));
    assert!(!matches("^operations/.*$", "operations"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_profile_admits_exactly_the_safe_names_that_can_be_cancelled(texts in proptest::collection::vec(any_name(), 20)) {
        thread_local! {
            static EACH: Vec<(&'static str, Document, settings::Api)> = each().collect();
        }
        EACH.with(|each| {
            for (api, document, settings) in each {
                for text in &texts {
                    let published = document.cancel.patterns.iter().any(|pattern| matches(pattern, text));
                    let admitted = settings.names.parse(text).is_ok();
                    prop_assert_eq!(admitted, published && !unsafe_name(text), "{}: {:?}", api, text);
                }
            }
            Ok(())
        })?;
    }
}

#[test]
fn what_can_be_cancelled_can_be_got_with_the_same_name() {
    for (api, document, _) in each() {
        for pattern in &document.cancel.patterns {
            assert!(document.get.patterns.contains(pattern), "{api}: {pattern}");
        }
    }
}

/// A URL as a document's template says, for a name that needs no encoding.
fn published(root: &str, method: &Method, name: &str) -> String {
    format!("{root}{}", method.path.replace("{+name}", name))
}

#[test]
fn each_profile_calls_the_published_urls() {
    for (api, document, settings) in each() {
        let endpoints = Endpoints::new(&settings).expect("endpoints");
        let names = document.cancel.patterns.iter().map(|p| p.trim_matches(['^', '$']).replace(".*", "build/p/b64"));
        for pattern in names {
            // Where there is no location, and for `global`: the root.
            let global = pattern.replace("locations/[^/]+", "locations/global").replace("[^/]+", "x-1");
            let mut roots = vec![(global, &document.root_url)];
            if pattern.contains("/locations/") {
                roots.extend(document.endpoints.iter().map(|(location, root)| {
                    (pattern.replace("locations/[^/]+", &format!("locations/{location}")).replace("[^/]+", "x-1"), root)
                }));
            }
            for (name, root) in roots {
                let operation = OperationName::parse(name.as_str()).expect("a name");
                let url = |call| endpoints.target(call, &operation).expect("admitted").url.to_string();
                assert_eq!(url(Call::Cancel), published(root, &document.cancel, &name), "{api}");
                assert_eq!(url(Call::Get), published(root, &document.get, &name), "{api}");
            }
        }
    }
}

#[test]
fn each_profile_sends_the_published_body_by_the_published_verb() {
    for (api, document, settings) in each() {
        let expected = match &document.cancel.body {
            None => CancelBody::None,
            Some(body) => {
                assert!(body.properties.is_empty(), "{api}: {:?}", body.properties);
                CancelBody::EmptyObject
            }
        };
        assert_eq!(settings.cancel_body, expected, "{api}");
        assert_eq!((document.cancel.verb.as_str(), document.get.verb.as_str()), ("POST", "GET"));
        assert!(document.get.body.is_none());
    }
}

#[test]
fn with_mtls_each_profile_calls_the_published_root_for_it() {
    for (api, document, mut settings) in each() {
        settings.mtls = true;
        let endpoints = Endpoints::new(&settings).expect("endpoints");
        let name = settings.names.sample_name(Some("global"), "w").expect("a name");
        let url = endpoints.target(Call::Get, &name).expect("admitted").url.to_string();
        assert_eq!(url, published(&document.mtls_root_url, &document.get, name.as_str()), "{api}");
    }
}
