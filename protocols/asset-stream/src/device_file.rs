//! Device files: what people say about their devices, one or several devices a file.
//!
//! ```yaml
//! devices:
//!   furnace-1:                                        # the device's name on this edge
//!     uuid: OPCUA-SENSOR-001                          # its asset
//!     uns: {location: building-a, workcenter: heat}   # optional, see `uns`
//!     connector:
//!       type: opcua                                   # the rest of the section belongs to that protocol's crate
//! ```
//!
//! Names and UUIDs are unique over all files of an edge.
//!
//! ```
//! use asset_stream::device_file::DeviceFiles;
//! use asset_stream::document::{Environment, Problems};
//!
//! let text = b"devices:\n  press:\n    uuid: PRESS-4\n    connector: {type: modbus, host: 10.0.0.7}\n";
//! let files = DeviceFiles::parse([("press.yaml".into(), text.to_vec())], Environment::empty());
//! let problems = Problems::new();
//! for device in files.devices(&problems) {
//!     assert_eq!((&*device.name, &*device.uuid, &*device.connector_type), ("press", "PRESS-4", "modbus"));
//!     let mut connector = device.connector;
//!     assert_eq!(connector.required::<String>("host").as_deref(), Some("10.0.0.7"));
//!     connector.finish();
//! }
//! assert!(problems.is_empty());
//! ```

mod access;
mod names;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::document::{self, Document, Environment, Place, Problem, Problems, Section};
use crate::subject;

pub use access::Access;
pub(crate) use names::COMMAND_ENDING;
pub use names::{ItemNames, MAX_NAME, validate_asset, validate_item_name};

/// One device of a file.
#[derive(Clone, Debug)]
pub struct Device<'d> {
    /// Its key in the file: how people of this edge call it.
    pub name: String,
    /// Its asset.
    pub uuid: String,
    /// The levels it gives of the UNS, for [`crate::uns::Schema::resolve`].
    pub uns: Option<Section<'d>>,
    /// `opcua`, `modbus`, …
    pub connector_type: String,
    /// The connector without its `type`, for the protocol's crate to read and to finish.
    pub connector: Section<'d>,
    /// What holds for commands to it, by method or writable variable, for the daemon to read and to finish.
    pub commands: Vec<(String, Section<'d>)>,
    /// Where it stands.
    pub place: Place,
}

/// The device files of an edge, read but not yet judged.
#[derive(Debug)]
pub struct DeviceFiles {
    documents: Vec<Document>,
    environment: Environment,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl DeviceFiles {
    /// Reads files, and of a folder all `*.yaml` and `*.yml` in it (not below it), by name. What cannot be read is a problem that
    /// [`DeviceFiles::devices`] reports. Blocks.
    pub fn load(paths: impl IntoIterator<Item = impl AsRef<Path>>, environment: Environment) -> Self {
        let mut files = Vec::new();
        let mut unreadable = Vec::new();
        for path in paths {
            let path = path.as_ref();
            match files_in(path) {
                Ok(listed) => files.extend(listed),
                Err(error) => unreadable.push(Place::file(path).problem("", format!("cannot be read: {error}"))),
            }
        }
        let mut contents = Vec::with_capacity(files.len());
        for file in files {
            match document::read(&file) {
                Ok(bytes) => contents.push((file, bytes)),
                Err(error) => unreadable.push(Place::file(&file).problem("", format!("cannot be read: {error}"))),
            }
        }
        let mut loaded = Self::parse(contents, environment);
        loaded.problems.extend(unreadable);
        loaded
    }

    /// As [`DeviceFiles::load`], from names and contents.
    pub fn parse(files: impl IntoIterator<Item = (PathBuf, Vec<u8>)>, environment: Environment) -> Self {
        let problems = Problems::new();
        let documents = files.into_iter().filter_map(|(file, bytes)| Document::parse(file, &bytes, &problems)).collect();
        let warnings = problems.warnings();
        Self { documents, environment, problems: problems.into_vec(), warnings }
    }

    /// The devices of all files, in the order of the files. Everything wrong with them, up to the connectors' contents, is recorded;
    /// a device that is not usable for it is left out.
    pub fn devices<'d>(&'d self, problems: &'d Problems) -> Vec<Device<'d>> {
        self.problems.iter().for_each(|problem| problems.push(problem.clone()));
        self.warnings.iter().for_each(|warning| problems.warn(warning.clone()));
        let mut taken = Taken::default();
        let mut devices = Vec::new();
        for document in &self.documents {
            let mut root = document.root(&self.environment, problems);
            let entries = root.entries("devices");
            if root.contains("namespace_structure") {
                root.problem("namespace_structure", "a UNS schema, no device file; move it out of the folder of the device files");
                continue;
            }
            if !root.contains("devices") && !document.is_empty() {
                root.problem("devices", "`devices` is missing: write `devices:` and below it a name for each device");
            } else if entries.is_empty() {
                root.warning("", "no device in this file");
            }
            root.finish();
            devices.extend(entries.into_iter().filter_map(|(name, section)| device(name, section, &mut taken)));
        }
        devices
    }
}

/// Which device has a name or a UUID, and where.
#[derive(Default)]
struct Taken {
    names: HashMap<String, Place>,
    uuids: HashMap<String, (String, Place)>,
}

fn device<'d>(name: String, mut section: Section<'d>, taken: &mut Taken) -> Option<Device<'d>> {
    let place = section.place("");
    let mut sound = true;
    if let Err(message) = names::validate(&name) {
        section.problem("", format!("the device's name {message}"));
        sound = false;
    }
    if let Some(first) = taken.names.get(&name) {
        section.problem("", format!("there is a device `{name}` in {first} too; names are unique on an edge"));
        sound = false;
    } else {
        taken.names.insert(name.clone(), place.clone());
    }

    let uuid = section.required::<String>("uuid").filter(|uuid| is_usable(uuid, &section));
    if let Some(uuid) = &uuid {
        match taken.uuids.get(uuid) {
            Some((other, first)) => {
                section.problem(
                    "uuid",
                    format!("`{uuid}` is the UUID of the device `{other}` in {first} too; each device is an asset of its own"),
                );
                sound = false;
            }
            None => {
                taken.uuids.insert(uuid.clone(), (name.clone(), section.place("uuid")));
            }
        }
    }

    let uns = section.section("uns");
    let commands = section.entries("commands");
    let connector = section.required_section("connector");
    let typed = connector.and_then(|mut connector| Some((connector.required::<String>("type")?, connector)));
    section.finish();
    let ((connector_type, connector), uuid) = (typed?, uuid?);
    sound.then_some(Device { name, uuid, uns, connector_type, connector, commands, place })
}

fn is_usable(uuid: &str, section: &Section<'_>) -> bool {
    if let Err(message) = validate_asset(uuid) {
        section.problem("uuid", message);
        return false;
    }
    if uuid.chars().any(char::is_lowercase) {
        section.warning("uuid", "is not in upper case; existing clients subscribe to the UUID in upper case and will not see this asset");
    }
    let token = subject::escape(uuid.as_bytes());
    if token != uuid {
        section.warning("uuid", format!("NATS subjects cannot carry it as it is; the asset is served as `{token}`"));
    }
    true
}

/// The device files of a folder, by name: all `*.yaml` and `*.yml` in it (not below it) that are not hidden; or the file itself.
pub fn files_in(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml = file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !hidden && !file.is_dir() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
