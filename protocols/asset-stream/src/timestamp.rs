//! Time on the wire: UTC, ISO 8601, exactly three decimals and `Z`.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::fmt::temporal::DateTimePrinter;

const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

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

    /// Appends the wire form, e.g. `2026-01-27T15:37:03.871Z`.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        // The clamp keeps the time inside jiff's range, and writing into a Vec cannot fail.
        if let Ok(time) = jiff::Timestamp::from_millisecond(self.0) {
            let _ = PRINTER.print_timestamp(&time, jiff::fmt::StdIoWrite(&mut *out));
        }
    }
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
        let mut text = Vec::with_capacity(24);
        self.write(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

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
