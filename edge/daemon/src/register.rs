//! What the edge tells about assets by itself: registration, who serves them, and that the edge runs.

use std::collections::HashMap;
use std::sync::Arc;

use asset_stream::facts::{self, Availability};
use asset_stream::uns::Uns;
use asset_stream::{Sample, Timestamp};

/// The edge's own `AssetType`.
const EDGE: &str = "Edge";

/// Whether the log has seen the asset before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Its first event is still to come.
    New,
    /// It has events.
    Before,
}

impl Known {
    /// By the log's keys, which are copied once for all assets that are asked for.
    pub(crate) fn by(keys: &HashMap<Arc<str>, u64>, asset: &Arc<str>) -> Self {
        if keys.contains_key(asset) { Self::Before } else { Self::New }
    }
}

/// What is known of a device before it ever answered.
#[derive(PartialEq)]
pub(crate) struct Facts {
    pub(crate) asset: Arc<str>,
    /// `OPCUA`, `MODBUS`.
    pub(crate) protocol: &'static str,
    pub(crate) uns: Option<Uns>,
}

impl Facts {
    /// The facts as samples. `known`: whether the log has events of the asset.
    pub(crate) fn samples(&self, gateway: &str, known: Known) -> Vec<Sample> {
        let now = Timestamp::now();
        let mut samples = registration(&self.asset, facts::DEVICE, self.uns.as_ref(), known, now);
        samples.push(facts::gateway(self.asset.clone(), self.protocol, gateway, now));
        samples
    }
}

/// The edge is an asset too.
pub(crate) fn edge_starts(own_asset: &Arc<str>, known: Known) -> Vec<Sample> {
    let now = Timestamp::now();
    let mut samples = registration(own_asset, EDGE, None, known, now);
    samples.push(facts::availability(own_asset.clone(), Availability::Available, now));
    samples
}

/// The last event of an edge that stops in order, and what a crash could not say of itself and of its devices.
pub(crate) fn unavailable(asset: &Arc<str>) -> Vec<Sample> {
    vec![facts::availability(asset.clone(), Availability::Unavailable, Timestamp::now())]
}

/// Type and place are told at each start, the same again if nothing changed. References are told empty only to a new asset: others may
/// have set them since.
fn registration(asset: &Arc<str>, asset_type: &str, uns: Option<&Uns>, known: Known, now: Timestamp) -> Vec<Sample> {
    let mut samples = facts::registration(asset.clone(), asset_type, uns, now);
    if known == Known::Before {
        samples.retain(|sample| !sample.item.id.starts_with("references_"));
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::{Facts, Known};

    #[test]
    fn a_restart_does_not_empty_the_references_that_others_have_set() {
        let facts = Facts { asset: "PRESS-1".into(), protocol: "OPCUA", uns: None };
        let ids = |known| facts.samples("EDGE-1", known).iter().map(|s| s.item.id.to_string()).collect::<Vec<_>>();
        assert_eq!(ids(Known::New), ["AssetType", "references_above", "references_below", "gateway"]);
        assert_eq!(ids(Known::Before), ["AssetType", "gateway"]);
    }
}
