//! Times as people type them.

use asset_stream::Timestamp;
use service::units::parse_duration;

/// Reads `2026-01-27T15:37:03Z`, `2026-01-27`, `-2h`.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    let from_now = |back| {
        let back = i64::try_from(parse_duration(back).ok()?.as_millis()).ok()?;
        Some(Timestamp::from_millis(Timestamp::now().millis().saturating_sub(back)))
    };
    let time = match text.strip_prefix('-') {
        Some(back) => from_now(back),
        None => Timestamp::parse(text).or_else(|| Timestamp::parse(&format!("{text}T00:00:00Z"))),
    };
    time.ok_or_else(|| {
        "expected a time with its zone, as 2026-01-27T15:37:03Z, a day, as 2026-01-27 (UTC), or back from now, as -2h".into()
    })
}

#[cfg(test)]
mod tests {
    use super::parse;
    use asset_stream::Timestamp;

    #[test]
    fn times_are_read_as_people_type_them() {
        let time = |text| parse(text).map(|time| time.to_string());
        assert_eq!(time("2026-01-27T15:37:03Z").as_deref(), Ok("2026-01-27T15:37:03.000Z"));
        assert_eq!(time("2026-01-27T15:37:03.5+01:00").as_deref(), Ok("2026-01-27T14:37:03.500Z"));
        assert_eq!(time("2026-01-27").as_deref(), Ok("2026-01-27T00:00:00.000Z"));
        let back = Timestamp::now().millis() - parse("-2h").expect("two hours ago").millis();
        assert!((7_200_000..7_260_000).contains(&back), "two hours ago was {back} ms ago");
    }

    #[test]
    fn what_is_no_time_is_told_with_examples() {
        for text in ["", "yesterday", "2h", "-2", "-2 parsecs", "2026-01-27T15:37:03", "2026-13-01"] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("as 2026-01-27T15:37:03Z") && error.contains("as -2h"), "{text:?}: {error}");
        }
    }
}
