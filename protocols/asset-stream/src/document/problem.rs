//! Mistakes in files, with their places.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};

/// Beyond so many of a kind nobody reads on; the last one says that there are more.
const MAX: usize = 1000;

/// Line and column, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// Where something stands in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file, as it was named when it was loaded.
    pub file: PathBuf,
    /// From 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// In characters, from 1; 0 where the file as a whole is meant.
    pub column: usize,
}

impl Place {
    /// A file as a whole.
    pub fn file(file: &Path) -> Self {
        Self { file: file.to_owned(), line: 0, column: 0 }
    }

    /// A problem at this place.
    pub fn problem(self, key: &str, message: impl Into<String>) -> Problem {
        Problem { file: self.file, line: self.line, column: self.column, key: key.to_owned(), message: message.into() }
    }
}

/// `file:line`, as editors take it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

/// One mistake: where, which key, what and how to mend it. Shown as `file:line:column: key: message`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// The file, as it was named when it was loaded.
    pub file: PathBuf,
    /// From 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// In characters, from 1; 0 where the file as a whole is meant.
    pub column: usize,
    /// The way to the value, e.g. `devices.furnace-1.connector.server.uri`; empty where the file as a whole is meant.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

/// Everything that was found, handed around by shared reference while files are read.
///
/// Warnings are kept apart: they are shown, and the files are used all the same.
#[derive(Debug, Default)]
pub struct Problems {
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl Problems {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a mistake.
    pub fn push(&self, problem: Problem) {
        keep(&self.problems, problem);
    }

    /// Records something to be shown that keeps nobody from using the files.
    pub fn warn(&self, warning: Problem) {
        keep(&self.warnings, warning);
    }

    /// Whether no mistake was recorded; warnings do not count.
    pub fn is_empty(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// How many mistakes were recorded: compare before and after to learn whether a part was sound.
    pub fn len(&self) -> usize {
        self.problems.borrow().len()
    }

    /// The warnings so far, by file and line.
    pub fn warnings(&self) -> Vec<Problem> {
        sorted(self.warnings.borrow().clone())
    }

    /// The mistakes, by file and line.
    pub fn into_vec(self) -> Vec<Problem> {
        sorted(self.problems.into_inner())
    }
}

fn keep(list: &RefCell<Vec<Problem>>, problem: Problem) {
    let mut list = list.borrow_mut();
    match list.len() {
        0..MAX => list.push(problem),
        MAX => list.push(Problem { message: "and more; mend these first".into(), key: String::new(), ..problem }),
        _ => {}
    }
}

fn sorted(mut list: Vec<Problem>) -> Vec<Problem> {
    list.sort();
    list.dedup();
    list
}
