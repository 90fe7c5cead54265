//! `deploy/contract/README.md`: its examples are golden files, and its tables name every reason, header and field.

use std::collections::BTreeSet;
use std::fs;

use cancel_worker::cancellation::{Outcome, Reason};
use cancel_worker::message::{DeadLetterHeaders, DeadReason};
use serde_json::Value;

use crate::markdown::{blocks, quoted, read, table, top};

const CONTRACT: &str = "deploy/contract/README.md";

#[test]
fn every_example_is_a_golden_file() {
    let mut golden = Vec::new();
    for folder in ["request", "result", "follow_up", "dead_letter"] {
        for file in fs::read_dir(top().join("tests/golden").join(folder)).unwrap() {
            golden.extend(serde_json::from_slice::<Value>(&fs::read(file.unwrap().path()).unwrap()));
        }
    }
    for file in ["README.md", CONTRACT] {
        let text = read(file);
        let examples = blocks(&text, "json");
        assert!(!examples.is_empty(), "{file} shows messages");
        for example in examples {
            let value: Value =
                serde_json::from_str(example).unwrap_or_else(|error| panic!("{file}: {error}: {example}"));
            assert!(golden.contains(&value), "{file}: not a golden file: {example}");
        }
    }
}

/// Made anew from what the table says, as an upstream service would.
#[test]
fn the_request_keys_and_event_ids_are_those_of_their_arrays() {
    const NAMESPACE: uuid::Uuid = uuid::uuid!("fe04dc8f-e4a3-53a9-9615-6681d032a409");
    let id_of = |array: String| uuid::Uuid::new_v5(&NAMESPACE, array.as_bytes()).to_string();
    let rows = table(&read(CONTRACT), "| array | request key |");
    assert_eq!(rows.len(), 3);
    for row in rows {
        let cells: Vec<Vec<&str>> = row.iter().map(|cell| quoted(cell)).collect();
        let (array, key, answer, id) = (cells[0][0], cells[1][0], &cells[2], cells[3][0]);
        assert_eq!(id_of(array.to_owned()), key, "{array}");
        let reason = answer.get(1).map_or("null".to_owned(), |reason| format!("{reason:?}"));
        assert_eq!(id_of(format!("[{key:?},{:?},{reason}]", answer[0])), id, "{array}");
    }
}

#[test]
fn the_table_of_reasons_has_every_reason() {
    let reasons = Reason::ALL.map(Reason::as_str);
    assert_eq!(first_words("| `error.reason` |"), reasons.into());
}

#[test]
fn the_tables_of_dead_letters_have_every_reason_and_every_header() {
    let mut reasons = first_words("| `cancel-worker-reason` | what it is |");
    assert!(reasons.remove(""), "and what has none");
    assert_eq!(reasons, DeadReason::ALL.map(DeadReason::as_str).into());
    use DeadLetterHeaders as Headers;
    let headers = [
        Headers::REASON,
        Headers::DETAIL,
        Headers::TIME,
        Headers::WORKER,
        Headers::IDENTITY,
        Headers::IDENTITY_KIND,
        Headers::REPLAY,
        Headers::USER_ID,
    ];
    assert_eq!(first_words("| header |"), headers.into());
}

#[test]
fn the_table_of_the_events_data_has_every_field_and_every_outcome() {
    let data = |file: &str| {
        let text = read(&format!("tests/golden/result/{file}.structured.body.json"));
        let fields = serde_json::from_str::<Value>(&text).unwrap()["data"].as_object().unwrap().clone();
        fields.keys().cloned().collect::<Vec<String>>()
    };
    let fields: Vec<String> = [data("cancelled"), data("failed")].concat();
    assert_eq!(first_words("| field of `data` |"), fields.iter().map(String::as_str).collect());
    let text = read(CONTRACT);
    let row = text.lines().find(|line| line.starts_with("| `outcome` |")).unwrap();
    assert_eq!(quoted(row)[1..], Outcome::WORDS);
}

#[test]
fn the_table_of_the_request_has_every_field() {
    let text = read("tests/golden/request/published.body.json");
    let fields = serde_json::from_str::<Value>(&text).unwrap().as_object().unwrap().clone();
    assert_eq!(first_words("| field | type |"), fields.keys().map(String::as_str).collect());
}

/// The words in the first column of a table; empty for a cell without one.
fn first_words(header: &str) -> BTreeSet<&'static str> {
    let rows = table(&read(CONTRACT), header);
    let words = rows.iter().flat_map(|row| {
        let words = quoted(&row[0]).into_iter().map(str::to_owned).collect::<Vec<_>>();
        if words.is_empty() { vec![String::new()] } else { words }
    });
    words.map(|word| &*word.leak()).collect()
}
