//! What a server takes in one request.
//!
//! The library sends whatever it is given; a server with a limit of 500 refuses 700 items as a whole. So every service that takes a list
//! goes through here: cut into pieces the server says it takes, and halved again where it says so wrongly.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opcua::client::services::{Browse, BrowseNext, Read, TranslateBrowsePaths};
use opcua::client::{Session, UARequest};
use opcua::types::{
    BrowseDescription, BrowsePath, BrowsePathResult, ByteString, DataValue, Error, NodeId, ReadValueId, ReferenceDescription, StatusCode,
    TimestampsToReturn, VariableId,
};

/// No request is larger than this, whatever the server claims: small controllers claim more than they can answer in time.
const LARGEST: usize = 1_000;
/// References a server may put into one answer to a browse; the rest follows with continuation points.
const REFERENCES: u32 = 1_000;
/// References of one node, many times what a machine has: a server that never comes to the end would keep us here for ever.
const MOST_REFERENCES: usize = 100_000;
/// For requests with long lists: small controllers need seconds for a thousand items.
pub(crate) const SLOW: Duration = Duration::from_secs(30);

/// How many operations go into one request, for each service; lowered as the server refuses.
#[derive(Debug)]
pub(crate) struct Limits {
    read: AtomicUsize,
    browse: AtomicUsize,
    translate: AtomicUsize,
    monitored_items: AtomicUsize,
}

impl Default for Limits {
    fn default() -> Self {
        let largest = || AtomicUsize::new(LARGEST);
        Self { read: largest(), browse: largest(), translate: largest(), monitored_items: largest() }
    }
}

