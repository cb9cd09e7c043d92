//! A device file's `connector` section for `type: modbus`. Every mistake is recorded where it stands.

mod connection;
mod groups;
mod reader;
mod variable;
mod words;

use asset_stream::device_file::ItemNames;
use asset_stream::document::Section;

use crate::config::{Config, Timing, Variable};
use connection::{reached, requests};
use groups::Groups;
use reader::Reader;
use variable::{Lasting, variable};

/// Reads the section. `None`: a problem was recorded. (A key that is unknown is recorded too, but alone it leaves a config.)
pub fn parse(section: Section<'_>) -> Option<Config> {
    let mut connector = Reader::new(section);
    let reached = reached(&mut connector);
    let (limits, functions, retry_refused) = requests(&mut connector);
    let mut groups = Groups::read(&mut connector);
    let mut names = ItemNames::new();
    let mut variables = Vec::new();
    let mut sound = true;
    for (key, lasting) in [("variables", Lasting::Variable), ("constants", Lasting::Constant)] {
        for (name, entry) in connector.section.entries(key) {
            sound &= names.claim(&name, &entry);
            match variable(&name, Reader::new(entry.clone()), lasting, (&limits, functions), &mut groups) {
                Some(variable) => variables.push((variable, entry)),
                None => sound = false,
            }
        }
    }
    if sound && variables.is_empty() {
        connector.problem("variables", "nothing to read: give at least one variable, e.g. `temp: {holding_register: 0, type: int16}`");
    }
    warn_of_overlaps(&variables);
    let sound = sound && groups.sound && connector.finish();
    let (endpoint, unit, timing) = reached?;
    let variables = variables.into_iter().map(|(variable, _)| variable).collect();
    sound.then_some(Config {
        endpoint,
        unit,
        timing: Timing { retry_refused, ..timing },
        limits,
        functions,
        groups: groups.list,
        variables,
    })
}

/// Two values that share a register, of which neither is bits of it, are usually one wrong address.
fn warn_of_overlaps(variables: &[(Variable, Section<'_>)]) {
    let mut by_place: Vec<_> = variables.iter().filter(|(variable, _)| variable.decoder.bits.is_none()).collect();
    by_place.sort_by_key(|(variable, _)| variable.span);
    let mut widest: Option<&Variable> = None;
    for (variable, section) in by_place {
        match widest {
            Some(before) if before.span.overlaps(variable.span) && before.span != variable.span => {
                section.warning(
                    "",
                    format!(
                        "`{}` ({}) and `{}` ({}) share registers: is an address wrong?",
                        before.id, before.span, variable.id, variable.span
                    ),
                );
            }
            _ => {}
        }
        if widest.is_none_or(|before| before.span.table() != variable.span.table() || before.span.end() < variable.span.end()) {
            widest = Some(variable);
        }
    }
}

#[cfg(test)]
mod tests;
