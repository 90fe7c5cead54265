//! Every link leads somewhere, every path that is named exists, and no sentence is too long to be understood.

use crate::markdown::{FILES, anchors, prose, read, top};

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_exist() {
    let mut broken = Vec::new();
    for file in FILES {
        let text = read(file);
        for target in links(&prose(&text)) {
            let (path, anchor) = target.split_once('#').unwrap_or((target.as_str(), ""));
            let folder = top().join(file).parent().unwrap().to_owned();
            let path = if path.is_empty() { top().join(file) } else { folder.join(path) };
            let is_heading =
                || anchors(&std::fs::read_to_string(&path).unwrap_or_default()).iter().any(|one| one == anchor);
            if !path.exists() || !(anchor.is_empty() || is_heading()) {
                broken.push(format!("{file}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The targets of a text's links that stay within the project.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.starts_with("http")).map(str::to_owned).collect()
}

#[test]
fn no_sentence_has_more_than_thirty_words() {
    let long: Vec<String> = FILES
        .iter()
        .flat_map(|file| {
            long_sentences(&prose(&read(file))).into_iter().map(move |sentence| format!("{file}: {sentence}"))
        })
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// Sentences of paragraphs and list items; rows of tables and headings are no sentences.
fn long_sentences(prose: &str) -> Vec<String> {
    let lines = prose.lines().map(|line| match line.chars().next() {
        Some('|' | '#') => "\n",
        _ if line.starts_with("    ") || line.trim().is_empty() => "\n",
        _ => line,
    });
    let text = lines.collect::<Vec<_>>().join(" ").replace(" - ", "\n");
    let ends = |text: &str| text.split_inclusive(['.', '!', '?', ':', ';']).fold(vec![String::new()], joined);
    let sentences = text.split('\n').flat_map(ends);
    sentences
        .map(|sentence| sentence.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|one| one.split(' ').count() > 30)
        .collect()
}

/// A full stop within a name (`main.rs`) ends no sentence: only one before a blank does.
fn joined(mut sentences: Vec<String>, piece: &str) -> Vec<String> {
    if piece.starts_with(char::is_whitespace) {
        sentences.push(String::new());
    }
    if let Some(last) = sentences.last_mut() {
        last.push_str(piece);
    }
    sentences
}

#[test]
fn a_long_sentence_is_found_and_a_short_one_with_names_of_files_is_not() {
    let long = "word ".repeat(31);
    assert_eq!(long_sentences(&format!("Short one. {long}. Another in `main.rs`.")).len(), 1);
    assert_eq!(long_sentences(&format!("{} main.rs. {}", "word ".repeat(20), "word ".repeat(20))).len(), 0);
}
