use std::str::FromStr;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often something may be done, such as `10/s`, `100/m`, `0.5/s`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    each: Duration,
}

impl Rate {
    /// So many times a second.
    pub(super) fn per_second(times: f64) -> Option<Self> {
        let each = Duration::try_from_secs_f64(1.0 / times).ok().filter(|each| !each.is_zero())?;
        Some(Self { each })
    }

    /// Ticks as often as that.
    pub(super) fn ticks(self) -> Interval {
        let mut ticks = interval(self.each);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no rate such as 10/s, 100/m or 1000/h");
        let (times, unit) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match unit {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let times: f64 = times.parse().map_err(|_| wrong())?;
        Self::per_second(times / seconds).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_and_a_unit() {
        let each = |text: &str| text.parse::<Rate>().map(|rate| rate.each.as_millis());
        assert_eq!((each("10/s"), each("120/m"), each("0.5/s")), (Ok(100), Ok(500), Ok(2000)));
        for wrong in ["10", "0/s", "-1/s", "x/s", "1/d", "inf/s", "1e300/s", "NaN/s"] {
            assert!(each(wrong).is_err(), "{wrong}");
        }
    }
}
