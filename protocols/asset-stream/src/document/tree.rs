//! A YAML document as a flat list of nodes: no recursion, so that no nesting can overflow the stack, not even when it is dropped.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::problem::{Place, Position, Problems};
use super::{join, shorten};

/// Larger files are refused. 10,000 tags take about 1 MiB.
pub const MAX_BYTES: usize = 8 << 20;
/// Files with more values are refused, also when merge keys make the number.
pub const MAX_NODES: usize = 1 << 20;
/// Deeper nesting is refused.
pub const MAX_DEPTH: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Stored>,
    /// `None`: the document is empty.
    pub(super) root: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Stored {
    pub(super) position: Position,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// Empty, `~` or `null`, not quoted.
    Null,
    Scalar(Box<str>),
    Sequence(Vec<usize>),
    Mapping(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Arc<str>,
    pub(super) position: Position,
    pub(super) value: usize,
}

impl Tree {
    pub(super) fn parse(file: &Path, bytes: &[u8], problems: &Problems) -> Option<Self> {
        let text = match text(bytes) {
            Ok(text) => text,
            Err((position, message)) => {
                problems.push(place(file, position).problem("", message));
                return None;
            }
        };
        let before = problems.len();
        let mut builder = Builder { file, problems, tree: Self::default(), stack: Vec::new(), anchors: HashMap::new(), merged: 0 };
        match builder.build(text) {
            Ok(()) => {
                let tree = builder.tree;
                match tree.root.map(|root| &tree.nodes[root]) {
                    Some(Stored { position, content: Content::Scalar(_) | Content::Sequence(_) }) => {
                        problems.push(place(file, *position).problem("", "expected `key: value` lines at the top of the file"));
                        None
                    }
                    // Duplicate keys and the like are recorded; the rest of the file is still read, for its own mistakes.
                    _ => Some(tree),
                }
            }
            Err(Stop { position, message }) => {
                let key = builder.path();
                problems.push(place(file, position).problem(&key, message));
                debug_assert!(problems.len() > before);
                None
            }
        }
    }
}

fn place(file: &Path, position: Position) -> Place {
    Place { file: file.to_owned(), line: position.line as usize, column: position.column as usize }
}

/// The bytes as YAML text: UTF-8, no control characters. (The parser would take a NUL for the end of the file.)
fn text(bytes: &[u8]) -> Result<&str, (Position, String)> {
    if bytes.len() > MAX_BYTES {
        let message = format!("the file has {} bytes; at most {MAX_BYTES} are read: split it into several files", bytes.len());
        return Err((Position::default(), message));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|e| (position(bytes, e.valid_up_to()), "not UTF-8; save the file as UTF-8".to_owned()))?;
    let bad = |b: u8| (b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r')) || b == 0x7f;
    if let Some(at) = bytes.iter().position(|b| bad(*b)) {
        return Err((position(bytes, at), format!("a control character (0x{:02x}), which YAML does not allow; remove it", bytes[at])));
    }
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn position(bytes: &[u8], at: usize) -> Position {
    let before = &bytes[..at];
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    let start = before.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
    let column = 1 + String::from_utf8_lossy(&before[start..]).trim_start_matches('\u{feff}').chars().count();
    Position { line: clip(line), column: clip(column) }
}

fn clip(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The whole document is unusable.
struct Stop {
    position: Position,
    message: String,
}

struct Builder<'t> {
    file: &'t Path,
    problems: &'t Problems,
    tree: Tree,
    stack: Vec<Frame>,
    /// By the parser's number; the node, once it is whole.
    anchors: HashMap<usize, Option<usize>>,
    /// Entries that merge keys added.
    merged: usize,
}

/// A sequence or mapping that is being read.
struct Frame {
    node: usize,
    anchor: usize,
    kind: Collecting,
}

enum Collecting {
    Sequence(Vec<usize>),
    Mapping(Mapping),
}

#[derive(Default)]
struct Mapping {
    entries: Vec<Entry>,
    first_lines: HashMap<Arc<str>, u32>,
    merges: Vec<usize>,
    key: Key,
}

#[derive(Default)]
enum Key {
    /// The next node is a key.
    #[default]
    Awaited,
    /// The next node is this key's value.
    Read(Arc<str>, Position),
    /// The next node is a mapping, or a list of them, to be merged in.
    Merge,
    /// The next node belongs to a key that was refused.
    Refused,
}

impl Builder<'_> {
    fn build(&mut self, text: &str) -> Result<(), Stop> {
        let mut parser: Parser<'_, StrInput<'_>> = Parser::new_from_str(text);
        let mut documents = 0;
        while let Some(next) = parser.next_event() {
            let (event, span) = next.map_err(|e| syntax(text, &e))?;
            let position = at(&span);
            if self.tree.nodes.len() >= MAX_NODES {
                return Err(Stop { position, message: format!("more than {MAX_NODES} values; split the file into several files") });
            }
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let message = "a second YAML document; write one document (no further `---`) in a file".into();
                        return Err(Stop { position, message });
                    }
                }
                Event::Scalar(text, style, anchor, tag) => {
                    let text_tag = self.check_tag(tag.as_deref(), position);
                    let null = style == ScalarStyle::Plain && !text_tag && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                    let merge = style == ScalarStyle::Plain && &*text == "<<";
                    let content = if null && !self.is_key() { Content::Null } else { Content::Scalar(text.into()) };
                    let node = self.add(position, content);
                    self.anchor(anchor, Some(node));
                    if merge && self.is_key() {
                        self.set_key(Key::Merge);
                    } else {
                        self.complete(node, position);
                    }
                }
                Event::Alias(anchor) => match self.anchors.get(&anchor) {
                    Some(Some(node)) => self.complete(*node, position),
                    _ => return Err(Stop { position, message: "an alias inside of what it stands for".into() }),
                },
                Event::SequenceStart(anchor, tag) => self.open(anchor, tag.as_deref(), position, Collecting::Sequence(Vec::new()))?,
                Event::MappingStart(anchor, tag) => self.open(anchor, tag.as_deref(), position, Collecting::Mapping(Mapping::default()))?,
                Event::SequenceEnd | Event::MappingEnd => self.close()?,
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, position: Position, content: Content) -> usize {
        self.tree.nodes.push(Stored { position, content });
        self.tree.nodes.len() - 1
    }

    fn anchor(&mut self, anchor: usize, node: Option<usize>) {
        if anchor > 0 {
            self.anchors.insert(anchor, node);
        }
    }

    fn open(&mut self, anchor: usize, tag: Option<&Tag>, position: Position, kind: Collecting) -> Result<(), Stop> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(Stop { position, message: format!("nested more than {MAX_DEPTH} deep") });
        }
        self.check_tag(tag, position);
        let node = self.add(position, Content::Null);
        self.anchor(anchor, None);
        self.stack.push(Frame { node, anchor, kind });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(Frame { node, anchor, kind }) = self.stack.pop() else { return Ok(()) };
        let position = self.tree.nodes[node].position;
        self.tree.nodes[node].content = match kind {
            Collecting::Sequence(items) => Content::Sequence(items),
            Collecting::Mapping(mapping) => Content::Mapping(self.merge(mapping, position)?),
        };
        self.anchor(anchor, Some(node));
        self.complete(node, position);
        Ok(())
    }

    /// Hands a whole node to what holds it.
    fn complete(&mut self, node: usize, position: Position) {
        let content = &self.tree.nodes[node].content;
        let mapping = match self.stack.last_mut().map(|frame| &mut frame.kind) {
            None => {
                self.tree.root = (!matches!(content, Content::Null)).then_some(node);
                return;
            }
            Some(Collecting::Sequence(items)) => {
                items.push(node);
                return;
            }
            Some(Collecting::Mapping(mapping)) => mapping,
        };
        match std::mem::take(&mut mapping.key) {
            Key::Awaited => {
                let Content::Scalar(text) = content else {
                    mapping.key = Key::Refused;
                    return self.refuse_key("", position, "a key must be a word; quote a value that begins with `{`, `[` or `?`".into());
                };
                let key: Arc<str> = Arc::from(&**text);
                if let Some(line) = mapping.first_lines.get(&key) {
                    let message = format!("`{}` is there twice, first in line {line}; remove one", shorten(&key, 80));
                    mapping.key = Key::Refused;
                    return self.refuse_key(&key, position, message);
                }
                mapping.first_lines.insert(key.clone(), position.line);
                mapping.key = Key::Read(key, position);
            }
            Key::Read(key, position) => mapping.entries.push(Entry { key, position, value: node }),
            Key::Merge => mapping.merges.push(node),
            Key::Refused => {}
        }
    }

    fn refuse_key(&self, key: &str, position: Position, message: String) {
        let path = self.path();
        let path = if key.is_empty() { path } else { join(&path, key) };
        self.problems.push(place(self.file, position).problem(&path, message));
    }

    /// What is written in the mapping itself wins, then what was merged first.
    fn merge(&mut self, mapping: Mapping, position: Position) -> Result<Vec<Entry>, Stop> {
        let Mapping { mut entries, mut first_lines, merges, .. } = mapping;
        for node in merges {
            let one = [node];
            let sources: &[usize] = match &self.tree.nodes[node].content {
                Content::Sequence(items) => items,
                _ => &one,
            };
            for source in sources {
                let Content::Mapping(source) = &self.tree.nodes[*source].content else {
                    self.problems.push(place(self.file, position).problem(&self.path(), "`<<` takes a mapping or a list of mappings"));
                    continue;
                };
                for entry in source {
                    self.merged += 1;
                    if self.merged > MAX_NODES {
                        return Err(Stop { position, message: format!("`<<` makes more than {MAX_NODES} values; split the file") });
                    }
                    if first_lines.insert(entry.key.clone(), entry.position.line).is_none() {
                        entries.push(entry.clone());
                    }
                }
            }
        }
        Ok(entries)
    }

    fn is_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { kind: Collecting::Mapping(Mapping { key: Key::Awaited, .. }), .. }))
    }

    fn set_key(&mut self, new: Key) {
        if let Some(Frame { kind: Collecting::Mapping(Mapping { key, .. }), .. }) = self.stack.last_mut() {
            *key = new;
        }
    }

    /// Whether the tag says "text"; a tag of someone's own is a problem, as it would silently mean nothing.
    fn check_tag(&self, tag: Option<&Tag>, position: Position) -> bool {
        let Some(tag) = tag else { return false };
        let core = tag.handle == "tag:yaml.org,2002:" || tag.handle == "!!";
        if core && matches!(tag.suffix.as_str(), "str" | "int" | "float" | "bool" | "null" | "map" | "seq") {
            return tag.suffix == "str";
        }
        // A single `!` says "not guessed", which is what happens here anyway.
        if !(tag.handle.is_empty() && tag.suffix == "!" || tag.handle == "!" && tag.suffix.is_empty()) {
            let message = format!("the tag `{}` means nothing here; remove it", shorten(&tag.to_string(), 60));
            self.problems.push(place(self.file, position).problem(&self.path(), message));
        }
        false
    }

    fn path(&self) -> String {
        self.stack.iter().fold(String::new(), |path, frame| match &frame.kind {
            Collecting::Sequence(items) => format!("{path}[{}]", items.len()),
            Collecting::Mapping(Mapping { key: Key::Read(key, _), .. }) => join(&path, key),
            Collecting::Mapping(_) => path,
        })
    }
}

/// The parser counts columns from 0.
fn at(span: &Span) -> Position {
    Position { line: clip(span.start.line()), column: clip(span.start.col() + 1) }
}

fn syntax(text: &str, error: &ScanError) -> Stop {
    let position = Position { line: clip(error.marker().line()), column: clip(error.marker().col() + 1) };
    let line = text.lines().nth(error.marker().line().saturating_sub(1)).unwrap_or_default();
    let indent = &line[..line.len() - line.trim_start().len()];
    let remedy = if indent.contains('\t') { "; YAML indents with spaces, and this line begins with a tab" } else { "" };
    Stop { position, message: format!("not YAML: {}{remedy}", shorten(error.info(), 200)) }
}
