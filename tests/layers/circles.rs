//! No file imports, however indirectly, a file that imports it: so each can be read after those that it stands on.
//!
//! A name that a `mod.rs` re-exports counts as one of the file that it comes from.

use std::collections::{BTreeMap, BTreeSet};

use crate::files_without_tests;
use crate::rust_source::{Token, code_of, tokens, without_tests};

#[test]
fn there_is_no_circle_of_files() {
    let circles = circles(&files_without_tests());
    assert!(circles.is_empty(), "files that import each other:\n{}", circles.join("\n"));
}

/// Such as `broker`, `rabbitmq`, `topology`; empty for the crate's root.
type ModulePath = Vec<String>;

/// What each module names with `use`, and what it re-exports.
struct Module {
    file: String,
    /// Every path that the code names, from the crate's root.
    paths: Vec<ModulePath>,
    /// The paths that stand in a `pub use`, by the name that they give.
    exports: BTreeMap<String, ModulePath>,
}

/// A line for each set of files that import each other, with the imports.
fn circles(files: &[(String, String)]) -> Vec<String> {
    let modules: BTreeMap<ModulePath, Module> =
        files.iter().filter(|(file, _)| file != "main.rs").map(|(file, text)| read_module(file, text)).collect();
    let imports: BTreeMap<&str, BTreeSet<&str>> = modules
        .values()
        .map(|module| {
            let targets = module.paths.iter().filter_map(|path| defining_file(path, &modules, 0));
            (module.file.as_str(), targets.filter(|file| *file != module.file).collect())
        })
        .collect();
    let reachable: BTreeMap<&str, BTreeSet<&str>> = imports.keys().map(|file| (*file, reach(file, &imports))).collect();
    let mut circles = BTreeSet::new();
    for (file, targets) in &reachable {
        if targets.contains(file) {
            let circle: BTreeSet<&str> = targets
                .iter()
                .copied()
                .filter(|other| reachable.get(other).is_some_and(|back| back.contains(file)))
                .collect();
            let within = circle.iter().map(|from| {
                let to: Vec<&str> = imports[from].iter().copied().filter(|to| circle.contains(to)).collect();
                format!("  {from} imports {}", to.join(", "))
            });
            circles.insert(within.collect::<Vec<_>>().join("\n"));
        }
    }
    circles.into_iter().collect()
}

/// Every file that this one imports, however indirectly.
fn reach<'a>(file: &'a str, imports: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open = vec![file];
    while let Some(next) = open.pop() {
        for target in imports.get(next).into_iter().flatten() {
            if seen.insert(*target) {
                open.push(target);
            }
        }
    }
    seen
}

/// The file that defines what a path names. `None` for a folder as a whole, and for what is not of this crate.
fn defining_file<'a>(path: &[String], modules: &'a BTreeMap<ModulePath, Module>, depth: u32) -> Option<&'a str> {
    let mut at = 0;
    while at < path.len() && modules.contains_key(&path[..=at]) {
        at += 1;
    }
    let module = modules.get(&path[..at])?;
    let Some(name) = path.get(at) else {
        return (!module.file.ends_with("mod.rs") && module.file != "lib.rs").then_some(&module.file);
    };
    match module.exports.get(name) {
        Some(export) if depth < 8 => {
            let further: ModulePath = export.iter().chain(&path[at + 1..]).cloned().collect();
            defining_file(&further, modules, depth + 1)
        }
        _ => (module.file != "lib.rs").then_some(&module.file),
    }
}

