//! Reads as much Markdown as these checks need: tables, fenced blocks, links, sentences.

use std::fs;
use std::path::{Path, PathBuf};

/// The README files, relative to the top of the tree.
pub const FILES: [&str; 7] = [
    "README.md",
    "src/README.md",
    "config/README.md",
    "deploy/README.md",
    "deploy/prometheus/README.md",
    "deploy/contract/README.md",
    "tests/README.md",
];

pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(file: &str) -> String {
    let path: PathBuf = top().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the table under the header row that begins with `header`, such as `| exit code |`: cells, trimmed.
pub fn table(text: &str, header: &str) -> Vec<Vec<String>> {
    let rows: Vec<Vec<String>> = text
        .lines()
        .skip_while(|line| !line.starts_with(header))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(!rows.is_empty(), "there is no table that begins with {header:?}");
    rows
}

/// The fenced blocks of a language (```` ```sh ````), without the fences.
pub fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    let closed = |rest: &'a str| rest.split("\n```").next();
    text.split(opening.as_str()).skip(1).filter_map(closed).collect()
}

/// What stands between backticks in a piece of text, fenced blocks aside.
pub fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The text without fenced blocks.
pub fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut is_prose = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    };
    text.lines().filter(|line| is_prose(line)).collect::<Vec<_>>().join("\n")
}

/// The anchors of a file's headings, as GitHub and crates' pages make them.
pub fn anchors(text: &str) -> Vec<String> {
    let anchor = |title: &str| -> String {
        let kept = |character: &char| character.is_alphanumeric() || " -_".contains(*character);
        title
            .trim()
            .to_lowercase()
            .chars()
            .filter(kept)
            .map(|character| if character == ' ' { '-' } else { character })
            .collect()
    };
    prose(text).lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}
