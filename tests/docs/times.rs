//! The table of times in `src/README.md` has every time-out and interval of the code, and its values.

use std::collections::BTreeSet;
use std::time::Duration;

use cancel_worker::settings;

use crate::markdown::{quoted, read, table, top};
use crate::rust_source::rust_files;
use crate::waits::duration;

/// What a module's constants say: `("worker/in_hand.rs", "CLOSE_DELAY", 200 ms)`. Those of tests and of the simulator aside.
fn constants() -> Vec<(String, String, Duration)> {
    let files = rust_files(&top().join("src"));
    let product = files.iter().filter(|(path, _)| !path.contains("test") && !path.starts_with("simulator/"));
    let mut found = Vec::new();
    for (path, text) in product {
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for line in code.lines() {
            let Some((name, value)) = line.split_once("const ").and_then(|(_, rest)| rest.split_once(": Duration = "))
            else {
                continue;
            };
            found.push((path.clone(), name.to_owned(), constant(value)));
        }
    }
    found
}

/// `Duration::from_secs(30 * 60);`
fn constant(value: &str) -> Duration {
    let (unit, number) = value.trim_start_matches("Duration::from_").trim_end_matches(");").split_once('(').unwrap();
    let number: u64 = number.split(" * ").map(|factor| factor.parse::<u64>().unwrap()).product();
    match unit {
        "secs" => Duration::from_secs(number),
        "millis" => Duration::from_millis(number),
        "hours" => Duration::from_secs(3600 * number),
        other => panic!("from_{other}"),
    }
}

#[test]
fn the_table_of_times_has_every_constant_and_its_value() {
    let rows = table(&read("src/README.md"), "| time |");
    let mut said = BTreeSet::new();
    for row in &rows {
        if let [file, name] = quoted(&row[2])[..] {
            said.insert((file.to_owned(), name.to_owned(), duration(&row[0])));
        }
    }
    assert_eq!(
        said,
        constants().into_iter().collect(),
        "on the left what the table says, on the right what the code does"
    );
}

#[test]
fn the_table_of_times_has_the_defaults_of_settings() {
    let effective = settings::load(&[], &[]).unwrap().effective;
    for row in table(&read("src/README.md"), "| time |") {
        if let [key] = quoted(&row[2])[..] {
            let setting =
                effective.iter().find(|setting| setting.key == key).unwrap_or_else(|| panic!("no setting {key}"));
            let value = setting.value.to_string();
            assert_eq!(duration(value.trim_matches('"')), duration(&row[0]), "{key}");
        }
    }
}
