//! serde's sentences in the words of our own readers: what is expected, then what was found, and what to do.

use crate::secret;

/// What is wrong with the value of a key, without what stands there where that may be a secret.
pub(super) fn in_words(key: &str, message: &str) -> String {
    if let Some(field) = missing_field(message) {
        return format!("`{field}` is missing");
    }
    if let Some((field, known)) = unknown(message, "unknown field `") {
        return match nearest(field, &known) {
            _ if known.is_empty() => format!("unknown key `{field}`"),
            Some(near) => format!("unknown key `{field}`; did you mean `{near}`?"),
            None => format!("unknown key `{field}`; known here: {}", known.join(", ")),
        };
    }
    let (expected, found) = expected(message);
    let is_login = message.contains("://") && message.contains('@');
    match (expected, found) {
        (Some(expected), _) if secret::may_stand_at(key) || is_login => {
            format!("expected {expected}; what stands there is not shown, as it may be a secret")
        }
        (None, _) if secret::may_stand_at(key) || is_login => "it cannot be used; it is not shown, as it may be a secret".into(),
        (Some(expected), Some(found)) => format!("expected {expected}, found {found}"),
        _ => message.to_owned(),
    }
}

/// The key that serde misses.
pub(super) fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// What serde expects, and what it found.
fn expected(message: &str) -> (Option<String>, Option<String>) {
    if let Some((found, known)) = unknown(message, "unknown variant `") {
        let known: Vec<_> = known.iter().map(|word| format!("\"{word}\"")).collect();
        let list = match known.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => "nothing".into(),
        };
        return (Some(list), Some(format!("\"{found}\"")));
    }
    let of_serde = ["invalid type: ", "invalid value: "].iter().find_map(|start| message.strip_prefix(start));
    if let Some((found, expected)) = of_serde.and_then(|rest| rest.rsplit_once(", expected ")) {
        return (Some(in_our_words(expected)), Some(what(found)));
    }
    // Our own readers.
    let own = message.strip_prefix("expected ").and_then(|rest| rest.split_once(", found "));
    (own.map(|(expected, _)| expected.to_owned()), own.map(|(_, found)| found.to_owned()))
}

/// The word that is not known, and those that are.
fn unknown<'m>(message: &'m str, start: &str) -> Option<(&'m str, Vec<&'m str>)> {
    let (word, known) = message.strip_prefix(start)?.split_once('`')?;
    // Between grave accents: "expected one of `a`, `b`", "expected `a` or `b`", "there are no fields".
    Some((word, known.split('`').skip(1).step_by(2).collect()))
}

fn in_our_words(expected: &str) -> String {
    let numbers = |first: &str, last: &str| format!("a whole number from {first} to {last}");
    match expected {
        "a string" | "path string" => "a text in quotes".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "a map" => "a table".into(),
        "u8" => numbers("0", "255"),
        "u16" => numbers("0", "65535"),
        "u32" => numbers("0", "4294967295"),
        "u64" | "usize" => "a whole number, not below 0".into(),
        "i32" => numbers("-2147483648", "2147483647"),
        "f64" | "f32" => "a number".into(),
        other if other.starts_with("struct ") => "a table".into(),
        other => other.to_owned(),
    }
}

/// `integer `5`` becomes `5`, as it is written.
fn what(found: &str) -> String {
    match found {
        "map" => "a table".into(),
        "sequence" => "a list".into(),
        _ => {
            let value = ["integer ", "floating point ", "boolean ", "string "].iter().find_map(|kind| found.strip_prefix(kind));
            value.unwrap_or(found).trim_matches('`').to_owned()
        }
    }
}

/// The known word that the written one was probably meant to be.
fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |word: &&str| strsim::osa_distance(&written.to_lowercase(), &word.to_lowercase());
    let word = known.iter().copied().min_by_key(|word| distance(word))?;
    let (distance, length) = (distance(&word), word.len());
    (written.len() <= 64 && distance <= (length / 3).clamp(1, 3) && distance * 2 <= length).then_some(word)
}
