use serde_json::Value;

/// Whether a string in valid JSON has half of a surrogate pair: those who get it within an event could not read the event.
#[must_use]
pub fn has_half_character(json: &str) -> bool {
    mentions_surrogates(json) && serde_json::from_str::<Value>(json).is_err()
}

/// Whether there is a `\ud8…` to `\udf…`: a rough look, for what is rare.
fn mentions_surrogates(json: &str) -> bool {
    json.as_bytes().windows(3).any(|three| matches!(three, [b'\\', b'u', b'd' | b'D']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_pair_is_found_and_whole_ones_are_not() {
        for (json, half) in [
            (r#"{"a":"\ud800"}"#, true),
            (r#"{"a":"\uDC00x"}"#, true),
            (r#"{"a":"\ud83d\ude00"}"#, false),
            (r#"{"a":"\u00fc \\ud800"}"#, false),
            ("{}", false),
        ] {
            assert_eq!(has_half_character(json), half, "{json}");
        }
    }
}
