//! Names with `*`.

use serde::{Deserialize, Deserializer};

/// A name, in which each `*` stands for any text. Upper and lower case differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(String);

impl Pattern {
    /// `*`
    pub(crate) fn anything() -> Self {
        Self("*".into())
    }

    /// Whether the name is one of those.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            // The first place is as good as any later one: what follows has more room behind it.
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn a_star_is_any_text_and_all_else_is_itself() {
        for (pattern, name, matches) in [
            ("HMI-7", "HMI-7", true),
            ("HMI-7", "HMI-77", false),
            ("HMI-*", "HMI-", true),
            ("HMI-*", "hmi-7", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("*-7", "HMI-7", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("*ö*", "xöx", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(Pattern(pattern.into()).matches(name), matches, "{pattern} and {name}");
        }
    }
}
