//! The methods that an asset offers: found below the configured nodes, and told as `Method` events.

use std::collections::HashSet;
use std::sync::Arc;

use asset_stream::command::method_name;
use asset_stream::{Sample, Timestamp, facts};
use opcua::client::Session;
use opcua::types::{
    Argument, AttributeId, BrowseDescription, BrowseDirection, BrowseResultMaskFlags, DataValue, NodeClass, NodeClassMask, NodeId,
    ObjectId, ReadValueId, ReferenceDescription, ReferenceTypeId, StatusCode, TimestampsToReturn, VariableId, Variant,
};
use tracing::warn;

use crate::convert::status_text;
use crate::limits::{self, Limits};
use crate::names::choose_names;

/// Objects that are looked at below all nodes together, and how deep: a root such as `0:Root/0:Objects` may hold a whole plant.
const OBJECTS: usize = 20_000;
const LEVELS: usize = 20;

/// A method that can be called on an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Method {
    /// The `ID` of its event; commands call it by this name.
    pub(crate) name: String,
    /// On which object it is called.
    pub(crate) object: NodeId,
    /// Which method.
    pub(crate) method: NodeId,
    /// What the server says about it.
    pub(crate) description: String,
    /// What it is called with, in order.
    pub(crate) inputs: Vec<Parameter>,
    /// What it gives back, in order.
    pub(crate) outputs: Vec<Parameter>,
}

/// An argument of a method.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) data_type: NodeId,
    /// OPC UA's: -1 a scalar, 1 an array, 2 a matrix.
    pub(crate) value_rank: i32,
}

impl Method {
    /// The event that offers it.
    pub(crate) fn sample(&self, asset: &Arc<str>, now: Timestamp) -> Sample {
        let argument = |input: &Parameter| facts::Argument { name: input.name.clone(), description: input.description.clone() };
        let method = facts::Method { description: self.description.clone(), arguments: self.inputs.iter().map(argument).collect() };
        method.to_sample(asset.clone(), &self.name, now)
    }
}

/// A method, and the way to it.
#[derive(Clone, Debug)]
struct Found {
    object: NodeId,
    method: NodeId,
    /// Browse names from the configured node (exclusive) to the method (inclusive).
    path: Vec<String>,
}

/// Finds every method below the nodes, at any depth. `roots`: local names and nodes; `taken`: names that the device has given away.
/// A node that cannot be browsed is logged and passed over; an error is a service that failed.
pub(crate) async fn discover_methods(
    session: &Session,
    limits: &Limits,
    roots: &[(String, NodeId)],
    taken: &HashSet<String>,
) -> Result<Vec<Method>, StatusCode> {
    if roots.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = search(session, limits, roots).await?;
    // The order of answers is the server's; names must not depend on it.
    found.sort_by(|a, b| (&a.path, a.object.to_string()).cmp(&(&b.path, b.object.to_string())));
    found.dedup_by(|a, b| (&a.object, &a.method) == (&b.object, &b.method));
    let paths: Vec<&[String]> = found.iter().map(|found| found.path.as_slice()).collect();
    let names = choose_names(&paths, taken, safe_name);
    let details = read_details(session, limits, &found).await?;
    let method = |((found, name), details): ((Found, String), Details)| Method {
        name,
        object: found.object,
        method: found.method,
        description: details.description,
        inputs: details.inputs,
        outputs: details.outputs,
    };
    Ok(found.into_iter().zip(names).zip(details).map(method).collect())
}

fn hierarchy(node_id: NodeId, browse_direction: BrowseDirection, mask: NodeClassMask) -> BrowseDescription {
    BrowseDescription {
        node_id,
        browse_direction,
        reference_type_id: ReferenceTypeId::HierarchicalReferences.into(),
        include_subtypes: true,
        node_class_mask: mask.bits(),
        result_mask: (BrowseResultMaskFlags::BrowseName | BrowseResultMaskFlags::NodeClass).bits(),
    }
}

