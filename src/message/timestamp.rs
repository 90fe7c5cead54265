//! Times in messages: RFC 3339, UTC.

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::cancellation::LAST;

/// Reads a time and moves it to UTC. `None` where it is no RFC 3339, or not in the years 0 to 9999 of UTC.
pub(super) fn parse(text: &str) -> Option<OffsetDateTime> {
    let utc = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)?;
    (0..=9999).contains(&utc.year()).then_some(utc)
}

/// A time as result events show it: cut to milliseconds.
pub(super) fn millis(time: OffsetDateTime) -> String {
    let utc = utc(time);
    format!("{}.{:03}Z", seconds(utc), utc.millisecond())
}

/// A time from which [`parse`] makes the same time again.
pub(super) fn exact(time: OffsetDateTime) -> String {
    let utc = utc(time);
    let seconds = seconds(utc);
    if utc.nanosecond() == 0 {
        return format!("{seconds}Z");
    }
    let fraction = format!("{:09}", utc.nanosecond());
    format!("{seconds}.{}Z", fraction.trim_end_matches('0'))
}

fn utc(time: OffsetDateTime) -> OffsetDateTime {
    time.checked_to_offset(UtcOffset::UTC).unwrap_or(LAST)
}

fn seconds(utc: OffsetDateTime) -> String {
    let (date, clock) = (utc.date(), utc.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use time::macros::datetime;

    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        let time = datetime!(2026-01-31 13:00:00.0425 +1);
        assert_eq!(millis(time), "2026-01-31T12:00:00.042Z");
        assert_eq!(exact(time), "2026-01-31T12:00:00.0425Z");
        assert_eq!(exact(datetime!(0001-01-01 0:00 UTC)), "0001-01-01T00:00:00Z");
        assert_eq!(millis(LAST), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_cannot_be_written_again_is_not_read() {
        for text in ["", "2026-01-31", "2026-01-31T12:00:00", "0000-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse("2026-01-31T13:00:00+01:00"), Some(datetime!(2026-01-31 12:00 UTC)));
    }

    proptest! {
        #[test]
        fn an_exact_time_is_read_back_equal(seconds in -62_167_219_200_i64..253_402_300_800, nanos in 0_i64..1_000_000_000) {
            let time = OffsetDateTime::from_unix_timestamp(seconds).expect("within the years") + time::Duration::nanoseconds(nanos);
            prop_assert_eq!(parse(&exact(time)), Some(time));
            prop_assert_eq!(parse(&millis(time)), Some(time - time::Duration::nanoseconds(nanos % 1_000_000)));
        }
    }
}
