//! The fields of a JSON object, gathered in one pass without building a tree, and read one by one, so that a problem can
//! name its field and the others are still known.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use time::OffsetDateTime;

use super::field_error::{FieldError, quoted};
use super::json_depth::json_depth;
use crate::message::timestamp;

/// Where an object stands, as sentences call it.
#[derive(Clone, Copy, Debug)]
pub(in crate::message) struct Location {
    /// The object itself.
    pub(in crate::message) whole: &'static str,
    /// What stands before its fields' names.
    pub(in crate::message) prefix: &'static str,
}

/// The object is the body.
pub(in crate::message) const BODY: Location = Location { whole: "the body", prefix: "" };

/// One field of an object. Its value is valid JSON, and not `null`.
#[derive(Clone, Copy, Debug)]
pub(in crate::message) struct Field<'a> {
    place: Location,
    name: &'static str,
    value: &'a RawValue,
}

/// Finds the named fields of the object that `json` should be.
///
/// What was found is returned even where there is a problem: a syntax error ends the search, a field that is given twice
/// counts as absent. Nothing recurses, however deep the text is nested.
pub(in crate::message) fn read_fields<'a, const N: usize>(
    json: &'a str,
    place: Location,
    names: [&'static str; N],
) -> ([Option<Field<'a>>; N], Result<(), FieldError>) {
    let mut gatherer = Gatherer { names, found: [const { Found::Nothing }; N] };
    let result = gatherer.run(json, place);
    let mut at = 0;
    let fields = gatherer.found.map(|found| {
        let name = names[at];
        at += 1;
        if let Found::Once(Some(value)) = found { Some(Field { place, name, value }) } else { None }
    });
    (fields, result)
}

impl<'a> Field<'a> {
    /// The value as it is written in the message.
    pub(in crate::message) fn raw(&self) -> &'a RawValue {
        self.value
    }

    /// A string of 1 to `limit` bytes.
    pub(in crate::message) fn text(&self, limit: usize) -> Result<Cow<'a, str>, FieldError> {
        let text = self.any_text()?;
        match text.len() {
            0 => Err(self.problem("must not be empty")),
            length if length > limit => {
                Err(self.problem(&format!("may be at most {limit} bytes long, but is {length}")))
            }
            _ => Ok(text),
        }
    }

    /// A string of any length.
    pub(in crate::message) fn any_text(&self) -> Result<Cow<'a, str>, FieldError> {
        self.string().ok_or_else(|| self.not("a string"))
    }

    /// An RFC 3339 time, moved to UTC.
    pub(in crate::message) fn time(&self) -> Result<OffsetDateTime, FieldError> {
        let time = self.string().and_then(|text| timestamp::parse(&text));
        time.ok_or_else(|| self.not("a time such as \"2026-01-31T12:00:00Z\""))
    }

    /// A duration such as "10m".
    pub(in crate::message) fn duration(&self) -> Result<Duration, FieldError> {
        let duration = self.string().and_then(|text| humantime::parse_duration(&text).ok());
        duration.ok_or_else(|| self.not("a duration such as \"10m\""))
    }

    /// Any object that is nested at most `limit` deep.
    pub(in crate::message) fn object(&self, limit: usize) -> Result<&'a RawValue, FieldError> {
        if !self.value.get().starts_with('{') {
            return Err(self.not("a JSON object"));
        }
        match json_depth(self.value.get().as_bytes()) {
            depth if depth > limit => Err(self.problem(&format!("may be nested at most {limit} deep, but is {depth}"))),
            _ => Ok(self.value),
        }
    }

    /// A sentence about this field.
    pub(in crate::message) fn problem(&self, what: &str) -> FieldError {
        FieldError(format!("`{}{}` {what}", self.place.prefix, self.name))
    }

    /// The sentence that it should be something else.
    pub(in crate::message) fn not(&self, expected: &str) -> FieldError {
        self.problem(&format!("must be {expected}, but is {}", self.shown()))
    }

    fn shown(&self) -> String {
        if let Some(text) = self.string() {
            return quoted(&text);
        }
        let json = self.value.get();
        match json.as_bytes().first() {
            Some(b'{') => "an object".to_owned(),
            Some(b'[') => "an array".to_owned(),
            Some(b'"') => "a string with a broken \\u escape".to_owned(),
            _ if json.len() > 30 => "a long number".to_owned(),
            _ => json.to_owned(),
        }
    }

    fn string(&self) -> Option<Cow<'a, str>> {
        let json = self.value.get();
        let inner = json.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') { serde_json::from_str(json).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
    }
}

/// What is known of one name.
#[derive(Clone, Copy)]
enum Found<'a> {
    Nothing,
    /// Its value; `None` is `null`.
    Once(Option<&'a RawValue>),
    Twice,
}

