//! One value of a document.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::problem::Position;
use super::section::Section;
use super::tree::Content;
use super::{Place, Reading, join, shorten};

/// Parts of keys at which secrets stand, be it in the wrong form.
const SECRETS: [&str; 8] = ["pass", "pwd", "secret", "token", "credential", "login", "identity", "security"];

/// A value, and the way to it.
#[derive(Clone)]
pub struct Node<'d> {
    reading: Reading<'d>,
    path: String,
    /// Of the key that holds it; of the value itself in a list.
    holder: Position,
    index: usize,
}

impl<'d> Node<'d> {
    pub(super) fn new(reading: Reading<'d>, path: String, holder: Position, index: usize) -> Self {
        Self { reading, path, holder, index }
    }

    fn content(&self) -> &'d Content {
        &self.reading.document.tree.nodes[self.index].content
    }

    /// The way to it, e.g. `devices.furnace-1.uuid`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        self.reading.place(self.position())
    }

    fn position(&self) -> Position {
        match self.content() {
            // An empty value stands nowhere; a mapping or list is best found by its key.
            Content::Null | Content::Mapping(_) | Content::Sequence(_) => self.holder,
            Content::Scalar(_) => self.reading.document.tree.nodes[self.index].position,
        }
    }

    /// Empty, `~` or `null`, not quoted.
    pub fn is_null(&self) -> bool {
        matches!(self.content(), Content::Null)
    }

    /// A single value's text as it is written, without its quotes, `${NAME}` replaced. The error says what is there instead.
    pub fn text(&self) -> Result<Cow<'d, str>, String> {
        match self.content() {
            Content::Scalar(text) => {
                self.reading.environment.expand(text).map_err(|message| match self.may_be_secret(text) && !is_variable(text) {
                    true => {
                        "its `${` begins no name of a variable that is set; write `${NAME}`, or `$${` for the characters themselves".into()
                    }
                    false => message,
                })
            }
            _ => Err(format!("expected a single value, found {}", self.found())),
        }
    }

    pub(super) fn locate(&self, path: &Path) -> PathBuf {
        self.reading.environment.locate(path)
    }

    /// The items of a list; `None` if it is none.
    pub fn items(&self) -> Option<Vec<Node<'d>>> {
        let Content::Sequence(items) = self.content() else { return None };
        let node = |(i, index): (usize, &usize)| {
            let position = self.reading.document.tree.nodes[*index].position;
            Node::new(self.reading, format!("{}[{i}]", self.path), position, *index)
        };
        Some(items.iter().enumerate().map(node).collect())
    }

    /// The value as a mapping; `None` if it is none.
    pub fn section(&self) -> Option<Section<'d>> {
        let Content::Mapping(entries) = self.content() else { return None };
        Some(Section::new(self.reading, self.path.clone(), self.holder, entries))
    }

    /// The value as one of several words, in this spelling. The error lists them.
    ///
    /// ```
    /// # use asset_stream::document::{FromNode, Node};
    /// enum Access { Read, ReadWrite }
    ///
    /// impl FromNode for Access {
    ///     fn from_node(node: &Node<'_>) -> Result<Self, String> {
    ///         node.one_of([("r", Access::Read), ("rw", Access::ReadWrite)])
    ///     }
    /// }
    /// ```
    pub fn one_of<T>(&self, words: impl IntoIterator<Item = (&'static str, T)>) -> Result<T, String> {
        let text = self.text()?;
        let mut expected = Vec::new();
        for (word, value) in words {
            if *text == *word {
                return Ok(value);
            }
            expected.push(format!("`{word}`"));
        }
        let last = expected.pop().unwrap_or_default();
        let list = if expected.is_empty() { last } else { format!("{} or {last}", expected.join(", ")) };
        Err(format!("expected {list}, found {}", self.found()))
    }

    /// What is there, for "expected a number, found …". It shows the text as written: never what the environment gave, nor what may be a secret.
    pub fn found(&self) -> String {
        match self.content() {
            Content::Null => "nothing".into(),
            Content::Scalar(text) if self.may_be_secret(text) => "a text that is not shown, as it may be a secret".into(),
            Content::Scalar(text) => format!("`{}`", shorten(text, 60)),
            Content::Sequence(_) => "a list".into(),
            Content::Mapping(_) => "a mapping (`key: value` lines)".into(),
        }
    }

    /// By the key, or by the login in an address.
    fn may_be_secret(&self, text: &str) -> bool {
        let is_secret = |key: &str| SECRETS.iter().any(|part| key.to_lowercase().contains(part));
        let key = self.path.rsplit('.').next().unwrap_or_default();
        is_secret(key) || key == "key" || text.contains("://") && text.contains('@')
    }

    /// Records a problem with this value.
    pub fn problem(&self, message: impl Into<String>) {
        self.reading.problem(&self.path, self.position(), message.into());
    }

    /// Records a warning about this value.
    pub fn warning(&self, message: impl Into<String>) {
        self.reading.warning(&self.path, self.position(), message.into());
    }

    pub(super) fn child(reading: Reading<'d>, path: &str, entry: &'d super::tree::Entry) -> Self {
        Self::new(reading, join(path, &entry.key), entry.position, entry.value)
    }
}

/// `${NAME}` alone.
fn is_variable(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
    name.is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({} at {}: {})", self.path, self.place(), self.found())
    }
}
