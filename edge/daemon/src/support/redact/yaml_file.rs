//! The values of a YAML file.

use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::scalars::{Role, Scalar, Scalars};

/// As deep as config files go, and deeper than they are read.
const MAX_DEPTH: usize = 128;

pub(super) fn scalars(text: &str) -> Scalars {
    let mut reader = Reader { bytes: text.char_indices().map(|(at, _)| at).chain([text.len()]).collect(), ..Reader::default() };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => reader.take(event, span),
            Err(_) => reader.is_unclear("it is not YAML"),
        }
        if reader.open.len() > MAX_DEPTH {
            reader.is_unclear("it is nested too deeply");
        }
        if reader.has_stopped {
            break;
        }
    }
    reader.found
}

#[derive(Default)]
struct Reader {
    found: Scalars,
    has_stopped: bool,
    /// The byte of each character.
    bytes: Vec<usize>,
    /// Mappings and lists around the next event.
    open: Vec<Open>,
    /// The keys that lead to the next event.
    path: Vec<String>,
    documents: usize,
}

enum Open {
    List,
    /// The next event is a key.
    AtKey,
    /// The next event is the value of the last key of the path.
    AtValue,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, span: Span) {
        match event {
            Event::Alias(_) => self.is_unclear("it has anchors and aliases"),
            Event::Scalar(_, _, anchor, _) | Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) if anchor > 0 => {
                self.is_unclear("it has anchors and aliases");
            }
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                self.is_unclear("it has tags");
            }
            _ => {}
        }
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.is_unclear("it has several documents");
                }
            }
            Event::Scalar(text, style, _, _) => {
                // A quotation mark that is never closed where it should be makes a text of the lines behind it, secrets included.
                let is_quoted = matches!(style, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted);
                if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) || (is_quoted && span.start.line() != span.end.line()) {
                    self.is_unclear("it has texts over several lines");
                }
                self.scalar(text.into_owned(), span);
            }
            Event::SequenceStart(..) => self.begin(Open::List),
            Event::MappingStart(..) => self.begin(Open::AtKey),
            Event::SequenceEnd | Event::MappingEnd => {
                self.open.pop();
                self.value_ends();
            }
            _ => {}
        }
    }

    fn begin(&mut self, what: Open) {
        if matches!(self.open.last(), Some(Open::AtKey)) {
            self.is_unclear("a key is no word");
        }
        self.open.push(what);
    }

    fn scalar(&mut self, text: String, span: Span) {
        let role = if matches!(self.open.last(), Some(Open::AtKey)) { Role::Key } else { Role::Value };
        match self.range(span) {
            // An empty value stands nowhere.
            Some(span) if span.is_empty() => {}
            Some(span) => self.found.scalars.push(Scalar { path: self.path.clone(), role, text: text.clone(), span }),
            None => self.is_unclear("its parser loses its way"),
        }
        match (role, self.open.last_mut()) {
            (Role::Key, Some(open)) => {
                *open = Open::AtValue;
                self.path.push(text);
            }
            _ => self.value_ends(),
        }
    }

    fn value_ends(&mut self) {
        if let Some(open @ Open::AtValue) = self.open.last_mut() {
            *open = Open::AtKey;
            self.path.pop();
        }
    }

    fn range(&self, span: Span) -> Option<Range<usize>> {
        Some(*self.bytes.get(span.start.index())?..*self.bytes.get(span.end.index())?)
    }

    /// The first reason counts. What follows cannot be told from what came before.
    fn is_unclear(&mut self, why: &'static str) {
        self.found.unclear.get_or_insert(why);
        self.has_stopped |= why != "it has anchors and aliases" && why != "it has tags" && why != "it has texts over several lines";
    }
}
