//! Points in time as people type them.

use std::str::FromStr;

use asset_stream::Timestamp;
use service::units::parse_duration;

/// A point in time, and how it was typed: a relative one means another time when it is typed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct When {
    pub(crate) text: String,
    pub(crate) millis: i64,
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let now = Timestamp::now().millis();
        let millis = match text.strip_prefix('-') {
            Some(ago) => now.saturating_sub(i64::try_from(parse_duration(ago)?.as_millis()).unwrap_or(i64::MAX)),
            None if text == "now" => now,
            None => absolute(text)
                .ok_or("expected a time such as 2026-01-27T15:37:00Z or 2026-01-27 (UTC unless it says otherwise), one before now such as -2h or -7d, or now")?,
        };
        Ok(Self { text: text.to_owned(), millis })
    }
}

/// Without an offset it is UTC, without a time of day midnight.
fn absolute(text: &str) -> Option<i64> {
    let forms = [text.to_owned(), format!("{text}Z"), format!("{text}T00:00:00Z")];
    forms.iter().find_map(|form| Timestamp::parse(form)).map(Timestamp::millis)
}

#[cfg(test)]
mod tests {
    use super::When;
    use asset_stream::Timestamp;

    fn millis(text: &str) -> i64 {
        text.parse::<When>().unwrap_or_else(|e| panic!("{text}: {e}")).millis
    }

    #[test]
    fn times_are_read_as_people_type_them() {
        for text in ["2026-01-27T15:00:00Z", "2026-01-27T15:00:00", "2026-01-27 15:00:00", "2026-01-27T15:00", "2026-01-27T16:00:00+01:00"]
        {
            assert_eq!(millis(text), 1_769_526_000_000, "{text}");
        }
        assert_eq!(millis("2026-01-27"), 1_769_472_000_000);
        let ago = Timestamp::now().millis() - millis("-2h");
        assert!((7_200_000..7_260_000).contains(&ago), "{ago}");
        assert!(millis("now") > 1_769_472_000_000);
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in ["", "yesterday", "-", "-2", "2026-13-01", "15:00"] {
            let error = text.parse::<When>().expect_err("no time");
            assert!(error.contains("expected"), "{text}: {error}");
        }
    }
}
