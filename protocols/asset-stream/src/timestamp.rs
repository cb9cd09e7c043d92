//! Time on the wire: UTC, ISO 8601, exactly three decimals and `Z`.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00Z; negative before. Kafka's record timestamps have the same unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0000-01-01T00:00:00.000Z: years before it are not four digits.
    const FIRST: i64 = -62_167_219_200_000;
    /// 9999-12-30T21:59:59.999Z: near the last second that `jiff` can print and read.
    const LAST: i64 = 253_402_207_199_999;

    /// A time in Unix milliseconds, clamped to the years 0 to 9999 (devices with a broken clock send anything).
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(Self::FIRST, Self::LAST))
    }

    /// The system clock, now.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// Unix milliseconds.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Reads an ISO 8601 time with any offset and any number of decimals; what is finer than a millisecond is cut off.
    pub fn parse(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        Some(Self::from_millis(time.as_nanosecond().div_euclid(1_000_000) as i64))
    }

    /// The wire form, e.g. `2026-01-27T15:37:03.871Z`. By hand, as every event carries two of them: 10 ns against 60 ns for a general printer.
    pub(crate) fn text(self) -> [u8; 24] {
        let days = self.0.div_euclid(DAY);
        let in_day = self.0.rem_euclid(DAY) as u32;
        let (year, month, day) = civil(days);
        let (seconds, millis) = (in_day / 1000, in_day % 1000);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], seconds / 3600);
        digits(&mut text[14..16], seconds / 60 % 60);
        digits(&mut text[17..19], seconds % 60);
        digits(&mut text[20..23], millis);
        text
    }

    /// Appends the wire form.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.text());
    }
}

const DAY: i64 = 86_400_000;

fn digits(out: &mut [u8], mut n: u32) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years are counted from March, so that the leap day is
/// the last of its year, in cycles of 400 years, which all have 146,097 days.
fn civil(days: i64) -> (u32, u32, u32) {
    let from_march_of_year_0 = days + 719_468;
    let cycle = from_march_of_year_0.div_euclid(146_097);
    let day = from_march_of_year_0.rem_euclid(146_097) as u32;
    // Leap days before `day` in its cycle: one in 4 years (1,460 days), none in the 100th (36,524 days), one in the 400th (146,096).
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Month lengths from March follow 31, 30, 31, 30, 31: 153 days in five months.
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    // The clamp keeps years within 0 to 9999.
    ((cycle * 400 + i64::from(year) + next) as u32, month, day_of_month)
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let millis = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        };
        Self::from_millis(millis)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;
    use jiff::fmt::temporal::DateTimePrinter;
    use proptest::prelude::*;

    /// Another's idea of the wire form.
    fn jiff(millis: i64) -> String {
        let time = jiff::Timestamp::from_millisecond(millis).expect("in range");
        DateTimePrinter::new().precision(Some(3)).timestamp_to_string(&time)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn every_time_is_written_as_jiff_writes_it(millis in Timestamp::FIRST..=Timestamp::LAST) {
            prop_assert_eq!(Timestamp(millis).to_string(), jiff(millis));
        }
    }

    #[test]
    fn every_day_is_written_as_jiff_writes_it() {
        let days = Timestamp::FIRST / super::DAY..=Timestamp::LAST / super::DAY;
        for millis in days.flat_map(|day| [day * super::DAY, day * super::DAY + super::DAY - 1]).filter(|m| *m <= Timestamp::LAST) {
            assert_eq!(Timestamp(millis).to_string(), jiff(millis), "{millis}");
        }
    }

    #[test]
    fn the_wire_form_has_three_decimals_and_z() {
        assert_eq!(Timestamp::from_millis(1_769_528_223_871).to_string(), "2026-01-27T15:37:03.871Z");
        assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn broken_clocks_stay_printable_and_readable() {
        for millis in [i64::MIN, Timestamp::FIRST, Timestamp::LAST, i64::MAX] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(Timestamp::parse(&time.to_string()), Some(time), "{millis}");
        }
    }

    #[test]
    fn other_offsets_and_finer_decimals_are_read() {
        let time = Timestamp::parse("2026-01-27T16:37:03.871999+01:00").expect("valid");
        assert_eq!(time.to_string(), "2026-01-27T15:37:03.871Z");
        assert_eq!(Timestamp::parse("yesterday"), None);
    }
}
