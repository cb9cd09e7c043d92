//! What the platform itself tells of an asset, as samples: registration, gateway, methods, availability.
//!
//! ```
//! use asset_stream::{Timestamp, facts};
//!
//! let now = Timestamp::now();
//! let ids: Vec<String> = facts::registration("PRESS-4", facts::DEVICE, None, now).iter().map(|s| s.item.id.to_string()).collect();
//! assert_eq!(ids, ["AssetType", "references_above", "references_below"]);
//! ```

use std::sync::Arc;

use serde::Serialize;

use crate::uns::Uns;
use crate::{DataItem, Kind, Sample, Timestamp, UNAVAILABLE};

/// The `AssetType` of a device.
pub const DEVICE: &str = "Device";
/// `avail` while a device answers.
pub const AVAILABLE: &str = "AVAILABLE";

/// Whether a device answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It does.
    Available,
    /// It does not, or nobody asks it.
    Unavailable,
}

fn fact(asset: &Arc<str>, id: &str, value: &str, tag: &str, kind: Kind, at: Timestamp) -> Sample {
    Sample::good(Arc::new(DataItem::new(asset.clone(), id, tag, kind)), value, at, at)
}

/// What is told once when an asset is registered: its type, its references (none yet), and its place in the UNS if it has one.
pub fn registration(asset: impl Into<Arc<str>>, asset_type: &str, uns: Option<&Uns>, at: Timestamp) -> Vec<Sample> {
    let asset = &asset.into();
    let mut facts = vec![
        fact(asset, "AssetType", asset_type, "AssetType", Kind::OpenFactory, at),
        fact(asset, "references_above", "", "AssetsReferences", Kind::OpenFactory, at),
        fact(asset, "references_below", "", "AssetsReferences", Kind::OpenFactory, at),
    ];
    if let Some(uns) = uns {
        facts.extend(uns.levels.iter().map(|(level, value)| fact(asset, level, value, "UNSLevel", Kind::OpenFactory, at)));
        facts.push(fact(asset, "uns_id", &uns.id, "UNSId", Kind::OpenFactory, at));
    }
    facts
}

/// Which gateway serves the asset. `protocol` is the connector's type, e.g. `opcua`.
pub fn gateway(asset: impl Into<Arc<str>>, protocol: &str, gateway_uuid: &str, at: Timestamp) -> Sample {
    fact(&asset.into(), "gateway", gateway_uuid, &format!("{}.Gateway", protocol.to_uppercase()), Kind::Events, at)
}

/// Whether the device answers.
pub fn availability(asset: impl Into<Arc<str>>, availability: Availability, at: Timestamp) -> Sample {
    let value = match availability {
        Availability::Available => AVAILABLE,
        Availability::Unavailable => UNAVAILABLE,
    };
    fact(&asset.into(), "avail", value, "Availability", Kind::Events, at)
}

/// An operation that an asset offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Method {
    /// For people; may be empty.
    pub description: String,
    /// In the order in which the device takes them.
    pub arguments: Vec<Argument>,
}

/// One argument of an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Argument {
    /// Its name in a command.
    pub name: String,
    /// For people; may be empty.
    pub description: String,
}

impl Method {
    /// The JSON text that is the fact's value.
    pub fn to_json(&self) -> String {
        // Strings in lists and fields always become JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The method as a fact. `name` is the safe name, [`crate::command::method_name`].
    pub fn to_sample(&self, asset: impl Into<Arc<str>>, name: &str, at: Timestamp) -> Sample {
        fact(&asset.into(), name, &self.to_json(), "Method", Kind::Method, at)
    }
}
