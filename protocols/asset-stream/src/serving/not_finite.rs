//! `NaN`, `Infinity` and `-Infinity` as Python's `json.dumps` writes them, which is no JSON.

use std::borrow::Cow;

use super::Served;

/// The text with these words as strings, as our edges write such values; `None` if there are none outside of strings.
pub(super) fn quoted(text: &str) -> Option<String> {
    let (mut out, mut rest, mut has_any) = (String::with_capacity(text.len() + 16), text, false);
    while !rest.is_empty() {
        let word = ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| rest.starts_with(word));
        let end = match word {
            Some(word) => word.len(),
            None if rest.starts_with('"') => end_of_string(rest),
            None => rest.char_indices().skip(1).find(|(_, c)| "\"NI-".contains(*c)).map_or(rest.len(), |(at, _)| at),
        };
        let (part, after) = rest.split_at(end);
        match word {
            Some(word) => out.extend(["\"", word, "\""]),
            None => out.push_str(part),
        }
        has_any |= word.is_some();
        rest = after;
    }
    has_any.then_some(out)
}

/// The place behind the closing quote of the string that `text` begins with.
fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    let closing = text.char_indices().skip(1).find(|(_, c)| {
        let is_closing = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        is_closing
    });
    closing.map_or(text.len(), |(at, _)| at + 1)
}

impl Served<'_> {
    pub(super) fn into_owned<'o>(self) -> Served<'o> {
        Served { id: Cow::Owned(self.id.into_owned()), payload: self.payload }
    }
}
