//! Imports go downwards only, as the table in `src/README.md` says, and each outside library is used where it belongs.
//!
//! The table is read from the documentation itself, so that the map cannot say one thing and the code another.
//! Comments, strings and `#[cfg(test)]` items do not count.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where it fails")]

mod circles;
#[path = "../support/rust_source.rs"]
mod rust_source;
mod tables;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use rust_source::{Token, code_of, rust_files, test_modules, tokens, without_tests};

/// Imports within one row that are allowed all the same.
const WITHIN_A_ROW: &[(&str, &str)] =
    &[("cancellation", "pacing"), ("cancellation", "google_rpc"), ("settings", "telemetry"), ("main", "cli")];

/// Outside libraries, and the paths below `src` that may use them (a folder ends with `/`).
const LIBRARIES: &[(&str, &[&str])] = &[
    ("reqwest", &["operations_api/", "broker/rabbitmq/management/"]),
    ("google_cloud_auth", &["operations_api/auth/"]),
    ("lapin", &["broker/rabbitmq/"]),
    ("async_compat", &["broker/rabbitmq/"]),
    ("axum", &["simulator/", "admin/"]),
    ("backoff", &["pacing/backoff.rs"]),
    ("lru", &["pacing/bounded_map.rs"]),
    ("anyhow", &["cli/", "main.rs"]),
];

#[test]
fn imports_go_downwards_and_libraries_stay_where_they_belong() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layers = Layers::of(&fs::read_to_string(source.join("README.md")).unwrap());
    let violations: Vec<String> = files_without_tests()
        .iter()
        .flat_map(|(path, text)| check(path, text, &layers))
        .map(|violation| violation.to_string())
        .collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

/// The files below `src`, as (path relative to it, text), but for those that only tests use.
fn files_without_tests() -> Vec<(String, String)> {
    let mut files = rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let tests: Vec<String> = files.iter().flat_map(|(path, text)| test_modules(path, &code_of(text))).collect();
    let is_test =
        |path: &str| tests.iter().any(|test| path == format!("{test}.rs") || path.starts_with(&format!("{test}/")));
    files.retain(|(path, _)| !is_test(path));
    files
}

/// The layer of each top module, 1 at the bottom.
struct Layers(BTreeMap<String, u32>);

impl Layers {
    /// Reads the table's rows, ``| 4 | `broker`, … | …``, of the crate's documentation.
    fn of(readme: &str) -> Self {
        let mut layers = BTreeMap::new();
        for line in readme.lines() {
            let Some(row) = line.strip_prefix("| ") else { continue };
            let mut cells = row.split(" | ");
            let Some(Ok(layer)) = cells.next().map(str::parse) else { continue };
            for module in cells.next().unwrap_or_default().split('`').skip(1).step_by(2) {
                layers.insert(module.to_owned(), layer);
            }
        }
        assert!(!layers.is_empty(), "src/README.md: found no table of layers");
        Self(layers)
    }
}

