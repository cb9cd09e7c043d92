//! Which NATS cluster serves an asset: the contract's consistent hash ring.

use sha2::{Digest, Sha256};

/// Positions of a cluster on the ring.
const REPLICAS: usize = 128;

/// SHA-256 read as a big-endian integer: its bytes compare like the integer.
type Place = [u8; 32];

/// The ring. The same clusters give the same ring in every process, whatever the order in which they are named.
#[derive(Clone, Debug)]
pub struct Ring {
    /// Sorted by place; the number is the cluster's index in `names`.
    places: Vec<(Place, usize)>,
    names: Vec<String>,
}

impl Ring {
    /// A ring of these clusters; `None` if there are none.
    pub fn new<I: IntoIterator<Item = S>, S: Into<String>>(clusters: I) -> Option<Self> {
        let mut names: Vec<String> = clusters.into_iter().map(Into::into).collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            return None;
        }
        let mut places: Vec<(Place, usize)> = (0..names.len())
            .flat_map(|cluster| (0..REPLICAS).map(move |replica| (cluster, replica)))
            .map(|(cluster, replica)| (place(format!("{}::{replica}", names[cluster]).as_bytes()), cluster))
            .collect();
        places.sort_unstable();
        Some(Self { places, names })
    }

    /// The clusters, sorted by name.
    pub fn clusters(&self) -> &[String] {
        &self.names
    }

    /// Index in [`Self::clusters`] of the cluster that serves the asset: the first position strictly greater than the asset's.
    pub fn index(&self, asset: &str) -> usize {
        if self.names.len() == 1 {
            return 0;
        }
        let asset = place(asset.as_bytes());
        let next = self.places.partition_point(|(place, _)| *place <= asset);
        self.places[next % self.places.len()].1
    }

    /// Name of the cluster that serves the asset.
    pub fn cluster(&self, asset: &str) -> &str {
        &self.names[self.index(asset)]
    }
}

fn place(text: &[u8]) -> Place {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::{Ring, place};

    // Computed with Python's hashlib and bisect, as existing forwarders and routers do it. ASSET-14 lies behind the last position.
    const ASSETS: [&str; 8] = ["OPCUA-SENSOR-001", "PRESS-1", "CNC-9207", "", "ü-1", "FURNACE 2", "A.B", "ASSET-14"];
    const OF_TWO: [&str; 8] = ["C1", "C2", "C2", "C2", "C2", "C1", "C2", "C1"];
    const OF_THREE: [&str; 8] = ["B", "A", "C", "C", "C", "A", "B", "A"];

    #[test]
    fn assets_go_where_existing_installations_look_for_them() {
        let (two, three) = (Ring::new(["C2", "C1"]).expect("clusters"), Ring::new(["A", "B", "C"]).expect("clusters"));
        assert_eq!(ASSETS.map(|asset| two.cluster(asset)), OF_TWO);
        assert_eq!(ASSETS.map(|asset| three.cluster(asset)), OF_THREE);
    }

    #[test]
    fn positions_are_sha_256_of_cluster_and_replica() {
        assert_eq!(place(b"C1::0")[..4], [0x21, 0x98, 0x96, 0x4a]);
        assert_eq!(place(b"C2::127")[..4], [0xc2, 0xdd, 0xe2, 0x8f]);
    }

    #[test]
    fn one_cluster_serves_everything_and_none_is_no_ring() {
        assert_eq!(Ring::new(["ONLY", "ONLY"]).expect("one").cluster("PRESS-1"), "ONLY");
        assert!(Ring::new(Vec::<String>::new()).is_none());
    }
}
