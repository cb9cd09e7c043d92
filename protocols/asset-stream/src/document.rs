//! YAML files that people write: every value knows where it stood, and all mistakes are reported at once.
//!
//! The caller asks a [`Section`] for the keys it knows, with the type it wants; what is missing, of the wrong type, twice there
//! or never asked for becomes a [`Problem`] with file, line, column, key and remedy, and reading goes on.
//!
//! Because the caller says which type it wants, YAML's guessing has no say: a `String` gives the text as it is written (`007`,
//! `no`, `1.0`), a `bool` takes `true`, `yes`, `on` and their opposites, a number takes a number, quoted or not.
//! A value that is empty, `~` or `null` counts as not given.
//!
//! `${NAME}` in a value is replaced from the environment, `$${` stands for `${`; keys are taken as they are, and what came from the
//! environment is never replaced again, nor shown in a message. Anchors, aliases and merge keys (`<<`) work.
//!
//! Limits, so that no file can exhaust the machine: [`MAX_BYTES`], [`MAX_NODES`], [`MAX_DEPTH`].
//!
//! ```
//! use asset_stream::document::{Document, Environment, Problems};
//!
//! let problems = Problems::new();
//! let environment = Environment::from_fn(|name| (name == "HOST").then(|| "10.0.0.5".to_owned()));
//! let document = Document::parse("plc.yaml", b"host: ${HOST}\nprot: 502\n", &problems);
//! if let Some(document) = &document {
//!     let mut root = document.root(&environment, &problems);
//!     assert_eq!(root.required::<String>("host").as_deref(), Some("10.0.0.5"));
//!     assert_eq!(root.or("port", 502_u16), 502);
//!     root.finish();
//! }
//! let seen: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
//! assert_eq!(seen, ["plc.yaml:2:1: prot: unknown key `prot`; did you mean `port`?"]);
//! ```

mod environment;
mod from_node;
mod nearest;
mod node;
mod problem;
mod section;
mod tree;

use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use environment::Environment;
pub use from_node::FromNode;
pub use nearest::nearest;
pub use node::Node;
pub use problem::{Place, Problem, Problems};
pub use section::Section;
pub use tree::{MAX_BYTES, MAX_DEPTH, MAX_NODES};

use problem::Position;
use tree::{Content, Tree};

/// One file, parsed. It keeps no reference to its text.
#[derive(Debug)]
pub struct Document {
    file: PathBuf,
    tree: Tree,
}

impl Document {
    /// Parses a file's bytes; `file` is its name in messages. `None`: it is not one YAML document with a mapping at its top, and
    /// the problem was recorded. An empty file is an empty mapping.
    pub fn parse(file: impl Into<PathBuf>, bytes: &[u8], problems: &Problems) -> Option<Self> {
        let file = file.into();
        let tree = Tree::parse(&file, bytes, problems)?;
        Some(Self { file, tree })
    }

    /// The name that messages give the file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether the file says nothing: no text, comments only, or `null`.
    pub fn is_empty(&self) -> bool {
        self.tree.root.is_none()
    }

    /// The mapping at the top of the file.
    pub fn root<'d>(&'d self, environment: &'d Environment, problems: &'d Problems) -> Section<'d> {
        let reading = Reading { document: self, environment, problems };
        let entries = match self.tree.root.map(|root| &self.tree.nodes[root].content) {
            Some(Content::Mapping(entries)) => entries.as_slice(),
            _ => &[],
        };
        Section::new(reading, String::new(), Position { line: 1, column: 1 }, entries)
    }
}

/// A file's bytes, for [`Document::parse`]: of one that is too large, as many as show it. Opened, a pipe would wait for somebody to write:
/// anything but a regular file is an error. Blocks.
pub fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(file)?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What every node and section of one reading shares.
#[derive(Clone, Copy)]
struct Reading<'d> {
    document: &'d Document,
    environment: &'d Environment,
    problems: &'d Problems,
}

impl Reading<'_> {
    fn problem(&self, path: &str, position: Position, message: String) {
        self.problems.push(self.place(position).problem(path, message));
    }

    fn warning(&self, path: &str, position: Position, message: String) {
        self.problems.warn(self.place(position).problem(path, message));
    }

    fn place(&self, position: Position) -> Place {
        Place { file: self.document.file.clone(), line: position.line as usize, column: position.column as usize }
    }
}

/// Joins a key to the path above it. Very long keys are shortened: the line says where they are.
fn join(path: &str, key: &str) -> String {
    let key = shorten(key, 80);
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The first `max` characters, and a sign that there is more; control characters escaped, so that messages stay on their line.
fn shorten(text: &str, max: usize) -> String {
    let mut short: String =
        text.chars().take(max).flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
    if text.chars().nth(max).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