struct Violation {
    path: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "src/{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// Checks one file; `path` is relative to `src`.
fn check(path: &str, text: &str, layers: &Layers) -> Vec<Violation> {
    let tokens = tokens(&without_tests(&code_of(text)));
    let mut found = libraries_out_of_place(path, &tokens);
    if path != "lib.rs" {
        found.extend(imports_upwards(path, &tokens, layers));
    }
    found.into_iter().map(|(line, rule)| Violation { path: path.to_owned(), line, rule }).collect()
}

/// The top module that a file belongs to.
fn top_module(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

fn imports_upwards(path: &str, tokens: &[Token], layers: &Layers) -> Vec<(usize, String)> {
    let from = top_module(path);
    let Some(&own_layer) = layers.0.get(from) else {
        return vec![(1, format!("`{from}` is missing in the layer table of src/README.md"))];
    };
    let mut found = Vec::new();
    for (line, to) in imports(path, tokens) {
        match layers.0.get(&to) {
            _ if to == from || WITHIN_A_ROW.contains(&(from, to.as_str())) => {}
            None => found.push((
                line,
                format!("imports `{to}` of the crate's root: only the modules of the layer table are imported"),
            )),
            Some(&layer) if layer >= own_layer => found.push((
                line,
                format!("`{from}` (layer {own_layer}) imports `{to}` (layer {layer}): imports go downwards only"),
            )),
            Some(_) => {}
        }
    }
    found
}

/// What follows each `crate::`, `cancel_worker::` and each row of `super::` that leaves the top module.
fn imports(path: &str, tokens: &[Token]) -> Vec<(usize, String)> {
    // `super` in src/broker/mod.rs is the crate's root, and so is `super::super` in src/broker/port.rs.
    let depth = path.split('/').count() - usize::from(path.ends_with("/mod.rs"));
    let mut found = Vec::new();
    let mut supers = 0;
    for (at, token) in tokens.iter().enumerate() {
        let path_goes_on = tokens.get(at + 1).is_some_and(|next| next.text == "::");
        match token.text.as_str() {
            "super" if path_goes_on => supers += 1,
            "::" => continue,
            _ => supers = 0,
        }
        let root = match token.text.as_str() {
            "crate" | "cancel_worker" => path_goes_on,
            "super" => supers == depth && tokens.get(at + 2).is_some_and(|next| next.text != "super"),
            _ => false,
        };
        if root {
            found.extend(first_segments(&tokens[at + 2..]));
        }
    }
    found
}

/// The first segment of a path, or those of each path of a group: `broker` and `pacing` of `{broker::Session, pacing}`.
fn first_segments(tokens: &[Token]) -> Vec<(usize, String)> {
    if tokens.first().is_some_and(|token| token.text != "{") {
        return vec![(tokens[0].line, tokens[0].text.clone())];
    }
    let mut found = Vec::new();
    let mut depth = 0_u32;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," => {}
            // A path begins after the group's bracket and after its commas.
            _ if depth == 1 && matches!(tokens[at - 1].text.as_str(), "{" | ",") => {
                found.push((token.line, token.text.clone()))
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

fn libraries_out_of_place(path: &str, tokens: &[Token]) -> Vec<(usize, String)> {
    let text = |at: Option<usize>| at.and_then(|at| tokens.get(at)).map_or("", |token| token.text.as_str());
    let mut found = Vec::new();
    for (library, places) in LIBRARIES {
        if places.iter().any(|place| path == *place || (place.ends_with('/') && path.starts_with(place))) {
            continue;
        }
        // A module of the same name (`pacing::backoff`) hides the library where it is declared.
        let hidden = tokens.windows(2).any(|pair| pair[0].text == "mod" && pair[1].text == *library);
        for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == *library) {
            let (before, after) = (text(at.checked_sub(1)), text(Some(at + 1)));
            let is_a_path = matches!(before, "use" | "crate") || after == "::" || after == "!";
            let inside_another_path =
                before == "::" && !matches!(text(at.checked_sub(2)), "use" | "{" | "," | "(" | "");
            if is_a_path && !inside_another_path && !(hidden && before != "::") {
                found.push((token.line, format!("uses `{library}`, which only src/{} may", places.join(" and src/"))));
            }
        }
    }
    found
}

#[test]
fn one_tls_stack_and_one_crypto_provider_are_in_the_binary() {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    let options = ["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(options).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let crates: std::collections::BTreeSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, rest)| (name, rest.trim_end_matches(" (*)")))
        .collect();
    let versions = |name: &str| crates.iter().filter(|(found, _)| *found == name).count();
    for only in ["rustls", "aws-lc-rs", "rustls-platform-verifier"] {
        assert_eq!(versions(only), 1, "versions of {only}");
    }
    for other in
        ["ring", "native-tls", "openssl", "openssl-sys", "boring", "mbedtls", "webpki-roots", "aws-lc-fips-sys"]
    {
        assert_eq!(versions(other), 0, "{other} is in the binary");
    }
}

// --- The check of the check ---

/// The rules broken by a made-up file, as "line: rule".
fn broken(path: &str, text: &str) -> Vec<String> {
    let table = "\
| layer | modules | what |
|---|---|---|
| 6 | `main`, `cli` | the commands |
| 5 | `worker` | it |
| 4 | `operations_api`, `broker` | `reqwest` |
| 2 | `message` | what is read |
| 1 | `cancellation`, `pacing` | decisions |
";
    check(path, text, &Layers::of(table))
        .iter()
        .map(|violation| format!("{}: {}", violation.line, violation.rule))
        .collect()
}

#[test]
fn an_import_upwards_is_caught_with_its_line() {
    let text = "//! A file.\n\nuse crate::worker::Worker;\n";
    assert_eq!(
        broken("broker/session.rs", text),
        ["3: `broker` (layer 4) imports `worker` (layer 5): imports go downwards only"]
    );
    let message =
        check("broker/session.rs", text, &Layers::of("| 4 | `broker` | |\n| 5 | `worker` | |"))[0].to_string();
    assert!(message.starts_with("src/broker/session.rs:3: "), "{message}");
}

#[test]
fn an_import_within_a_row_is_caught_except_of_pacing_by_cancellation() {
    assert_eq!(broken("broker/mod.rs", "use crate::operations_api::Client;").len(), 1);
    assert_eq!(broken("pacing/mod.rs", "use crate::cancellation::Policy;").len(), 1);
    assert_eq!(broken("cancellation/machine.rs", "use crate::pacing::Backoff;"), [""; 0]);
    assert_eq!(broken("main.rs", "fn main() { cancel_worker::cli::run() }"), [""; 0]);
}

#[test]
fn imports_downwards_and_of_the_own_module_are_allowed() {
    let text = "use crate::{cancellation::{Policy, Step}, message};\npub(crate) fn f(_: crate::worker::Worker) {}";
    assert_eq!(broken("worker/handle.rs", text), [""; 0]);
}

#[test]
fn every_path_of_a_group_is_seen_and_so_are_paths_in_expressions() {
    let text = "use crate::{\n    message::{Envelope, Outgoing},\n    worker::Worker,\n};\nfn f() {\n    crate::cli::run();\n}";
    let found = broken("broker/mod.rs", text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("3: ") && found[0].contains("`worker`"), "{found:?}");
    assert!(found[1].starts_with("6: ") && found[1].contains("`cli`"), "{found:?}");
}

#[test]
fn super_is_followed_out_of_the_top_module() {
    assert_eq!(broken("broker/mod.rs", "use super::worker::Worker;").len(), 1);
    assert_eq!(broken("broker/topology.rs", "use super::super::worker::Worker;").len(), 1);
    assert_eq!(broken("broker/queue/arguments.rs", "use super::super::super::{message::Envelope, worker};").len(), 1);
    assert_eq!(broken("broker/topology.rs", "use super::worker::Worker;"), [""; 0]);
}

#[test]
fn the_crates_root_and_unknown_modules_are_no_way_around() {
    assert_eq!(broken("broker/mod.rs", "use crate::*;").len(), 1);
    assert_eq!(broken("broker/mod.rs", "use crate::Worker;").len(), 1);
    assert_eq!(broken("helpers.rs", ""), ["1: `helpers` is missing in the layer table of src/README.md"]);
}

#[test]
fn tests_comments_and_strings_do_not_count() {
    let text = r##"
// use crate::worker::A;
/* use crate::worker::B; /* nested */ use lapin::C; */
/// [`crate::worker::D`]
const TEXT: &str = "use crate::worker::E; \" // ";
const RAW: &[u8] = br#"" use crate::worker::F; "#;
const QUOTE: (char, char) = ('"', '\'');
#[cfg(test)]
fn helper() -> [u8; 2] { crate::worker::g() }
#[cfg(test)]
mod tests {
    use crate::worker::H;
    fn inner() { reqwest::get() }
}
fn last<'a>(_: &'a str) { crate::cli::run() }
"##;
    let found = broken("message/envelope.rs", text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("15: "), "{found:?}");
    assert_eq!(test_modules("broker/mod.rs", "mod a;\n#[cfg(test)]\npub(crate) mod tests;"), ["broker/tests"]);
}

#[test]
fn a_library_out_of_its_place_is_caught() {
    assert_eq!(
        broken("worker/mod.rs", "fn f(_: lapin::Channel) {}"),
        ["1: uses `lapin`, which only src/broker/rabbitmq/ may"]
    );
    assert_eq!(broken("broker/port.rs", "use lapin::Channel;").len(), 1);
    assert_eq!(broken("broker/mod.rs", "use reqwest::Client;").len(), 1);
    assert_eq!(broken("broker/mod.rs", "fn f() -> anyhow::Result<()> { anyhow!(\"no\") }").len(), 2);
    assert_eq!(broken("broker/mod.rs", "use ::{axum::Router, std::fmt};").len(), 1);
    assert_eq!(broken("broker/rabbitmq/session.rs", "use lapin::Channel;"), [""; 0]);
    assert_eq!(broken("main.rs", "fn main() -> anyhow::Result<()> {}"), [""; 0]);
}

#[test]
fn the_backoff_library_is_told_from_the_module_of_that_name() {
    assert_eq!(broken("pacing/backoff.rs", "use backoff::ExponentialBackoff;"), [""; 0]);
    assert_eq!(broken("pacing/mod.rs", "mod backoff;\npub use backoff::Backoff;"), [""; 0]);
    assert_eq!(broken("worker/mod.rs", "fn f(backoff: crate::pacing::backoff::Backoff) { backoff.next() }"), [""; 0]);
    assert_eq!(broken("worker/mod.rs", "use backoff::ExponentialBackoff;").len(), 1);
    assert_eq!(broken("pacing/mod.rs", "mod backoff;\nuse ::backoff::ExponentialBackoff;").len(), 1);
}