fn read_module(file: &str, text: &str) -> (ModulePath, Module) {
    let stem = file.trim_end_matches(".rs").trim_end_matches("/mod");
    let path: ModulePath = if stem == "lib" { Vec::new() } else { stem.split('/').map(str::to_owned).collect() };
    let tokens = tokens(&without_tests(&code_of(text)));
    let children: BTreeSet<&str> = tokens
        .windows(3)
        .filter(|row| row[0].text == "mod" && row[2].text == ";")
        .map(|row| row[1].text.as_str())
        .collect();
    let mut module = Module { file: file.to_owned(), paths: Vec::new(), exports: BTreeMap::new() };
    // What `use` gives a name here, since code goes on from there: `topology::apply`.
    let mut named: BTreeMap<String, ModulePath> = BTreeMap::new();
    let mut at = 0;
    while at < tokens.len() {
        let first = tokens[at].text.as_str();
        let begins = at == 0 || tokens[at - 1].text != "::";
        let rooted =
            matches!(first, "crate" | "super" | "self") && tokens.get(at + 1).is_some_and(|next| next.text == "::");
        let of_child = children.contains(first) && tokens.get(at + 1).is_some_and(|next| next.text == "::");
        let of_name = named.contains_key(first) && tokens.get(at + 1).is_some_and(|next| next.text == "::");
        if !begins || !(rooted || of_child || of_name) {
            at += 1;
            continue;
        }
        let in_use = at > 0 && tokens[at - 1].text == "use";
        let public = in_use && at > 1 && matches!(tokens[at - 2].text.as_str(), "pub" | ")");
        let mut found = Vec::new();
        at = read_paths(&tokens, at, Vec::new(), &mut found);
        for (written, alias) in found {
            let absolute = absolute(&path, &written, &named);
            if in_use {
                named.insert(alias.clone(), absolute.clone());
            }
            if public {
                module.exports.insert(alias, absolute.clone());
            }
            // A folder's `mod.rs` only passes on what it re-exports.
            if !(public && file.ends_with("mod.rs")) {
                module.paths.push(absolute);
            }
        }
    }
    (path, module)
}

/// Reads a path, or each path of a group, with the name that it gives; answers where it ends.
fn read_paths(tokens: &[Token], mut at: usize, prefix: ModulePath, found: &mut Vec<(ModulePath, String)>) -> usize {
    let mut path = prefix;
    while let Some(token) = tokens.get(at) {
        if token.text == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|token| token.text != "}") {
                at = if tokens[at].text == "," { at + 1 } else { read_paths(tokens, at, path.clone(), found) };
            }
            return at + 1;
        }
        path.push(token.text.clone());
        at += 1;
        if tokens.get(at).is_none_or(|next| next.text != "::") {
            break;
        }
        at += 1;
        // A turbofish.
        if tokens.get(at).is_some_and(|next| next.text == "<") {
            break;
        }
    }
    let alias = match tokens.get(at) {
        Some(token) if token.text == "as" => {
            at += 2;
            tokens.get(at - 1).map_or_else(String::new, |name| name.text.clone())
        }
        _ => path.last().cloned().unwrap_or_default(),
    };
    if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
        path.pop();
        let alias = path.last().cloned().unwrap_or_default();
        found.push((path, alias));
    } else {
        found.push((path, alias));
    }
    at
}

/// A path as it is written in a module, from the crate's root.
fn absolute(module: &[String], written: &[String], named: &BTreeMap<String, ModulePath>) -> ModulePath {
    let mut base: ModulePath = match written[0].as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.to_vec(),
        name => match named.get(name) {
            Some(path) => return path.iter().chain(&written[1..]).cloned().collect(),
            None => module.iter().cloned().chain([name.to_owned()]).collect(),
        },
    };
    let mut rest = &written[1..];
    if written[0] == "super" {
        base.pop();
        while rest.first().is_some_and(|next| next == "super") {
            base.pop();
            rest = &rest[1..];
        }
    }
    base.extend(rest.iter().cloned());
    base
}

fn of(files: &[(&str, &str)]) -> Vec<String> {
    circles(&files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect::<Vec<_>>())
}

#[test]
fn two_files_that_import_each_other_are_caught_also_through_a_mod_rs_and_a_third() {
    let modules = ("a/mod.rs", "mod b;\nmod c;\nmod d;\npub use b::B;\npub use c::{C, D as E};");
    let lib = ("lib.rs", "pub mod a;");
    let caught = |b: &str, c: &str| of(&[lib, modules, ("a/b.rs", b), ("a/c.rs", c), ("a/d.rs", "use super::B;")]);
    assert_eq!(caught("use super::C;", "fn f() {}"), [""; 0]);
    assert_eq!(caught("use super::C;", "use super::b::g;"), ["  a/b.rs imports a/c.rs\n  a/c.rs imports a/b.rs"]);
    assert_eq!(caught("use super::E;", "use crate::a::{B, x};").len(), 1);
    assert_eq!(caught("use super::c;\nfn f() { c::g() }", "use super::d::D;").len(), 1, "by way of d");
    assert_eq!(caught("fn f() { super::c::g() }", "fn f(_: crate::a::B) {}").len(), 1);
    assert_eq!(caught("#[cfg(test)]\nmod tests { use super::super::C; }", "use super::B;"), [""; 0]);
}
