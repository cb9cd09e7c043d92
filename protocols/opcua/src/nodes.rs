//! Where a data item is found on the server: a node id, or a path of browse names from the root.

use std::fmt;
use std::str::FromStr;

use opcua::client::Session;
use opcua::types::{BrowsePath, NodeId, ObjectId, QualifiedName, ReferenceTypeId, RelativePath, RelativePathElement, StatusCode};

use crate::limits::{Limits, translate};
use crate::recovery::is_connection;

/// A node on the server, as the device file names it.
#[derive(Clone, Debug, PartialEq)]
pub enum Address {
    /// `node_id`, e.g. `ns=2;s=Temperature`.
    Node(NodeId),
    /// `browse_path`, e.g. `0:Root/0:Objects/2:Sensors`: the steps below the root. Empty: the root itself.
    Path(Vec<QualifiedName>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "{id}"),
            Self::Path(steps) => {
                f.write_str("0:Root")?;
                steps.iter().try_for_each(|step| write!(f, "/{}:{}", step.namespace_index, step.name))
            }
        }
    }
}

impl Address {
    /// Reads a `node_id`.
    pub fn node_id(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no node id: write e.g. ns=2;s=Temperature, ns=2;i=1001, ns=3;g=<GUID> or ns=3;b=<base64>");
        // The library takes `ns=2;` away by itself but lets blanks stand.
        let id = NodeId::from_str(text.trim()).map_err(|_| wrong())?;
        if id.is_null() { Err(wrong()) } else { Ok(Self::Node(id)) }
    }

    /// Reads a `browse_path`: steps `<namespace>:<name>` from `0:Root`, separated by `/`; a `/` or `&` within a name is written `&/`, `&&`.
    pub fn browse_path(text: &str) -> Result<Self, String> {
        let mut steps = steps(text)?.into_iter();
        match steps.next() {
            Some(root) if root.namespace_index == 0 && root.name.as_ref() == "Root" => Ok(Self::Path(steps.collect())),
            _ => Err(format!("{text:?} does not start at 0:Root: write e.g. 0:Root/0:Objects/2:Sensors")),
        }
    }

    fn to_path(&self) -> Option<BrowsePath> {
        let Self::Path(steps) = self else { return None };
        let element = |name: &QualifiedName| RelativePathElement {
            reference_type_id: ReferenceTypeId::HierarchicalReferences.into(),
            is_inverse: false,
            include_subtypes: true,
            target_name: name.clone(),
        };
        let elements = Some(steps.iter().map(element).collect());
        Some(BrowsePath { starting_node: ObjectId::RootFolder.into(), relative_path: RelativePath { elements } })
    }
}

fn steps(text: &str) -> Result<Vec<QualifiedName>, String> {
    let mut parts = vec![String::new()];
    let mut characters = text.trim().chars();
    while let Some(c) = characters.next() {
        let last = parts.len() - 1;
        match c {
            '/' => parts.push(String::new()),
            '&' => parts[last].extend(characters.next()),
            c => parts[last].push(c),
        }
    }
    let step = |part: String| {
        let wrong = || format!("step {part:?} of {text:?} is not <namespace>:<name>, e.g. 2:Sensors");
        let (namespace, name) = part.split_once(':').ok_or_else(wrong)?;
        let namespace: u16 = namespace.parse().map_err(|_| wrong())?;
        if name.is_empty() { Err(wrong()) } else { Ok(QualifiedName::new(namespace, name)) }
    };
    parts.into_iter().map(step).collect()
}

/// Finds the nodes of addresses, each with an answer of its own; an error where the server could not be asked.
pub(crate) async fn resolve(
    session: &Session,
    limits: &Limits,
    addresses: &[&Address],
) -> Result<Vec<Result<NodeId, StatusCode>>, StatusCode> {
    let mut paths = Vec::new();
    let mut found: Vec<Result<NodeId, StatusCode>> = Vec::with_capacity(addresses.len());
    for (index, address) in addresses.iter().enumerate() {
        found.push(match address {
            Address::Node(id) => Ok(id.clone()),
            Address::Path(steps) if steps.is_empty() => Ok(ObjectId::RootFolder.into()),
            Address::Path(_) => {
                paths.extend(address.to_path().map(|path| (index, path)));
                Err(StatusCode::BadNoMatch)
            }
        });
    }
    let asked: Vec<BrowsePath> = paths.iter().map(|(_, path)| path.clone()).collect();
    let results = match translate(session, limits, &asked).await {
        Ok(results) => results,
        Err(status) if is_connection(status) => return Err(status),
        // It knows no paths: node ids still work.
        Err(status) => {
            paths.iter().for_each(|(index, _)| found[*index] = Err(status));
            Vec::new()
        }
    };
    for ((index, _), result) in paths.iter().zip(results) {
        found[*index] = if result.status_code.is_bad() {
            Err(result.status_code)
        } else {
            // A path that leads on to another server has steps left over.
            let mut targets = result.targets.unwrap_or_default().into_iter();
            let whole = targets.find(|t| t.remaining_path_index == u32::MAX && t.target_id.server_index == 0);
            whole.map(|t| t.target_id.node_id).ok_or(StatusCode::BadNoMatch)
        };
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::Address;
    use opcua::types::{NodeId, QualifiedName};

    #[test]
    fn node_ids_of_every_kind_are_read() {
        for (text, id) in
            [("ns=2;i=3", NodeId::new(2, 3_u32)), ("i=2258", NodeId::new(0, 2258_u32)), (" ns=3;s=a;b=c ", NodeId::new(3, "a;b=c"))]
        {
            assert_eq!(Address::node_id(text), Ok(Address::Node(id)), "{text}");
        }
        for text in ["", "temp", "ns=2", "ns=70000;i=1", "ns=2;i=", "ns=2;x=1"] {
            assert!(Address::node_id(text).is_err(), "{text:?} was taken as a node id");
        }
    }

    #[test]
    fn a_browse_path_starts_at_the_root_and_names_the_namespace_of_every_step() {
        let path = Address::browse_path("0:Root/0:Objects/2:A&/B: 1").expect("valid");
        assert_eq!(path, Address::Path(vec![QualifiedName::new(0, "Objects"), QualifiedName::new(2, "A/B: 1")]));
        assert_eq!(path.to_string(), "0:Root/0:Objects/2:A/B: 1");
        for text in ["", "0:Objects", "2:Root/0:Objects", "0:Root/Objects", "0:Root//2:a", "0:Root/x:a", "0:Root/"] {
            assert!(Address::browse_path(text).is_err(), "{text:?} was taken as a browse path");
        }
    }
}
