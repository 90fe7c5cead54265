/// Nested deeper, no JSON of others is put into a result event: common readers stop at 128 levels, and those who get the
/// event could not read it.
pub const MAX_JSON_DEPTH: usize = 100;

/// How deeply arrays and objects are nested in a JSON text: 0 for a scalar, 1 for `{}`.
///
/// A scan without recursion, so that no text overflows the stack. Brackets in strings do not count. Of what is not JSON
/// the answer means nothing.
#[must_use]
pub fn json_depth(json: &[u8]) -> usize {
    let mut deepest = 0_usize;
    let mut depth = 0_usize;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

/// Moves past the quotation mark that ends a string.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_counted_and_strings_are_not() {
        for (json, expected) in [
            ("5", 0),
            (r#""{[[""#, 0),
            ("{}", 1),
            (r#"{"a":[1,{"b":[]}],"c":[]}"#, 4),
            (r#"{"a":"\"[[[[\\","b":"]]]]"}"#, 1),
        ] {
            assert_eq!(json_depth(json.as_bytes()), expected, "{json}");
        }
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(json_depth(deep.as_bytes()), 1_000_000);
    }
}
