use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;

use super::arguments::Names;
use crate::message::{InvalidOperationName, NamePatterns, OperationName};

impl Names {
    /// All names, arguments first.
    ///
    /// # Errors
    /// Names the argument or line that is no operation name, or none that `patterns` admit; nothing is done then.
    pub(super) fn read(&self, patterns: &NamePatterns) -> anyhow::Result<Vec<OperationName>> {
        let mut names = Vec::with_capacity(self.names.len());
        for name in &self.names {
            names.push(parse(patterns, name).with_context(|| format!("failed to use {name:?}"))?);
        }
        if let Some(file) = &self.from_file {
            let shown = file.display();
            let text = read_file(file).with_context(|| format!("failed to read names from {shown}"))?;
            for (index, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let number = index + 1;
                names.push(parse(patterns, line).with_context(|| format!("failed to use line {number} of {shown}"))?);
            }
        }
        anyhow::ensure!(!names.is_empty(), "there is no operation to cancel: no name was given");
        Ok(names)
    }
}

fn parse(patterns: &NamePatterns, name: &str) -> anyhow::Result<OperationName> {
    patterns.parse(name).map_err(|error| match error {
        InvalidOperationName::NotAdmitted(_) => {
            anyhow::anyhow!("{error}; the setting api.names says what operations are called")
        }
        error => error.into(),
    })
}

fn read_file(file: &Path) -> std::io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn patterns() -> NamePatterns {
        NamePatterns::new(vec!["projects/*/operations/*".into()]).expect("a pattern")
    }

    #[test]
    fn names_come_from_arguments_and_from_the_lines_of_a_file() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        writeln!(file, "# first\n\n projects/p/operations/b ").expect("written");
        let names = Names { names: vec!["projects/p/operations/a".into()], from_file: Some(file.path().into()) };
        let read: Vec<String> = names.read(&patterns()).expect("names").iter().map(ToString::to_string).collect();
        assert_eq!(read, ["projects/p/operations/a", "projects/p/operations/b"]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        writeln!(file, "projects/p/operations/a\nnonsense").expect("written");
        let names = Names { names: vec![], from_file: Some(file.path().into()) };
        let error = format!("{:#}", names.read(&patterns()).expect_err("bad"));
        assert!(
            error.contains("line 2") && error.contains("not of the form") && error.contains("api.names"),
            "{error}"
        );
    }
}