async fn search(session: &Session, limits: &Limits, roots: &[(String, NodeId)]) -> Result<Vec<Found>, StatusCode> {
    let mut found = root_methods(session, limits, roots).await?;
    let mut seen: HashSet<NodeId> = roots.iter().map(|(_, id)| id.clone()).collect();
    let mut level: Vec<(NodeId, Vec<String>)> = roots.iter().map(|(_, id)| (id.clone(), Vec::new())).collect();
    let mut depth = 0;
    while !level.is_empty() {
        if depth == LEVELS || seen.len() > OBJECTS {
            warn!(objects = seen.len(), depth, "the search for methods stops here; configure nodes nearer to them");
            break;
        }
        depth += 1;
        let mask = NodeClassMask::OBJECT | NodeClassMask::METHOD;
        let down: Vec<_> = level.iter().map(|(id, _)| hierarchy(id.clone(), BrowseDirection::Forward, mask)).collect();
        let answers = limits::browse(session, limits, &down).await?;
        for ((object, path), answer) in std::mem::take(&mut level).into_iter().zip(answers) {
            let references = match answer {
                Ok(references) => references,
                Err(status) => {
                    warn!(node = %object, status = %status_text(status), "a node cannot be searched for methods");
                    continue;
                }
            };
            for reference in references {
                if reference.node_id.server_index != 0 {
                    continue;
                }
                let (class, id, path) = step(reference, &path);
                match class {
                    NodeClass::Method => found.push(Found { object: object.clone(), method: id, path }),
                    // The methods of every server's Server object (GetMonitoredItems …) are no operations of an asset.
                    NodeClass::Object if id == ObjectId::Server => {}
                    NodeClass::Object if seen.insert(id.clone()) => level.push((id, path)),
                    _ => {}
                }
            }
        }
    }
    Ok(found)
}

fn step(reference: ReferenceDescription, path: &[String]) -> (NodeClass, NodeId, Vec<String>) {
    let name = reference.browse_name.name.as_ref().to_owned();
    (reference.node_class, reference.node_id.node_id, path.iter().cloned().chain([name]).collect())
}

/// Configured nodes that are methods themselves: called on the object that has them.
async fn root_methods(session: &Session, limits: &Limits, roots: &[(String, NodeId)]) -> Result<Vec<Found>, StatusCode> {
    let questions =
        roots.iter().flat_map(|(_, id)| [AttributeId::NodeClass, AttributeId::BrowseName].map(|a| ReadValueId::new(id.clone(), a)));
    let answers = limits::read(session, limits, &questions.collect::<Vec<_>>(), TimestampsToReturn::Neither).await?;
    let method = |((_, id), pair): (&(String, NodeId), &[DataValue])| match (&pair[0].value, &pair[1].value) {
        (Some(Variant::Int32(class)), Some(Variant::QualifiedName(name))) if *class == NodeClass::Method as i32 => {
            Some((id.clone(), name.name.as_ref().to_owned()))
        }
        _ => None,
    };
    let methods: Vec<_> = roots.iter().zip(answers.chunks(2)).filter_map(method).collect();
    let up: Vec<_> = methods.iter().map(|(id, _)| hierarchy(id.clone(), BrowseDirection::Inverse, NodeClassMask::OBJECT)).collect();
    let parents = limits::browse(session, limits, &up).await?;
    let found = |((method, name), parents): ((NodeId, String), Result<Vec<ReferenceDescription>, StatusCode>)| {
        let object = parents.ok()?.into_iter().next()?.node_id.node_id;
        Some(Found { object, method, path: vec![name] })
    };
    Ok(methods.into_iter().zip(parents).filter_map(found).collect())
}

/// What a server says about a method.
struct Details {
    description: String,
    inputs: Vec<Parameter>,
    outputs: Vec<Parameter>,
}

