//! W3C trace context. It only links traces: one that is malformed is left out, and never makes a message unusable.

/// Longest value that is passed on, in bytes: what the recommendation asks for at least.
pub(super) const MAX_BYTES: usize = 512;

/// A well-formed `traceparent`: `00-{32 hex}-{16 hex}-{2 hex}`, ids not all zeros. Later versions may append to it.
pub(super) fn traceparent(text: &str) -> Option<&str> {
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let well_formed = is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    let named = trace.bytes().any(|digit| digit != b'0') && parent.bytes().any(|digit| digit != b'0');
    let whole = parts.next().is_none() || (version != "00" && text.len() <= MAX_BYTES);
    (well_formed && named && whole && version != "ff").then_some(text)
}

/// A `tracestate` that can be passed on.
pub(super) fn tracestate(text: &str) -> Option<&str> {
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    (!text.is_empty() && text.len() <= MAX_BYTES && printable).then_some(text)
}

/// The headers that pass the context on.
pub(super) fn headers(traceparent: Option<&str>, tracestate: Option<&str>) -> Vec<(String, String)> {
    let headers = [("traceparent", traceparent), ("tracestate", tracestate)];
    headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect()
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_well_formed_parent_is_kept_and_anything_else_is_not() {
        let later = format!("cc{}-what-comes-next", &GOOD[2..]);
        assert_eq!(traceparent(GOOD), Some(GOOD));
        assert_eq!(traceparent(&later), Some(later.as_str()));
        for bad in [
            String::new(),
            format!("{GOOD}-extra"),
            format!("ff{}", &GOOD[2..]),
            GOOD.to_uppercase(),
            GOOD.replace('4', "g"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01".to_owned(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01".to_owned(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            format!("cc{}-{}", &GOOD[2..], "x".repeat(500)),
        ] {
            assert_eq!(traceparent(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_state_is_kept_if_it_prints_and_is_short() {
        assert_eq!(tracestate("congo=t61rcWkgMzE"), Some("congo=t61rcWkgMzE"));
        for bad in ["", "a=\n", "a=é"] {
            assert_eq!(tracestate(bad), None, "{bad:?}");
        }
        assert_eq!(tracestate(&"a".repeat(513)), None);
    }
}
