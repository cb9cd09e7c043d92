//! NATS subjects of events: `<asset>.<ID>`, with a prefix before it in JetStream.
//!
//! An asset's UUID and an item's `ID` may be any string; a token of a subject may not. What a token cannot carry is written as `%XX`, the
//! bytes of its UTF-8 in hexadecimal, and `%` itself as `%25`: white space, control characters, `.`, `*`, `>`, bytes that are not UTF-8,
//! and a `$` at the beginning (the server's own subjects begin so). An empty string is a single `%`.
//!
//! Plain names, those of any language included, stay as they are, so existing subscribers find them; [`unescape`] gives back what
//! [`escape`] took, and two different names never share a token.
//!
//! ```
//! use asset_stream::subject;
//!
//! assert_eq!(subject::plain(b"CNC-1", "temp").as_deref(), Ok("CNC-1.temp"));
//! assert_eq!(subject::join(&["ofa", "CNC-1", &subject::escape(b"Temp v1.2")]).as_deref(), Ok("ofa.CNC-1.Temp%20v1%2E2"));
//! assert_eq!(subject::unescape("Temp%20v1%2E2").as_deref(), Some(b"Temp v1.2".as_slice()));
//! ```

use std::borrow::Cow;

/// The longest subject, in bytes: with the reply subject and two sizes it fits into the line of 4 KiB beyond which a NATS server closes the
/// connection.
pub const MAX_LENGTH: usize = 2048;

/// The subject is longer than [`MAX_LENGTH`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the subject has {0} bytes; at most {MAX_LENGTH} are sure to fit into what NATS reads")]
pub struct TooLong(pub usize);

/// `<asset>.<ID>`: what subscribers see. `asset` is the record's key.
pub fn plain(asset: &[u8], id: &str) -> Result<String, TooLong> {
    join(&[&escape(asset), &escape(id.as_bytes())])
}

/// Tokens as a subject.
pub fn join(tokens: &[&str]) -> Result<String, TooLong> {
    let subject = tokens.join(".");
    if subject.len() > MAX_LENGTH { Err(TooLong(subject.len())) } else { Ok(subject) }
}

/// A name as a token of a subject.
pub fn escape(name: &[u8]) -> Cow<'_, str> {
    let is_plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'%' | b'.' | b'*' | b'>' | b'$');
    match std::str::from_utf8(name) {
        Ok(text) if !text.is_empty() && name.iter().all(is_plain) => return Cow::Borrowed(text),
        _ => {}
    }
    if name.is_empty() {
        return Cow::Borrowed("%");
    }
    let mut token = String::with_capacity(name.len() + 16);
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if needs_escape(c) || (c == '$' && token.is_empty()) {
                write_bytes(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut token);
            } else {
                token.push(c);
            }
        }
        write_bytes(chunk.invalid(), &mut token);
    }
    Cow::Owned(token)
}

fn needs_escape(c: char) -> bool {
    matches!(c, '%' | '.' | '*' | '>') || c.is_whitespace() || c.is_control()
}

fn write_bytes(bytes: &[u8], token: &mut String) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    for b in bytes {
        token.extend(['%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
    }
}

/// The name that a token stands for; `None` if a `%` in it is not followed by two hexadecimal digits.
pub fn unescape(token: &str) -> Option<Vec<u8>> {
    if token == "%" {
        return Some(Vec::new());
    }
    let mut name = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            name.push(*first);
            rest = after;
            continue;
        }
        let [high, low, after @ ..] = after else { return None };
        let digit = |b: u8| char::from(b).to_digit(16);
        name.push((digit(*high)? * 16 + digit(*low)?) as u8);
        rest = after;
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::{MAX_LENGTH, TooLong, escape, join, plain, unescape};
    use proptest::prelude::*;

    #[test]
    fn plain_names_stay_as_they_are() {
        for name in ["OPCUA-SENSOR-001", "temp", "a_b", "x/y:z", "größe", "温度", "a$b"] {
            assert_eq!(escape(name.as_bytes()), name);
        }
    }

    #[test]
    fn what_a_token_cannot_carry_is_escaped() {
        for (name, token) in [
            ("", "%"),
            ("a b", "a%20b"),
            ("a.b", "a%2Eb"),
            ("*", "%2A"),
            (">", "%3E"),
            ("100%", "100%25"),
            ("%", "%25"),
            ("\r\n\t\0", "%0D%0A%09%00"),
            ("$SYS", "%24SYS"),
            ("a\u{a0}b\u{2003}", "a%C2%A0b%E2%80%83"),
        ] {
            assert_eq!(escape(name.as_bytes()), token, "{name:?}");
            assert_eq!(unescape(token), Some(name.as_bytes().to_vec()), "{token}");
        }
        assert_eq!(escape(b"a\xff\xc3"), "a%FF%C3");
        for broken in ["%2", "%zz", "a%", "%%25"] {
            assert_eq!(unescape(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_subject_that_no_server_takes_is_refused() {
        assert_eq!(plain(&[b'a'; 2043], "temp").map(|s| s.len()), Ok(MAX_LENGTH));
        assert_eq!(plain(&[b'a'; 2044], "temp"), Err(TooLong(MAX_LENGTH + 1)));
        assert_eq!(plain(&[b' '; 1000], "temp"), Err(TooLong(3000 + 1 + 4)));
        assert_eq!(join(&["ofa", &"a".repeat(2045)]), Err(TooLong(MAX_LENGTH + 1)));
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in any::<Vec<u8>>()) {
            let token = escape(&name);
            prop_assert!(!token.is_empty());
            prop_assert!(!token.chars().any(|c| c.is_whitespace() || c.is_control() || ".*>".contains(c)), "{}", token);
            prop_assert_eq!(unescape(&token), Some(name.clone()));
        }

        #[test]
        fn no_token_makes_unescape_panic(token in "[%0-9a-zA-Zé]{0,12}") {
            if let Some(name) = unescape(&token) {
                prop_assert_eq!(unescape(&escape(&name)), Some(name));
            }
        }
    }
}
