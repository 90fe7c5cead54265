//! The two forms in which a service says how long to wait, and its dates.

use std::time::Duration;

use time::OffsetDateTime;

/// A `google.protobuf.Duration` in JSON, `"1.5s"`; `None` for what is negative or none.
pub(super) fn proto_duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (seconds, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration::new(whole(seconds)?, nanos))
}

/// A `Retry-After` header: seconds, or a date in any of HTTP's three forms; `None` for a date that has passed and for
/// nonsense.
pub(super) fn retry_after(text: &str, now: OffsetDateTime) -> Option<Duration> {
    let text = text.trim();
    if let Some(seconds) = whole(text) {
        return Some(Duration::from_secs(seconds));
    }
    (date(text)? - now).try_into().ok()
}

/// A date in any of HTTP's three forms.
pub(super) fn date(text: &str) -> Option<OffsetDateTime> {
    httpdate::parse_http_date(text).ok().map(OffsetDateTime::from)
}

/// A number without sign; serde's and `str::parse` would take `+1`.
fn whole(text: &str) -> Option<u64> {
    digits(text).then(|| text.parse().ok()).flatten()
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_delay_is_read_from_each_form_and_nonsense_is_ignored() {
        let delay = |text: &str| proto_duration(text).map(|delay| delay.as_secs_f64());
        for (text, seconds) in [("1.5s", 1.5), ("30s", 30.0), ("0.000000001s", 1e-9), ("0s", 0.0)] {
            assert_eq!(delay(text), Some(seconds), "{text}");
        }
        for text in
            ["", "s", "1", "-1s", "+1s", "1.s", ".5s", "1.0000000001s", "1e3s", "1,5s", "NaNs", "99999999999999999999s"]
        {
            assert_eq!(delay(text), None, "{text}");
        }
        let now = datetime!(1994-11-06 08:49:07 UTC);
        let after = |text: &str| retry_after(text, now).map(|delay| delay.as_secs());
        assert_eq!(after("120"), Some(120));
        assert_eq!(after(" 0 "), Some(0));
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(after(date), Some(30), "{date}");
        }
        for text in [
            "Sun, 06 Nov 1994 08:49:06 GMT",
            "-1",
            "+1",
            "1.5",
            "soon",
            "",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 36 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(after(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_of_a_delay_makes_it_panic(text in "\\PC*", digits in "[0-9]{0,30}\\.?[0-9]{0,12}s?") {
            let now = datetime!(2025-01-01 00:00 UTC);
            for text in [text, digits] {
                let _ = (proto_duration(&text), retry_after(&text, now));
            }
        }
    }
}