/// Descriptions and arguments, in order.
async fn read_details(session: &Session, limits: &Limits, found: &[Found]) -> Result<Vec<Details>, StatusCode> {
    let properties: Vec<_> = found
        .iter()
        .map(|found| BrowseDescription {
            reference_type_id: ReferenceTypeId::HasProperty.into(),
            ..hierarchy(found.method.clone(), BrowseDirection::Forward, NodeClassMask::VARIABLE)
        })
        .collect();
    let answers = limits::browse(session, limits, &properties).await?;
    let named = |references: &[ReferenceDescription], name: &str| {
        references.iter().find(|r| r.browse_name.name.as_ref() == name).map(|r| r.node_id.node_id.clone())
    };
    let arguments = |answer: Result<Vec<ReferenceDescription>, StatusCode>| {
        let references = answer.unwrap_or_default();
        ["InputArguments", "OutputArguments"].map(|name| named(&references, name))
    };
    let arguments: Vec<[Option<NodeId>; 2]> = answers.into_iter().map(arguments).collect();
    // Methods without arguments have no such property: something readable is asked for in its place, to keep the order simple.
    let filler = NodeId::from(VariableId::Server_ServerStatus_State);
    let questions = found.iter().zip(&arguments).flat_map(|(found, arguments)| {
        let value = |node: &Option<NodeId>| ReadValueId::new(node.as_ref().unwrap_or(&filler).clone(), AttributeId::Value);
        let [inputs, outputs] = arguments;
        [ReadValueId::new(found.method.clone(), AttributeId::Description), value(inputs), value(outputs)]
    });
    let answers = limits::read(session, limits, &questions.collect::<Vec<_>>(), TimestampsToReturn::Neither).await?;
    let details = |three: &[DataValue]| Details {
        description: description(&three[0]),
        inputs: parameters(&three[1]),
        outputs: parameters(&three[2]),
    };
    Ok(answers.chunks(3).map(details).collect())
}

fn description(answer: &DataValue) -> String {
    match &answer.value {
        Some(Variant::LocalizedText(text)) if !answer.status().is_bad() => text.text.as_ref().to_owned(),
        _ => String::new(),
    }
}

fn parameters(answer: &DataValue) -> Vec<Parameter> {
    let Some(Variant::Array(array)) = &answer.value else { return Vec::new() };
    let parameter = |value: &Variant| {
        let Variant::ExtensionObject(object) = value else { return None };
        let argument = object.inner_as::<Argument>()?;
        Some(Parameter {
            name: argument.name.as_ref().to_owned(),
            description: argument.description.text.as_ref().to_owned(),
            data_type: argument.data_type.clone(),
            value_rank: argument.value_rank,
        })
    };
    array.values.iter().filter_map(parameter).collect()
}

/// As [`method_name`], for a name without a single Latin letter or digit too.
fn safe_name(path: &[String]) -> String {
    method_name(&path.join("_")).unwrap_or_else(|| "Method".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Method, Parameter};
    use asset_stream::Timestamp;
    use opcua::types::NodeId;

    #[test]
    fn a_method_is_offered_as_the_contract_says() {
        let input = Parameter { name: "x".into(), description: "target \"x\"".into(), data_type: NodeId::new(0, 11), value_rank: -1 };
        let method = Method {
            name: "Move".into(),
            object: NodeId::new(2, 1),
            method: NodeId::new(2, 2),
            description: "Moves".into(),
            inputs: vec![input],
            outputs: Vec::new(),
        };
        let mut json = Vec::new();
        method.sample(&"CNC-1".into(), Timestamp::from_millis(0)).encode(&mut json);
        let json = String::from_utf8(json).expect("UTF-8");
        let value = r#"{\"description\":\"Moves\",\"arguments\":[{\"name\":\"x\",\"description\":\"target \\\"x\\\"\"}]}"#;
        assert!(json.starts_with(&format!(r#"{{"ID":"Move","VALUE":"{value}","TAG":"Method","TYPE":"Method","#)), "{json}");
    }
}
