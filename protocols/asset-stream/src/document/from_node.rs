//! Values of the types that configs are made of.

use std::path::{Path, PathBuf};

use super::node::Node;

/// A type that a value can be read as.
pub trait FromNode: Sized {
    /// Reads the value; the error is for people: what was expected, and what is there ([`Node::found`]).
    fn from_node(node: &Node<'_>) -> Result<Self, String>;

    /// Reads the value, recording the error at its place. Lists do so at each item's.
    fn read(node: &Node<'_>) -> Option<Self> {
        Self::from_node(node).map_err(|message| node.problem(message)).ok()
    }
}

/// The text as it is written.
impl FromNode for String {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        node.text().map(Into::into)
    }
}

/// Where the path leads ([`super::Environment::with_paths`]).
impl FromNode for PathBuf {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        let text = node.text()?;
        if text.is_empty() { Err("expected a path, found nothing".into()) } else { Ok(node.locate(Path::new(&*text))) }
    }
}

/// `true`, `yes`, `on` and their opposites, in lower case, Capitalised or UPPER CASE.
impl FromNode for bool {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        match &*node.text()? {
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Ok(true),
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Ok(false),
            _ => Err(format!("expected `true` or `false`, found {}", node.found())),
        }
    }
}

/// A finite number, with or without decimals and exponent.
impl FromNode for f64 {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        let text = node.text()?;
        // Rust would take "inf" and "nan" as well.
        let number =
            text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E')).then(|| text.parse::<f64>().ok());
        number.flatten().filter(|n| n.is_finite()).ok_or_else(|| format!("expected a number, found {}", node.found()))
    }
}

/// As [`f64`], rounded to the nearest; too large for it is an error.
impl FromNode for f32 {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        let number = f64::from_node(node)? as f32;
        if number.is_finite() { Ok(number) } else { Err(format!("{} is too large for a 32-bit number", node.found())) }
    }
}

fn integer(node: &Node<'_>) -> Result<i128, String> {
    let text = node.text()?;
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, &*text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'0'..=b'9', ..] if digits.bytes().all(|b| b.is_ascii_digit()) => {
            return Err(format!("{} can be read as octal and as decimal; write it without the leading 0, or as 0o…", node.found()));
        }
        _ => (10, digits),
    };
    // `from_str_radix` would take a second sign.
    let number = digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| i128::from_str_radix(digits, radix).ok()).flatten();
    let number = number.ok_or_else(|| format!("expected a whole number, found {}", node.found()))?;
    Ok(if negative { -number } else { number })
}

macro_rules! integers {
    ($($integer:ty),+) => {$(
        /// Decimal, `0x` hexadecimal or `0o` octal, within the type's range.
        impl FromNode for $integer {
            fn from_node(node: &Node<'_>) -> Result<Self, String> {
                let number = integer(node)?;
                Self::try_from(number).map_err(|_| format!("{} is out of range: {} to {}", node.found(), Self::MIN, Self::MAX))
            }
        }
    )+};
}
integers!(i8, i16, i32, i64, isize, u8, u16, u32, u64, usize);

/// A list.
impl<T: FromNode> FromNode for Vec<T> {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        let items = node.items().ok_or_else(|| format!("expected a list, found {}", node.found()))?;
        let item = |(i, node): (usize, &Node<'_>)| T::from_node(node).map_err(|e| format!("item {}: {e}", i + 1));
        items.iter().enumerate().map(item).collect()
    }

    fn read(node: &Node<'_>) -> Option<Self> {
        let Some(items) = node.items() else {
            node.problem(format!("expected a list, found {}", node.found()));
            return None;
        };
        let read: Vec<Option<T>> = items.iter().map(T::read).collect();
        read.into_iter().collect()
    }
}
