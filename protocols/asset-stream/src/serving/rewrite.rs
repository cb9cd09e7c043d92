//! Copies a JSON object while leaving members out and adding others, in one pass over its text.
//!
//! `serde_json` says where keys and values stand and that all of it is sound; the text between the places of change is copied as it is.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{ADDED, ADDED_BYTES, Facts, Served, write_facts};
use crate::Malformed;

pub(super) fn rewrite<'t>(text: &'t str, facts: &Facts) -> Result<Served<'t>, Malformed> {
    let out = Vec::with_capacity(text.len() + ADDED_BYTES);
    let start = text.find('{').unwrap_or(0);
    let mut copy = Copy { text, facts, out, copied: start, id: None, has_attributes: false, at: None };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let end = (&mut copy).deserialize(&mut deserializer).and_then(|end| deserializer.end().map(|()| end));
    match (end, copy.at) {
        (Ok(end), _) => copy.up_to(end),
        (Err(e), Some((field, problem))) if e.is_data() => return Err(Malformed::Field { field, problem: problem.into() }),
        (Err(e), _) => return Err(Malformed::NotAnObject(Some(e))),
    }
    let id = copy.id.ok_or(Malformed::Field { field: "ID", problem: "missing".into() })?;
    Ok(Served { id, payload: copy.out })
}

struct Copy<'t, 'f> {
    text: &'t str,
    facts: &'f Facts,
    out: Vec<u8>,
    /// The text before this place is in `out`, or left out.
    copied: usize,
    id: Option<Cow<'t, str>>,
    has_attributes: bool,
    /// The member that is being read, and what is wrong if it is of another type.
    at: Option<(&'static str, &'static str)>,
}

/// How far an object was read.
struct Level {
    /// The end of the last member's value; behind the `{` before there is one.
    end: usize,
    keeps_any: bool,
    /// Everything so far is left out, up to the next key, so that no comma stays behind.
    skips_to_next: bool,
}

impl Level {
    /// An object whose `{` stands at or after `from`, with nothing but white space and `:` between.
    fn new(text: &str, from: usize) -> Self {
        Self { end: find(text, from, b'{') + 1, keeps_any: false, skips_to_next: false }
    }

    /// A key begins.
    fn key(&mut self, copy: &mut Copy<'_, '_>, key: usize) {
        if self.skips_to_next {
            copy.copied = key;
            self.skips_to_next = false;
        }
    }

    fn keep(&mut self, end: usize) {
        self.keeps_any = true;
        self.end = end;
    }

    /// Leaves out the member from `key` to `end`, with the comma before it, or after it if it is the first.
    fn leave_out(&mut self, copy: &mut Copy<'_, '_>, key: usize, end: usize) {
        copy.up_to(if self.keeps_any { self.end } else { key });
        copy.copied = end;
        self.skips_to_next = !self.keeps_any;
        self.end = end;
    }
}

/// The first `byte` at or after `from`; where it is known to be there, with no string between.
fn find(text: &str, from: usize, byte: u8) -> usize {
    text.as_bytes()[from..].iter().position(|b| *b == byte).map_or(text.len(), |n| from + n)
}

impl<'t> Copy<'t, '_> {
    fn up_to(&mut self, end: usize) {
        if self.copied < end {
            self.out.extend_from_slice(&self.text.as_bytes()[self.copied..end]);
            self.copied = end;
        }
    }

    /// Where a part of the text stands in it.
    fn place(&self, part: &str) -> (usize, usize) {
        let start = part.as_ptr() as usize - self.text.as_ptr() as usize;
        (start, start + part.len())
    }

    /// The end of an object is reached, and members are added to it.
    fn begin_to_add(&mut self, level: &Level) {
        self.up_to(level.end);
        if level.keeps_any {
            self.out.push(b',');
        }
    }

    /// The end of an object is reached. Gives back the place behind its `}`.
    fn close(&mut self, level: &Level) -> usize {
        self.up_to(level.end);
        find(self.text, level.end, b'}') + 1
    }
}

/// The record: gives back the place behind its `}`.
impl<'t> DeserializeSeed<'t> for &mut Copy<'t, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'t> Visitor<'t> for &mut Copy<'t, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'t>>(self, mut map: M) -> Result<usize, M::Error> {
        let mut level = Level::new(self.text, 0);
        while let Some(name) = map.next_key::<&'t RawValue>()? {
            let name = name.get();
            let (key, key_end) = self.place(name);
            level.key(self, key);
            if is_named(name, "attributes") {
                self.has_attributes = true;
                self.at = Some(("attributes", "expected an object"));
                let end = map.next_value_seed(Attributes { copy: self, from: key_end })?;
                self.at = None;
                level.keep(end);
                continue;
            }
            let value = map.next_value::<&'t RawValue>()?.get();
            let (_, end) = self.place(value);
            if is_named(name, "ID") {
                if self.id.is_none() {
                    self.at = Some(("ID", "expected a string"));
                    self.id = Some(string(value).ok_or_else(|| serde::de::Error::custom("ID is no string"))?);
                    self.at = None;
                }
                level.leave_out(self, key, end);
            } else {
                level.keep(end);
            }
        }
        if !self.has_attributes {
            self.begin_to_add(&level);
            self.out.extend_from_slice(b"\"attributes\":{");
            write_facts(self.facts, &mut self.out);
            self.out.push(b'}');
        }
        Ok(self.close(&level))
    }
}

/// The value of `attributes`, whose key ends at `from`: gives back its end.
struct Attributes<'c, 't, 'f> {
    copy: &'c mut Copy<'t, 'f>,
    from: usize,
}

impl<'t> DeserializeSeed<'t> for Attributes<'_, 't, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'t> Visitor<'t> for Attributes<'_, 't, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'t>>(self, mut map: M) -> Result<usize, M::Error> {
        let copy = self.copy;
        let mut level = Level::new(copy.text, self.from);
        while let Some(name) = map.next_key::<&'t RawValue>()? {
            let name = name.get();
            let (key, _) = copy.place(name);
            let (_, end) = copy.place(map.next_value::<&'t RawValue>()?.get());
            level.key(copy, key);
            if is_added(name) {
                level.leave_out(copy, key, end);
            } else {
                level.keep(end);
            }
        }
        copy.begin_to_add(&level);
        write_facts(copy.facts, &mut copy.out);
        Ok(copy.close(&level))
    }

    /// `null` stands for no attributes.
    fn visit_unit<E>(self) -> Result<usize, E> {
        const NULL: &str = "null";
        let copy = self.copy;
        let null = find(copy.text, self.from, b'n');
        copy.up_to(null);
        copy.out.push(b'{');
        write_facts(copy.facts, &mut copy.out);
        copy.out.push(b'}');
        copy.copied = null + NULL.len();
        Ok(copy.copied)
    }
}

/// Whether a key, as it is written, is this word in any case.
fn is_named(json: &str, word: &str) -> bool {
    // Most keys are told apart by their length.
    (json.len() == word.len() + 2 || json.contains('\\')) && string(json).is_some_and(|name| name.eq_ignore_ascii_case(word))
}

fn is_added(json: &str) -> bool {
    string(json).is_some_and(|name| ADDED.contains(&&*name))
}

/// A JSON string's text.
fn string(json: &str) -> Option<Cow<'_, str>> {
    let text = json.strip_prefix('"')?.strip_suffix('"')?;
    if text.as_bytes().contains(&b'\\') { serde_json::from_str(json).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(text)) }
}
