use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use serde::de::{self, IntoDeserializer as _};
use serde::{Deserialize, Deserializer};

/// A duration written for people: `"15m"`, `"1h 30m"`, `"250ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

impl Deref for HumanDuration {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_span(&text).map_err(de::Error::custom)
    }
}

fn parse_span(text: &str) -> Result<HumanDuration, String> {
    humantime::parse_duration(text.trim())
        .map(HumanDuration)
        .map_err(|error| format!("{text:?} is not a duration such as \"15m\" or \"250ms\" ({error})"))
}

/// Durations, as a list or, in the environment, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HumanDurations(pub Vec<HumanDuration>);

impl<'de> Deserialize<'de> for HumanDurations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = one_or_many(deserializer)?;
        texts
            .iter()
            .map(|text| parse_span(text))
            .collect::<Result<_, _>>()
            .map(HumanDurations)
            .map_err(de::Error::custom)
    }
}

/// What is set to nothing, as container platforms do, is not set.
pub(super) fn unless_empty<'de, D: Deserializer<'de>, T: From<String>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()).map(T::from))
}

/// A list of strings, or one string with commas between them.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Visitor;

    impl<'de> de::Visitor<'de> for Visitor {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of strings, or one string with commas between them")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = items.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }

    deserializer.deserialize_any(Visitor)
}

/// One of an enum's words. By way of a string, so that a wrong word is answered with the right ones.
pub(super) fn choice<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(String::deserialize(deserializer)?.into_deserializer())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_for_people_and_printed_the_same_way() {
        assert_eq!(parse_span("15m"), Ok(HumanDuration(Duration::from_secs(900))));
        assert_eq!(parse_span(" 1h 30m "), Ok(HumanDuration(Duration::from_secs(5400))));
        assert_eq!(HumanDuration(Duration::from_secs(90)).to_string(), "1m 30s");
        assert!(parse_span("15").expect_err("no unit").contains("\"15\" is not a duration"));
    }
}