impl Limits {
    /// Reads the server's OperationLimits. A server that does not tell has the defaults.
    pub(crate) async fn learn(&self, session: &Session) -> Result<(), StatusCode> {
        let told = [
            (VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerRead, &self.read),
            (VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse, &self.browse),
            (VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds, &self.translate),
            (VariableId::Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall, &self.monitored_items),
        ];
        let nodes: Vec<ReadValueId> = told.iter().map(|(id, _)| ReadValueId::from(NodeId::from(*id))).collect();
        // One by one where the server takes no more than that: the chunking halves.
        let values = read(session, self, &nodes, TimestampsToReturn::Neither).await?;
        for ((_, limit), value) in told.iter().zip(values) {
            let number = value.value.and_then(|v| v.try_cast_to::<u32>().ok()).map(|n| n as usize);
            // What was learned by refusal stays.
            if let Some(number @ 1..) = number {
                limit.fetch_min(number, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Nodes in one Read.
    pub(crate) fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }

    /// Nodes in one Browse.
    pub(crate) fn browse(&self) -> usize {
        self.browse.load(Ordering::Relaxed)
    }

    pub(crate) fn monitored_items(&self) -> &AtomicUsize {
        &self.monitored_items
    }
}

/// The request as a whole is too much for the server (or its answer for us).
fn is_too_much(status: StatusCode) -> bool {
    [
        StatusCode::BadTooManyOperations,
        StatusCode::BadRequestTooLarge,
        StatusCode::BadResponseTooLarge,
        StatusCode::BadEncodingLimitsExceeded,
        StatusCode::BadTcpMessageTooLarge,
    ]
    .contains(&status)
}

/// Calls a service with as many items as the limit allows, until all have an answer, in order; halves the limit where the server refuses
/// the number. An error ends it.
pub(crate) async fn in_pieces<T: Clone, R, F, Fut>(limit: &AtomicUsize, items: &[T], call: F) -> Result<Vec<R>, StatusCode>
where
    F: Fn(Vec<T>) -> Fut,
    Fut: Future<Output = Result<Vec<R>, Error>>,
{
    let mut results = Vec::with_capacity(items.len());
    while results.len() < items.len() {
        let rest = &items[results.len()..];
        let count = rest.len().min(limit.load(Ordering::Relaxed).max(1));
        match call(rest[..count].to_vec()).await {
            Ok(answer) if answer.len() == count => results.extend(answer),
            Ok(_) => return Err(StatusCode::BadUnknownResponse),
            Err(error) if is_too_much(error.status()) && count > 1 => limit.store(count.div_ceil(2), Ordering::Relaxed),
            Err(error) => return Err(error.status()),
        }
    }
    Ok(results)
}

/// Reads nodes' attributes: as many answers as questions, in order.
pub(crate) async fn read(
    session: &Session,
    limits: &Limits,
    nodes: &[ReadValueId],
    timestamps: TimestampsToReturn,
) -> Result<Vec<DataValue>, StatusCode> {
    in_pieces(&limits.read, nodes, |nodes| async move {
        let request = Read::new(session).nodes_to_read(nodes).timestamps_to_return(timestamps).timeout(SLOW);
        Ok(request.send(session.channel()).await?.results.unwrap_or_default())
    })
    .await
}

/// Browses nodes to the end of their references; each node has an answer of its own.
pub(crate) async fn browse(
    session: &Session,
    limits: &Limits,
    nodes: &[BrowseDescription],
) -> Result<Vec<Result<Vec<ReferenceDescription>, StatusCode>>, StatusCode> {
    let first = in_pieces(&limits.browse, nodes, |nodes| async move {
        let request = Browse::new(session).nodes_to_browse(nodes).max_references_per_node(REFERENCES).timeout(SLOW);
        Ok(request.send(session.channel()).await?.results.unwrap_or_default())
    })
    .await?;
    let mut all = Vec::with_capacity(first.len());
    for result in first {
        let mut status = result.status_code;
        let mut references = result.references.unwrap_or_default();
        let mut point = result.continuation_point;
        while !status.is_bad() && !is_end(&point) && references.len() < MOST_REFERENCES {
            let request = BrowseNext::new(session).continuation_points(vec![point]).timeout(SLOW);
            let answer = request.send(session.channel()).await.map_err(|e| e.status())?;
            let Some(next) = answer.results.unwrap_or_default().into_iter().next() else { break };
            let more = next.references.unwrap_or_default();
            // Likewise a server that gives a continuation point and nothing with it.
            point = if more.is_empty() { ByteString::null() } else { next.continuation_point };
            references.extend(more);
            // A part of the references is no answer.
            status = next.status_code;
        }
        all.push(if status.is_bad() { Err(status) } else { Ok(references) });
    }
    Ok(all)
}

fn is_end(point: &ByteString) -> bool {
    point.value.as_ref().is_none_or(|bytes| bytes.is_empty())
}

/// Asks for the nodes that paths lead to.
pub(crate) async fn translate(session: &Session, limits: &Limits, paths: &[BrowsePath]) -> Result<Vec<BrowsePathResult>, StatusCode> {
    in_pieces(&limits.translate, paths, |paths| async move {
        let request = TranslateBrowsePaths::new(session).browse_paths(paths).timeout(SLOW);
        Ok(request.send(session.channel()).await?.results.unwrap_or_default())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::in_pieces;
    use opcua::types::{Error, StatusCode};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn requests_are_cut_and_halved_until_the_server_takes_them() {
        let (limit, asked) = (AtomicUsize::new(1_000), Mutex::new(Vec::new()));
        let items: Vec<u32> = (0..700).collect();
        let results = in_pieces(&limit, &items, |piece| {
            asked.lock().expect("no panic before").push(piece.len());
            async move { if piece.len() > 200 { Err(Error::new(StatusCode::BadTooManyOperations, "too many")) } else { Ok(piece) } }
        })
        .await;
        assert_eq!(results, Ok(items));
        assert_eq!(*asked.lock().expect("no panic before"), [700, 350, 175, 175, 175, 175]);
        assert_eq!(limit.load(Ordering::Relaxed), 175);
    }

    #[tokio::test]
    async fn other_refusals_and_answers_of_the_wrong_length_end_it() {
        let limit = AtomicUsize::new(10);
        let refused = in_pieces(&limit, &[1, 2], |_| async { Err::<Vec<()>, _>(Error::new(StatusCode::BadTimeout, "late")) }).await;
        assert_eq!(refused, Err(StatusCode::BadTimeout));
        let short = in_pieces(&limit, &[1, 2], |_| async { Ok(vec![1]) }).await;
        assert_eq!(short, Err(StatusCode::BadUnknownResponse));
    }
}
