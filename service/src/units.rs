//! Durations and sizes as people write them in config files: `"250ms"`, `"7 days"`, `"2 GiB"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

const DURATIONS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("sec", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("hour", 3_600_000),
    ("hours", 3_600_000),
    ("d", 86_400_000),
    ("day", 86_400_000),
    ("days", 86_400_000),
];

const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads `"250ms"`, `"5 s"`, `"2 min"`, `"7 days"`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text, DURATIONS, "a duration such as \"250ms\", \"5 s\", \"2 min\", \"12 h\" or \"7 days\"").map(Duration::from_millis)
}

/// Reads `"512 MiB"`, `"2 GB"`, `"100 B"`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    parse(text, SIZES, "a size such as \"512 KiB\", \"64 MiB\" or \"2 GB\"")
}

fn parse(text: &str, units: &[(&str, u64)], expected: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = (&trimmed[..digits], trimmed[digits..].trim());
    let number: u64 = number.parse().map_err(|_| format!("expected {expected}, found {text:?}"))?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or_else(|| format!("expected {expected}, found {text:?}"))?;
    number.checked_mul(*factor).ok_or_else(|| format!("{text:?} is too large"))
}

/// Bytes for people: `"1.5 GiB"`.
pub fn printed(bytes: u64) -> String {
    let unit = SIZES.iter().rev().find(|(name, unit)| name.ends_with("iB") && bytes >= *unit);
    unit.map_or_else(|| format!("{bytes} B"), |(name, unit)| format!("{:.1} {name}", bytes as f64 / *unit as f64))
}

/// For `#[serde(deserialize_with = "service::units::duration")]`.
pub fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(from)?).map_err(D::Error::custom)
}

/// For `#[serde(deserialize_with = "service::units::size")]`.
pub fn size<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    parse_size(&String::deserialize(from)?).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::{parse_duration, parse_size, printed};
    use std::time::Duration;

    #[test]
    fn durations_and_sizes_are_read_as_people_write_them() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration(" 7 days "), Ok(Duration::from_secs(604_800)));
        assert_eq!(parse_size("2 GiB"), Ok(1 << 31));
        assert_eq!(parse_size("64MB"), Ok(64_000_000));
    }

    #[test]
    fn sizes_are_printed_as_people_read_them() {
        assert_eq!([0, 1023, 1024, 3 << 29, u64::MAX].map(printed), ["0 B", "1023 B", "1.0 KiB", "1.5 GiB", "16777216.0 TiB"]);
    }

    #[test]
    fn a_number_without_a_unit_and_a_number_too_large_are_refused() {
        for text in ["", "5", "five s", "5 parsecs", "-1 s", "1.5 GiB"] {
            assert!(parse_duration(text).is_err() && parse_size(text).is_err(), "{text:?} was taken");
        }
        assert_eq!(parse_size("99999999999 TiB"), Err("\"99999999999 TiB\" is too large".into()));
    }
}
