//! One mapping that is being read.

use super::from_node::FromNode;
use super::nearest::nearest;
use super::node::Node;
use super::problem::{Place, Position, Problems};
use super::tree::Entry;
use super::{Reading, join, shorten};

/// A mapping that knows where it stood and which of its keys were asked for.
///
/// Call [`Section::finish`] at the end: what nobody asked for is a mistake then.
#[derive(Clone)]
#[must_use = "unknown keys are found by `finish`"]
pub struct Section<'d> {
    reading: Reading<'d>,
    path: String,
    position: Position,
    entries: &'d [Entry],
    asked: Vec<String>,
}

impl<'d> Section<'d> {
    pub(super) fn new(reading: Reading<'d>, path: String, position: Position, entries: &'d [Entry]) -> Self {
        Self { reading, path, position, entries, asked: Vec::new() }
    }

    /// The way to it, e.g. `devices.furnace-1.connector`; empty at the top of a file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where the key stands; where the section stands if it has no such key.
    pub fn place(&self, key: &str) -> Place {
        self.reading.place(self.position_of(key))
    }

    fn position_of(&self, key: &str) -> Position {
        self.entry(key).map_or(self.position, |entry| entry.position)
    }

    fn entry(&self, key: &str) -> Option<&'d Entry> {
        self.entries.iter().find(|entry| &*entry.key == key)
    }

    /// The keys, in the order of the file.
    pub fn keys(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        self.entries.iter().map(|entry| &*entry.key)
    }

    /// Whether the key is there, with or without a value. It does not count as asking for it.
    pub fn contains(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// The key's value, if the key is there and has one.
    pub fn node(&mut self, key: &str) -> Option<Node<'d>> {
        if !self.asked.iter().any(|asked| asked == key) {
            self.asked.push(key.to_owned());
        }
        Some(Node::child(self.reading, &self.path, self.entry(key)?)).filter(|node| !node.is_null())
    }

    /// A value that must be there. `None`: a problem was recorded.
    pub fn required<T: FromNode>(&mut self, key: &str) -> Option<T> {
        match self.node(key) {
            Some(node) => T::read(&node),
            None => {
                self.missing(key);
                None
            }
        }
    }

    /// A value that may be there. `None`: it is not, or a problem was recorded.
    pub fn optional<T: FromNode>(&mut self, key: &str) -> Option<T> {
        T::read(&self.node(key)?)
    }

    /// A value that may be there, and what holds otherwise.
    pub fn or<T: FromNode>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// A nested mapping that may be there. `None`: it is not, or a problem was recorded.
    pub fn section(&mut self, key: &str) -> Option<Section<'d>> {
        let node = self.node(key)?;
        let section = node.section();
        if section.is_none() {
            node.problem(format!("expected `key: value` lines, found {}", node.found()));
        }
        section
    }

    /// A nested mapping that must be there. `None`: a problem was recorded.
    pub fn required_section(&mut self, key: &str) -> Option<Section<'d>> {
        if self.node(key).is_none() {
            self.missing(key);
        }
        self.section(key)
    }

    /// A mapping of names that the user chose to mappings, in the order of the file; empty if it is not there.
    pub fn entries(&mut self, key: &str) -> Vec<(String, Section<'d>)> {
        let Some(section) = self.section(key) else { return Vec::new() };
        let mut entries = Vec::with_capacity(section.entries.len());
        for entry in section.entries {
            let node = Node::child(self.reading, &section.path, entry);
            match node.section() {
                Some(section) => entries.push((entry.key.to_string(), section)),
                None => node.problem(format!("expected `key: value` lines, found {}", node.found())),
            }
        }
        entries
    }

    /// A mapping of names that the user chose to single values, in the order of the file; empty if it is not there.
    pub fn values<T: FromNode>(&mut self, key: &str) -> Vec<(String, T)> {
        let Some(section) = self.section(key) else { return Vec::new() };
        let mut values = Vec::with_capacity(section.entries.len());
        for entry in section.entries {
            let node = Node::child(self.reading, &section.path, entry);
            if node.is_null() {
                node.problem("has no value");
            } else if let Some(value) = T::read(&node) {
                values.push((entry.key.to_string(), value));
            }
        }
        values
    }

    fn missing(&self, key: &str) {
        let message = if self.contains(key) { format!("`{key}` has no value") } else { format!("`{key}` is missing") };
        self.problem(key, message);
    }

    /// Records a problem at the key's line; at the section's where it has no such key, or for the key `""`.
    pub fn problem(&self, key: &str, message: impl Into<String>) {
        self.reading.problem(&self.path_of(key), self.position_of(key), message.into());
    }

    /// Records a warning, placed as [`Section::problem`] places it.
    pub fn warning(&self, key: &str, message: impl Into<String>) {
        self.reading.warning(&self.path_of(key), self.position_of(key), message.into());
    }

    /// Where this reading's problems are recorded, e.g. to learn by [`Problems::len`] whether a part of it was sound.
    pub fn problems(&self) -> &'d Problems {
        self.reading.problems
    }

    fn path_of(&self, key: &str) -> String {
        if key.is_empty() { self.path.clone() } else { join(&self.path, key) }
    }

    /// Records a problem for each key that nobody asked for.
    pub fn finish(self) {
        for entry in self.entries {
            if self.asked.iter().any(|asked| **asked == *entry.key) {
                continue;
            }
            let hint = match nearest(&entry.key, self.asked.iter().map(String::as_str)) {
                Some(near) => format!("; did you mean `{near}`?"),
                None if self.asked.is_empty() => String::new(),
                None => format!("; known here: {}", self.asked.join(", ")),
            };
            let message = format!("unknown key `{}`{hint}", shorten(&entry.key, 80));
            self.reading.problem(&join(&self.path, &entry.key), entry.position, message);
        }
    }
}

impl std::fmt::Debug for Section<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Section({} at {}: {} keys)", self.path, self.reading.place(self.position), self.entries.len())
    }
}
