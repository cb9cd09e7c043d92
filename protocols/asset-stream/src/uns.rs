//! The unified namespace (UNS): where an asset belongs in the enterprise, as a path.
//!
//! A schema file says which levels there are and what they may hold; a device gives values for its levels.
//!
//! ```yaml
//! namespace_structure:
//!   - inc: OpenFactory                 # a constant: fills itself in
//!   - area: [building-a, building-b]   # one of these
//!   - workcenter: ANY                  # anything
//!   - asset: ANY                       # the device's UUID, unless it gives another value
//!   - attribute: ANY                   # stands for the data item, never given
//! uns_template: inc.area.workcenter.asset.attribute
//! ```
//!
//! The first character of the template that is no letter, digit or `_` is the separator. A device may stop early, so long as it leaves no
//! hole: with `area` alone it is `OpenFactory.building-a.<asset>`; with `workcenter` alone it is a mistake.
//!
//! ```
//! use asset_stream::device_file::DeviceFiles;
//! use asset_stream::document::{Environment, Problems};
//! use asset_stream::uns::Schema;
//!
//! let schema = b"namespace_structure: [inc: OpenFactory, area: ANY, asset: ANY, attribute: ANY]\nuns_template: inc.area.asset.attribute\n";
//! let device = b"devices:\n  press: {uuid: P-4, uns: {area: hall-2}, connector: {type: modbus}}\n";
//! let files = DeviceFiles::parse([("d.yaml".into(), device.to_vec())], Environment::empty());
//! let problems = Problems::new();
//! let schema = Schema::parse("uns.yaml", schema, &Environment::empty(), &problems);
//! let devices = files.devices(&problems);
//! let uns = schema.and_then(|schema| schema.resolve(&devices[0]));
//! assert_eq!(uns.map(|uns| uns.id).as_deref(), Some("OpenFactory.hall-2.P-4"));
//! assert!(problems.is_empty());
//! ```

mod read;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::device_file::Device;
use crate::document::{self, Document, Environment, Place, Problems};

/// The level that is the asset itself, the last that a device has.
const ASSET: &str = "asset";
/// The level that stands for the data item.
const ATTRIBUTE: &str = "attribute";

/// What a level may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Any value that does not contain the separator.
    Any,
    /// This value alone, given or not.
    Constant(String),
    /// One of these.
    Choices(Vec<String>),
}

/// A level of the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its name.
    pub name: String,
    /// What it may hold.
    pub allowed: Allowed,
}

/// A UNS schema: the levels of the template down to `asset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    levels: Vec<Level>,
    separator: char,
    file: PathBuf,
}

/// Where one asset belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uns {
    /// The values joined by the separator: the asset's UNS path, e.g. `OpenFactory.building-a.heat.OPCUA-SENSOR-001`.
    pub id: String,
    /// Each level that has a value, constants and `asset` included, from the top.
    pub levels: Vec<(String, String)>,
}

impl Schema {
    /// Reads a schema file. `None`: problems were recorded. Blocks.
    pub fn load(file: &Path, environment: &Environment, problems: &Problems) -> Option<Self> {
        match document::read(file) {
            Ok(bytes) => Self::parse(file, &bytes, environment, problems),
            Err(error) => {
                problems.push(Place::file(file).problem("", format!("cannot be read: {error}")));
                None
            }
        }
    }

    /// Reads a schema. `None`: problems were recorded.
    pub fn parse(file: impl Into<PathBuf>, bytes: &[u8], environment: &Environment, problems: &Problems) -> Option<Self> {
        let before = problems.len();
        let document = Document::parse(file, bytes, problems)?;
        read::schema(document.root(environment, problems)).filter(|_| problems.len() == before)
    }

    /// The levels from the top, the last is `asset`.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// What stands between the values of a path.
    pub fn separator(&self) -> char {
        self.separator
    }

