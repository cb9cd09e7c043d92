//! A server's nodes, from one of them downwards, in the order in which a person reads a tree.

use std::collections::HashSet;

use opcua::client::Session;
use opcua::types::{
    BrowseDescription, BrowseDirection, BrowseResultMaskFlags, NodeClass, NodeClassMask, NodeId, ObjectId, QualifiedName,
    ReferenceDescription, ReferenceTypeId, StatusCode,
};

use crate::limits::{self, Limits};

/// A node, and the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) id: NodeId,
    pub(crate) class: NodeClass,
    /// Browse names below the start (exclusive), the node's own the last.
    pub(crate) path: Vec<QualifiedName>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) steps: Vec<Step>,
    /// Nodes lie deeper, or there are more of them.
    pub(crate) is_cut: bool,
}

/// Goes down from a node: objects and variables, each once, and methods once for each object that has them (instances of a type share theirs). Properties are left out, and the Server object unless it is the
/// start. `most`: nodes; `progress` hears how many were found.
pub(crate) async fn walk(
    session: &Session,
    limits: &Limits,
    start: &NodeId,
    depth: usize,
    most: usize,
    mut progress: impl FnMut(usize),
) -> Result<Walked, StatusCode> {
    let mut seen = HashSet::from([start.clone()]);
    let mut methods = HashSet::new();
    let mut walked = Walked::default();
    let mut level = vec![(start.clone(), Vec::new())];
    for deeper in 0.. {
        if level.is_empty() {
            break;
        }
        if deeper == depth {
            walked.is_cut = true;
            break;
        }
        let asked: Vec<_> = level.iter().map(|(id, _)| children(id.clone())).collect();
        let mut next = Vec::new();
        // In pieces, so that whoever waits sees how far it is, and a limit ends it soon.
        let piece = limits.browse();
        for (asked, level) in asked.chunks(piece).zip(level.chunks(piece)) {
            if walked.steps.len() == most {
                walked.is_cut = true;
                break;
            }
            let answers = limits::browse(session, limits, asked).await?;
            // A node that does not let itself be browsed has no children for us.
            let answers = level.iter().zip(answers).filter_map(|(node, answer)| Some((node, answer.ok()?)));
            for ((parent, path), reference) in answers.flat_map(|(node, references)| references.into_iter().map(move |r| (node, r))) {
                let Some(step) = step(reference, path) else { continue };
                let is_method = step.class == NodeClass::Method;
                let is_new = if is_method { methods.insert((parent.clone(), step.id.clone())) } else { seen.insert(step.id.clone()) };
                if !is_new {
                    continue;
                }
                if walked.steps.len() == most {
                    walked.is_cut = true;
                    break;
                }
                if !is_method {
                    next.push((step.id.clone(), step.path.clone()));
                }
                walked.steps.push(step);
            }
            progress(walked.steps.len());
        }
        if walked.steps.len() == most && !next.is_empty() {
            walked.is_cut = true;
            break;
        }
        level = next;
    }
    walked.steps.sort_by(|a, b| order(&a.path, &b.path));
    Ok(walked)
}

/// As people look for names: without regard to case, the namespace last.
fn order(a: &[QualifiedName], b: &[QualifiedName]) -> std::cmp::Ordering {
    let key = |name: &QualifiedName| (name.name.as_ref().to_lowercase(), name.name.as_ref().to_owned(), name.namespace_index);
    a.iter().map(key).cmp(b.iter().map(key))
}

/// The question for what lies directly below a node.
pub(crate) fn children(node_id: NodeId) -> BrowseDescription {
    BrowseDescription {
        node_id,
        browse_direction: BrowseDirection::Forward,
        reference_type_id: ReferenceTypeId::HierarchicalReferences.into(),
        include_subtypes: true,
        node_class_mask: (NodeClassMask::OBJECT | NodeClassMask::VARIABLE | NodeClassMask::METHOD).bits(),
        result_mask: (BrowseResultMaskFlags::BrowseName | BrowseResultMaskFlags::NodeClass | BrowseResultMaskFlags::ReferenceTypeId).bits(),
    }
}

fn step(reference: ReferenceDescription, path: &[QualifiedName]) -> Option<Step> {
    let id = reference.node_id.node_id;
    let is_here = reference.node_id.server_index == 0 && id != ObjectId::Server;
    let is_property = reference.reference_type_id == ReferenceTypeId::HasProperty;
    let path = path.iter().cloned().chain([reference.browse_name]).collect();
    (is_here && !is_property).then_some(Step { id, class: reference.node_class, path })
}
