//! A section that is asked for values.

use std::time::Duration;

use asset_stream::document::{FromNode, Section};

/// A day: longer waits are mistakes.
const LONGEST: u64 = 86_400_000;

/// A section that remembers whether anything in it was wrong.
pub(super) struct Reader<'d> {
    pub(super) section: Section<'d>,
    pub(super) sound: bool,
}

impl<'d> Reader<'d> {
    pub(super) fn new(section: Section<'d>) -> Self {
        Self { section, sound: true }
    }

    pub(super) fn optional<T: FromNode>(&mut self, key: &str) -> Option<T> {
        let value = T::read(&self.section.node(key)?);
        self.sound &= value.is_some();
        value
    }

    pub(super) fn or<T: FromNode>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    pub(super) fn required<T: FromNode>(&mut self, key: &str) -> Option<T> {
        let value = self.section.required(key);
        self.sound &= value.is_some();
        value
    }

    /// A nested section that may be missing; one that is no mapping is a problem.
    pub(super) fn nested(&mut self, key: &str) -> Option<Reader<'d>> {
        let given = self.section.node(key).is_some();
        let section = self.section.section(key);
        self.sound &= !given || section.is_some();
        section.map(Reader::new)
    }

    pub(super) fn within<T: FromNode + PartialOrd + std::fmt::Display>(&mut self, key: &str, default: T, least: T, most: T) -> T {
        match self.optional(key) {
            Some(value) if value < least || value > most => {
                self.problem(key, format!("{value} is out of range: {least} to {most}"));
                default
            }
            Some(value) => value,
            None => default,
        }
    }

    pub(super) fn millis(&mut self, key: &str, default: Duration, least: u64) -> Duration {
        Duration::from_millis(self.within(key, default.as_millis() as u64, least, LONGEST))
    }

    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.section.problem(key, message);
        self.sound = false;
    }

    pub(super) fn finish(self) -> bool {
        self.section.finish();
        self.sound
    }
}
