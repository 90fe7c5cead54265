//! The table of a `mod.rs` names every file of its folder, and no other.

use std::collections::BTreeSet;

use crate::files_without_tests;

#[test]
fn the_table_of_each_folder_names_its_files() {
    let files = files_without_tests();
    let problems: Vec<String> = files
        .iter()
        .filter(|(path, _)| path.ends_with("/mod.rs"))
        .flat_map(|(path, text)| {
            let folder = path.trim_end_matches("mod.rs");
            let here: BTreeSet<&str> = files.iter().filter_map(|(file, _)| module_of(file, folder)).collect();
            problems(path, text, &here)
        })
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The module that a file of this folder is, or belongs to.
fn module_of<'a>(file: &'a str, folder: &str) -> Option<&'a str> {
    let name = file.strip_prefix(folder)?.split('/').next()?;
    Some(name.trim_end_matches(".rs")).filter(|name| *name != "mod")
}

fn problems(path: &str, text: &str, files: &BTreeSet<&str>) -> Vec<String> {
    let rows =
        text.lines().skip_while(|line| *line != "//! | file | subject |").take_while(|line| line.starts_with("//! |"));
    let named: BTreeSet<&str> = rows.filter_map(|row| row.strip_prefix("//! | `")).flat_map(first_cell).collect();
    let missing = files.difference(&named).map(|file| format!("src/{path}: the table of files misses `{file}`"));
    // Files that only tests use may be named as well.
    let is_declared = |name: &&&str| text.contains(&format!("mod {name};"));
    let extra = named.difference(files).filter(|name| !is_declared(name));
    let extra = extra.map(|name| format!("src/{path}: the table names `{name}`, which is no file there"));
    missing.chain(extra).collect()
}

/// The names in a row whose first cell holds nothing but names, such as `` `a`, `b` | what they are ``.
fn first_cell(row: &str) -> Vec<&str> {
    let cell = row.split(" |").next().unwrap_or_default();
    let names: Vec<&str> = cell.split(", ").map(|name| name.trim_matches('`').trim_end_matches('/')).collect();
    let plain =
        |name: &&str| name.chars().all(|character| character.is_ascii_lowercase() || "_0123456789".contains(character));
    if names.iter().all(plain) { names } else { Vec::new() }
}

#[test]
fn a_file_that_the_table_misses_is_caught_and_so_is_a_name_without_a_file() {
    let text = "//! | call | what |\n//! | `x` | a call |\n\n//! | file | subject |\n//! |---|---|\n//! | `a`, `b` | the first two |\n";
    assert_eq!(problems("m/mod.rs", text, &BTreeSet::from(["a", "b"])), [""; 0]);
    assert_eq!(
        problems("m/mod.rs", text, &BTreeSet::from(["a", "b", "c"])),
        ["src/m/mod.rs: the table of files misses `c`"]
    );
    assert_eq!(
        problems("m/mod.rs", text, &BTreeSet::from(["a"])),
        ["src/m/mod.rs: the table names `b`, which is no file there"]
    );
}