    /// Where a device belongs. `None`: it has no `uns`, or problems were recorded at its file's lines.
    ///
    /// As levels become data items of the asset, an item of the connector that has a level's name is a problem too.
    pub fn resolve(&self, device: &Device<'_>) -> Option<Uns> {
        let mut section = device.uns.clone()?;
        let problems = section.problems();
        let before = problems.len();
        let mut levels = Vec::with_capacity(self.levels.len());
        let mut hole: Option<&str> = None;
        for Level { name, allowed } in &self.levels {
            // Also for a level without a value, which then is said to be missing below it.
            let given = section.optional::<String>(name);
            let value = match (allowed, given) {
                (Allowed::Constant(constant), given) => {
                    if given.is_some_and(|given| given != *constant) {
                        section.problem(name, format!("is always `{constant}` ({}); remove it or write that", self.file.display()));
                    }
                    levels.push((name.clone(), constant.clone()));
                    continue;
                }
                (_, None) if name == ASSET => device.uuid.clone(),
                (_, None) => {
                    hole = hole.or(Some(name));
                    continue;
                }
                (_, Some(given)) => given,
            };
            if let Some(above) = hole.filter(|_| name != ASSET) {
                section.problem(name, format!("is given, but `{above}` above it is not; give `{above}` too"));
            }
            if let Err(message) = self.check(allowed, &value) {
                section.problem(name, message);
            }
            levels.push((name.clone(), value));
        }
        if section.contains(ATTRIBUTE) {
            section.problem(ATTRIBUTE, "stands for the data item and is not given; remove it");
            section.node(ATTRIBUTE);
        }
        section.finish();
        self.check_items(device, &levels);
        let id = levels.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(&self.separator.to_string());
        (problems.len() == before).then_some(Uns { id, levels })
    }

    /// As [`Schema::resolve`] for all devices of an edge, in their order; two at one place are a problem.
    pub fn resolve_all(&self, devices: &[Device<'_>]) -> Vec<Option<Uns>> {
        let mut taken: HashMap<String, &Device<'_>> = HashMap::new();
        let resolve = |device| {
            let uns = self.resolve(device)?;
            let Some(other) = taken.get(&uns.id) else {
                taken.insert(uns.id.clone(), device);
                return Some(uns);
            };
            if let Some(section) = &device.uns {
                let message =
                    format!("`{}` is the place of the device `{}` in {} too; give another `{ASSET}`", uns.id, other.name, other.place);
                section.problem("", message);
            }
            None
        };
        devices.iter().map(resolve).collect()
    }

    fn check(&self, allowed: &Allowed, value: &str) -> Result<(), String> {
        if value.is_empty() || value.trim() != value || value.chars().any(char::is_control) {
            return Err(format!("{value:?} is empty, has a space at an end or a control character; change it"));
        }
        if value.contains(self.separator) {
            return Err(format!(
                "`{value}` contains `{}`, which separates the levels ({}); write it without",
                self.separator,
                self.file.display()
            ));
        }
        match allowed {
            Allowed::Choices(choices) if !choices.iter().any(|choice| choice == value) => {
                let choices = choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
                Err(format!("`{value}` is none of {choices} ({})", self.file.display()))
            }
            _ => Ok(()),
        }
    }

    /// Whatever the protocol, a connector's items stand one below the other in sections of the connector.
    fn check_items(&self, device: &Device<'_>, levels: &[(String, String)]) {
        let mut connector = device.connector.clone();
        let groups: Vec<&str> = connector.keys().collect();
        for group in groups.into_iter().filter(|group| matches!(*group, "constants" | "variables" | "events" | "methods" | "data")) {
            let Some(items) = connector.node(group).and_then(|node| node.section()) else { continue };
            for (level, _) in levels.iter().filter(|(level, _)| items.contains(level)) {
                items.problem(
                    level,
                    format!(
                        "`{level}` is a level of the UNS ({}), which is an item of the asset already; choose another name",
                        self.file.display()
                    ),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
