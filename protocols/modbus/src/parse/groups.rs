//! `poll_groups` and `defaults`.

use std::time::Duration;

use super::reader::Reader;
use crate::config::{Group, Interval};
use crate::types::{Report, WordOrder};

/// The poll groups, and what holds where a variable says nothing.
pub(super) struct Groups {
    pub(super) list: Vec<Group>,
    named: Vec<(String, Duration)>,
    default: (Option<String>, Duration),
    pub(super) order: WordOrder,
    pub(super) report: Report,
    pub(super) sound: bool,
}

impl Groups {
    pub(super) fn read(connector: &mut Reader<'_>) -> Self {
        let mut groups = Self {
            list: Vec::new(),
            named: Vec::new(),
            default: (None, Duration::from_secs(1)),
            order: WordOrder::default(),
            report: Report::default(),
            sound: true,
        };
        for (name, section) in connector.section.entries("poll_groups") {
            let mut group = Reader::new(section);
            // A group with a wrong interval is known all the same, so that its variables are not wrong as well.
            let interval = match group.section.contains("interval") {
                true => group.millis("interval", groups.default.1, 1),
                false => group.required::<u64>("interval").map_or(groups.default.1, Duration::from_millis),
            };
            groups.named.push((name, interval));
            groups.sound &= group.finish();
        }
        if let Some(mut defaults) = connector.nested("defaults") {
            groups.default = groups.interval(&mut defaults).unwrap_or(groups.default);
            groups.order = defaults.or("word_order", groups.order);
            groups.report = defaults.or("report", groups.report);
            groups.sound &= defaults.finish();
        }
        groups
    }

    /// `group` or `interval`: the group's name, if it has one, and its interval.
    fn interval(&self, reader: &mut Reader<'_>) -> Option<(Option<String>, Duration)> {
        let group = reader.optional::<String>("group");
        let interval = reader.section.node("interval").map(|_| reader.millis("interval", self.default.1, 1));
        match (group, interval) {
            (Some(_), Some(_)) => {
                reader.problem("group", "give either `group` or `interval`, not both");
                None
            }
            (Some(name), None) => {
                let known = self.named.iter().find(|(known, _)| *known == name);
                if known.is_none() {
                    let names: Vec<&str> = self.named.iter().map(|(name, _)| name.as_str()).collect();
                    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                    reader.problem("group", format!("`{name}` does not stand in `poll_groups` (there: {names})"));
                }
                known.map(|(name, interval)| (Some(name.clone()), *interval))
            }
            (None, Some(interval)) => Some((None, interval)),
            (None, None) => None,
        }
    }

    /// The index of a group of this name and interval.
    pub(super) fn index(&mut self, name: &str, interval: Interval) -> usize {
        let same = |group: &Group| &*group.name == name && group.interval == interval;
        self.list.iter().position(same).unwrap_or_else(|| {
            self.list.push(Group { name: name.into(), interval });
            self.list.len() - 1
        })
    }

    pub(super) fn index_of(&mut self, reader: &mut Reader<'_>) -> usize {
        let (name, interval) = self.interval(reader).unwrap_or_else(|| self.default.clone());
        let name = name.unwrap_or_else(|| format!("{} ms", interval.as_millis()));
        self.index(&name, Interval::Every(interval))
    }
}
