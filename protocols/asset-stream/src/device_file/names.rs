//! Which names an asset, a device and a data item can have.

use std::collections::HashMap;

use crate::document::Section;

/// The longest name of a device, asset or data item, in bytes: escaped and put together they still fit a NATS subject.
pub const MAX_NAME: usize = 200;

/// `ID`s that the platform itself writes for an asset.
const FACTS: [&str; 8] = ["avail", "agent_avail", "AssetType", "references_above", "references_below", "gateway", "uns_id", "gap"];

/// Commands to an item have its name and this ending as their `ID`.
pub(crate) const COMMAND_ENDING: &str = "_CMD";

/// Whether a data item may have this local name. The error says why not, as the end of a sentence that begins with the name.
///
/// Spaces, dots and anything else that NATS subjects cannot carry are fine: [`crate::subject::escape`] sees to them. Names of UNS levels
/// are checked by [`crate::uns::Schema::resolve`], which knows them.
pub fn validate_item_name(name: &str) -> Result<(), String> {
    validate(name)?;
    if FACTS.contains(&name) {
        return Err("is an event that the platform itself writes for each asset; choose another name".into());
    }
    if name.ends_with(COMMAND_ENDING) {
        return Err(format!("ends with `{COMMAND_ENDING}`, as only commands do; choose another name"));
    }
    Ok(())
}

/// Whether an asset may have this UUID. The error says why not, as the end of a sentence that begins with the UUID.
pub fn validate_asset(uuid: &str) -> Result<(), String> {
    validate(uuid)?;
    if uuid.contains(',') {
        return Err("contains `,`, which separates the UUIDs in references_above and references_below".into());
    }
    Ok(())
}

/// What holds for every name.
pub(super) fn validate(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("is empty".into());
    }
    if name.len() > MAX_NAME {
        return Err(format!("has {} bytes; at most {MAX_NAME} are possible", name.len()));
    }
    if name.chars().any(char::is_control) {
        return Err("contains a control character".into());
    }
    if name.trim() != name {
        return Err("begins or ends with a space".into());
    }
    if name.contains('|') {
        return Err("contains `|`, which separates asset and item in the keys of the state tables".into());
    }
    Ok(())
}

/// The local names of one connector: each may be there once over all its sections.
#[derive(Debug, Default)]
pub struct ItemNames {
    /// The way to each name's section, and its line.
    claimed: HashMap<String, (String, usize)>,
}

impl ItemNames {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the name for the item that `section` describes. `false`: it is no name for an item, or was taken; the problem was recorded.
    pub fn claim(&mut self, name: &str, section: &Section<'_>) -> bool {
        if let Err(message) = validate_item_name(name) {
            section.problem("", format!("the name {message}"));
            return false;
        }
        if let Some((path, line)) = self.claimed.get(name) {
            section.problem(
                "",
                format!("the name is taken by {path} in line {line}; local names are unique over all sections of a connector"),
            );
            return false;
        }
        self.claimed.insert(name.to_owned(), (section.path().to_owned(), section.place("").line));
        true
    }
}
