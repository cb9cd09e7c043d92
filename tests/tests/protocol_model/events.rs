//! What travels: a few events of two assets, numbered as their edge numbers them.

/// Place in the edge's log (`of-seq`), from 1.
pub(crate) type Sequence = u8;

/// What the model needs to know of an event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) asset: &'static str,
    /// Place among the asset's events (`of-asset-seq`).
    pub(crate) asset_sequence: u8,
    /// Asset and item are the subject on NATS.
    pub(crate) item: &'static str,
}

/// The events in the log's order. PRESS-1 tells of two items, so that its events share an order, but not a subject.
const EVENTS: [Event; 5] = [
    Event { asset: "PRESS-1", asset_sequence: 1, item: "load" },
    Event { asset: "PRESS-2", asset_sequence: 1, item: "load" },
    Event { asset: "PRESS-1", asset_sequence: 2, item: "speed" },
    Event { asset: "PRESS-1", asset_sequence: 3, item: "load" },
    Event { asset: "PRESS-2", asset_sequence: 2, item: "load" },
];

/// The event with this number.
pub(crate) fn event(sequence: Sequence) -> &'static Event {
    &EVENTS[usize::from(sequence) - 1]
}

/// The partition of the event's asset.
pub(crate) fn partition_of(sequence: Sequence, partitions: usize) -> usize {
    let is_first = event(sequence).asset == EVENTS[0].asset;
    usize::from(!is_first) % partitions
}

/// Whether a record carries `of-resent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Header {
    None,
    Resent,
}

/// An event in Kafka, as every reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Record {
    pub(crate) sequence: Sequence,
    pub(crate) header: Header,
}

/// Whether each asset's events, at their first appearance, come one after the other from the first one on.
pub(crate) fn are_in_order(sequences: impl Iterator<Item = Sequence>) -> bool {
    let mut last = std::collections::BTreeMap::new();
    for Event { asset, asset_sequence, .. } in sequences.map(event) {
        let last = last.entry(asset).or_insert(0);
        if *asset_sequence > *last + 1 {
            return false;
        }
        *last = (*last).max(*asset_sequence);
    }
    true
}
