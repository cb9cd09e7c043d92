//! Kafka topics of the contract; all of them are defaults that a config may change.

/// The asset stream: one topic for all assets, keyed by asset UUID. The only system of record.
pub const ASSETS: &str = "ofa_assets";
/// Commands alone, with the same keys and values as in the asset stream, so that an edge need not read all of that.
pub const COMMANDS: &str = "ofa_cmds";
/// Each running edge announces itself here; compacted, keyed by edge id.
pub const EDGES: &str = "ofa_edges";
/// What the forwarder could not forward, with the reason in its headers.
pub const DEAD_LETTERS: &str = "ofa_dead_letters";
