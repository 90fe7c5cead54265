use crate::test_env::Size;

const USAGE: &str = "Usage: chaos [--short | --long] [--only NAME]… [--list]";

/// What the command line asks for.
pub struct Options {
    pub size: Size,
    pub list: bool,
    only: Vec<String>,
}

impl Options {
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { size: Size::Short, list: false, only: Vec::new() };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--short" => options.size = Size::Short,
                "--long" => options.size = Size::Long,
                "--list" => options.list = true,
                "--only" => options.only.push(arguments.next().ok_or(USAGE)?),
                _ => return Err(format!("{argument} is not known\n{USAGE}")),
            }
        }
        Ok(options)
    }

    pub fn takes(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}