struct Gatherer<'a, const N: usize> {
    names: [&'static str; N],
    found: [Found<'a>; N],
}

impl<'a, const N: usize> Gatherer<'a, N> {
    fn run(&mut self, json: &'a str, place: Location) -> Result<(), FieldError> {
        let whole = place.whole;
        let syntax = |error: serde_json::Error| {
            let what = if error.is_eof() { "is cut off" } else { "is not JSON" };
            FieldError(format!("{whole} {what}: {error}"))
        };
        let kind = match json.trim_ascii_start().as_bytes().first() {
            None => return Err(FieldError(format!("{whole} is empty, but must be a JSON object"))),
            Some(b'{') => None,
            Some(b'[') => Some("an array"),
            Some(b'"') => Some("a string"),
            Some(b't' | b'f') => Some("a boolean"),
            Some(b'n') => Some("null"),
            Some(_) => Some("a number"),
        };
        if let Some(kind) = kind {
            serde_json::from_str::<IgnoredAny>(json).map_err(syntax)?;
            return Err(FieldError(format!("{whole} must be a JSON object, but is {kind}")));
        }
        let mut reader = serde_json::Deserializer::from_str(json);
        reader.deserialize_map(&mut *self).and_then(|()| reader.end()).map_err(syntax)?;
        match self.found.iter().position(|found| matches!(found, Found::Twice)) {
            Some(at) => Err(FieldError(format!("`{}{}` is given twice", place.prefix, self.names[at]))),
            None => Ok(()),
        }
    }
}

impl<'de, const N: usize> Visitor<'de> for &mut Gatherer<'de, N> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key_seed(Position(&self.names))? {
            let Some(at) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value::<Option<&'de RawValue>>()?;
            self.found[at] = if let Found::Nothing = self.found[at] { Found::Once(value) } else { Found::Twice };
        }
        Ok(())
    }
}

/// Reads a key as its position among the names.
struct Position<'n>(&'n [&'static str]);

impl<'de> DeserializeSeed<'de> for Position<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Position<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(json: &str) -> String {
        read_fields(json, BODY, ["a"]).1.expect_err("a problem").0
    }

    #[test]
    fn fields_are_found_and_the_others_ignored() {
        let json = r#" {"x":[{"a":1}], "\u0061":"1\n2", "b":null, "c":{ "a" : 2 } } "#;
        let ([a, b, c], result) = read_fields(json, BODY, ["a", "b", "c"]);
        assert_eq!(result, Ok(()));
        assert_eq!(a.expect("found").text(3).expect("a string"), "1\n2");
        assert!(b.is_none());
        assert_eq!(c.expect("found").raw().get(), r#"{ "a" : 2 }"#);
    }

    #[test]
    fn what_is_no_object_is_named() {
        for (json, expected) in [
            ("", "the body is empty, but must be a JSON object"),
            (" \n", "the body is empty, but must be a JSON object"),
            ("[1]", "the body must be a JSON object, but is an array"),
            ("\"a\"", "the body must be a JSON object, but is a string"),
            ("true", "the body must be a JSON object, but is a boolean"),
            ("null", "the body must be a JSON object, but is null"),
            ("-1", "the body must be a JSON object, but is a number"),
            ("cancel", "the body is not JSON: expected value at line 1 column 1"),
            ("{\"a\":", "the body is cut off: EOF while parsing a value at line 1 column 5"),
            ("{\n\"a\" 1}", "the body is not JSON: expected `:` at line 2 column 5"),
            ("{} {}", "the body is not JSON: trailing characters at line 1 column 4"),
            (r#"{"a":1,"a":null}"#, "`a` is given twice"),
        ] {
            assert_eq!(problem(json), expected, "{json}");
        }
    }

    #[test]
    fn what_stands_before_a_syntax_error_is_still_found() {
        let ([a, b], result) = read_fields(r#"{"a":"x","b":"y""#, BODY, ["a", "b"]);
        assert!(result.is_err());
        assert_eq!(a.expect("found").text(9).expect("a string"), "x");
        assert!(b.is_some());
    }

    #[test]
    fn a_value_of_another_kind_is_shown_short() {
        for (json, expected) in [
            (r#"{"a":"soon"}"#, "`a` must be a duration such as \"10m\", but is \"soon\""),
            (r#"{"a":5}"#, "`a` must be a duration such as \"10m\", but is 5"),
            (r#"{"a":false}"#, "`a` must be a duration such as \"10m\", but is false"),
            (r#"{"a":[5]}"#, "`a` must be a duration such as \"10m\", but is an array"),
            (r#"{"a":{}}"#, "`a` must be a duration such as \"10m\", but is an object"),
            (r#"{"a":"\ud800"}"#, "`a` must be a duration such as \"10m\", but is a string with a broken \\u escape"),
        ] {
            let ([a], result) = read_fields(json, BODY, ["a"]);
            assert_eq!(result, Ok(()));
            assert_eq!(a.expect("found").duration().expect_err("no duration").0, expected);
        }
        let long = format!(r#"{{"a":{}}}"#, "1".repeat(1000));
        let ([a], _) = read_fields(&long, BODY, ["a"]);
        assert_eq!(a.expect("found").text(9).expect_err("no string").0, "`a` must be a string, but is a long number");
    }

    #[test]
    fn a_million_brackets_overflow_no_stack() {
        let deep = "[".repeat(1_000_000);
        for json in
            [deep.clone(), format!("{{\"a\":{deep}"), format!("{{\"x\":{deep}"), format!("{{\"a\":\"x\",\"y\":{deep}")]
        {
            assert!(problem(&json).starts_with("the body is cut off: "), "{}", problem(&json));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_gathered_or_refused(json in ".*|[\\[\\]{}\",:\\\\a0-9 un]*") {
            let _ = read_fields(&json, BODY, ["a", "b"]);
        }
    }
}
