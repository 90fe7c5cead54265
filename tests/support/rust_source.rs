//! Reads Rust source as far as a check of imports needs it: without comments, literals and tests, in tokens.

use std::fs;
use std::path::Path;

pub struct Token {
    /// Counted from 1.
    pub line: usize,
    pub text: String,
}

/// Identifiers, `::`, and single other characters.
pub fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (line, text) in code.lines().enumerate() {
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let end = if is_word(first) {
                rest.find(|character| !is_word(character)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token { line: line + 1, text: rest[..end].to_owned() });
            rest = rest[end..].trim_start();
        }
    }
    tokens
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The text with every comment and every string and character literal blanked; lines stay where they are.
pub fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_a_word = code.chars().next_back().is_some_and(is_word);
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest, 0),
            'r' | 'b' | 'c' if !after_a_word => prefixed_string(rest),
            '\'' => character_literal(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            // A blank keeps what stood on both sides apart.
            code.push(' ');
            code.extend(rest[..skipped].chars().filter(|&character| character == '\n'));
            rest = &rest[skipped..];
        }
    }
    code
}

/// The length of the block comment, possibly nested, that `rest` begins with.
fn block_comment(rest: &str) -> usize {
    let (mut at, mut depth) = (0, 0_u32);
    while at < rest.len() {
        let step = &rest.as_bytes()[at..];
        if step.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if step.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The length of a literal that begins with `"` at `start`.
fn string(rest: &str, start: usize) -> usize {
    let bytes = rest.as_bytes();
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of a literal such as `r#"…"#`, `b"…"`, `br"…"`, `b'…'`; 0 if `rest` begins with something else.
fn prefixed_string(rest: &str) -> usize {
    let letters = rest.find(|character| !matches!(character, 'r' | 'b' | 'c')).unwrap_or(0);
    let (prefix, literal) = rest.split_at(letters);
    let hashes = literal.len() - literal.trim_start_matches('#').len();
    if prefix.contains('r') && literal[hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let body = letters + hashes + 1;
        return rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len());
    }
    match literal.chars().next() {
        Some('"') => string(rest, letters),
        Some('\'') if prefix == "b" => letters + character_literal(literal),
        _ => 0,
    }
}

/// The length of the character literal that `rest` begins with; 0 if it is a lifetime.
fn character_literal(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(0, |at| at + 4),
        Some(_) => characters.next().filter(|&(_, character)| character == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

const TESTS_ONLY: &str = "#[cfg(test)]";

/// The code with each `#[cfg(test)]` item blanked.
pub fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find(TESTS_ONLY) {
        let (before, item) = rest.split_at(start);
        let end = item_length(item);
        kept.push_str(before);
        kept.extend(item[..end].chars().filter(|&character| character == '\n'));
        rest = &item[end..];
    }
    kept + rest
}

/// Up to the semicolon outside all brackets, or to the end of the first `{…}`, whichever comes first.
fn item_length(item: &str) -> usize {
    let mut depth = 0_i32;
    for (at, character) in item.char_indices() {
        match character {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(character, ';' | '}') {
            return at + 1;
        }
    }
    item.len()
}

/// The paths, without `.rs`, of the files that `#[cfg(test)] mod name;` declares in this file.
pub fn test_modules(path: &str, code: &str) -> Vec<String> {
    let folder = match path.strip_suffix("/mod.rs") {
        Some(folder) => format!("{folder}/"),
        None if path == "lib.rs" || path == "main.rs" => String::new(),
        None => format!("{}/", path.trim_end_matches(".rs")),
    };
    code.match_indices(TESTS_ONLY)
        .filter_map(|(at, _)| {
            let item = &code[at..];
            let words = tokens(&item[TESTS_ONLY.len()..item_length(item)]);
            let declared = words.windows(3).find(|row| row[0].text == "mod" && row[2].text == ";")?;
            Some(format!("{folder}{}", declared[1].text))
        })
        .collect()
}

/// Every Rust file below the folder, as (path relative to it, text).
pub fn rust_files(root: &Path) -> Vec<(String, String)> {
    let mut folders = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), text));
            }
        }
    }
    files.sort();
    files
}
