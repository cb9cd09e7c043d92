//! What can go wrong before a gateway runs.

use crate::{identity, trust};

/// The edge's own part of OPC UA cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The edge's own certificate and key.
    #[error("the edge's own OPC UA certificate")]
    Identity(#[source] identity::Error),
    /// The folders of trusted and rejected certificates.
    #[error("the folders of trusted and rejected OPC UA certificates")]
    Trust(#[source] trust::Error),
}
