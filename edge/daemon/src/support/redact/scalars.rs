//! The single values of a config file, as its parser understood them.

use std::ops::Range;

/// What a parser found.
#[derive(Debug, Default)]
pub(super) struct Scalars {
    /// In the order of the text.
    pub(super) scalars: Vec<Scalar>,
    /// Why it cannot be said of the whole text what is what.
    pub(super) unclear: Option<&'static str>,
}

/// A single value, or a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    /// The keys that lead to it; of a key: those that lead to its table.
    pub(super) path: Vec<String>,
    pub(super) role: Role,
    /// What it stands for, without quotes and escapes.
    pub(super) text: String,
    /// Where it is written, in bytes.
    pub(super) span: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Key,
    Value,
}
