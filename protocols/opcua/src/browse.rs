//! What a server has, for a person who has no device file yet.

use asset_stream::device_file::Access;
use opcua::client::Session;
use opcua::types::{
    AttributeId, DataTypeId, DataValue, NodeClass, NodeId, QualifiedName, ReadValueId, StatusCode, TimestampsToReturn, Variant,
};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

use crate::config::Config;
use crate::convert::{convert, status_text};
use crate::limits::{self, Limits};
use crate::meaning::read_meanings;
use crate::nodes::{self, Address};
use crate::run::Shared;
use crate::visit::{Visit, said};
use crate::walk::{Step, walk};

/// The bit of AccessLevel that allows to write the value (OPC UA Part 3, 8.57).
const CURRENT_WRITE: u8 = 1 << 1;

/// What to browse.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Where to begin.
    pub start: Address,
    /// How many levels below it.
    pub depth: usize,
    /// At most so many nodes.
    pub most: usize,
}

/// A node of a server.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    /// As a device file names it, e.g. `ns=2;s=Temperature`.
    pub node_id: String,
    /// Browse names from below the start to the node, e.g. `["2:Oven", "2:Temperature"]`.
    pub path: Vec<String>,
    /// `Object`, `Variable` or `Method`.
    pub class: &'static str,
    /// A variable's.
    #[serde(flatten)]
    pub variable: Option<Variable>,
}

/// What a variable holds.
#[derive(Clone, Debug, Serialize)]
pub struct Variable {
    /// The browse name of its data type; an array ends with `[]`.
    pub data_type: String,
    /// Its value now, as JSON; `None`: there is none, `status` says why.
    pub value: Option<String>,
    /// Its status, unless it is Good.
    pub status: Option<String>,
    /// Whether our login may write it.
    pub writable: bool,
}

impl Variable {
    /// As a device file says it.
    pub(crate) fn access(&self) -> Access {
        if self.writable { Access::ReadWrite } else { Access::ReadOnly }
    }
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Browsed {
    /// As a tree is read: each node behind the one above it.
    pub nodes: Vec<Node>,
    /// There are more nodes, or deeper ones.
    pub is_cut: bool,
}

/// Connects as the connector says and browses. `progress` hears how many nodes were found so far.
///
/// # Errors
/// Why the server cannot be reached or does not answer, in plain words.
pub async fn browse(config: &Config, shared: &Shared, extent: &Extent, progress: impl FnMut(usize)) -> Result<Browsed, String> {
    let visit = Visit::begin(config, shared, "browse").await?;
    let browsed = look(&visit.session, &visit.limits, extent, progress).await;
    visit.end().await;
    browsed
}

async fn look(session: &Session, limits: &Limits, extent: &Extent, progress: impl FnMut(usize)) -> Result<Browsed, String> {
    let found = nodes::resolve(session, limits, &[&extent.start]).await.map_err(said)?;
    let not_there = |status: StatusCode| format!("{}: {}", extent.start, status_text(status));
    let start = found.into_iter().next().unwrap_or(Err(StatusCode::BadNoMatch)).map_err(not_there)?;
    exists(session, limits, &start).await.map_err(said)?.map_err(not_there)?;
    let walked = walk(session, limits, &start, extent.depth, extent.most, progress).await.map_err(said)?;
    let nodes = describe(session, limits, walked.steps).await.map_err(said)?;
    Ok(Browsed { nodes, is_cut: walked.is_cut })
}

async fn exists(session: &Session, limits: &Limits, node: &NodeId) -> Result<Result<(), StatusCode>, StatusCode> {
    let question = [ReadValueId::new(node.clone(), AttributeId::NodeClass)];
    let answer = limits::read(session, limits, &question, TimestampsToReturn::Neither).await?;
    let status = answer.first().map_or(StatusCode::BadUnknownResponse, DataValue::status);
    Ok(if status.is_bad() { Err(status) } else { Ok(()) })
}

async fn describe(session: &Session, limits: &Limits, steps: Vec<Step>) -> Result<Vec<Node>, StatusCode> {
    let variables: Vec<NodeId> = steps.iter().filter(|step| step.class == NodeClass::Variable).map(|step| step.id.clone()).collect();
    let mut described = read_variables(session, limits, &variables).await?.into_iter();
    let node = |step: Step| Node {
        node_id: step.id.to_string(),
        path: step.path.iter().map(name).collect(),
        class: class(step.class),
        variable: if step.class == NodeClass::Variable { described.next() } else { None },
    };
    Ok(steps.into_iter().map(node).collect())
}

/// Types, values and rights of variables, in their order.
pub(crate) async fn read_variables(session: &Session, limits: &Limits, ids: &[NodeId]) -> Result<Vec<Variable>, StatusCode> {
    let attributes = [AttributeId::DataType, AttributeId::ValueRank, AttributeId::UserAccessLevel];
    let questions: Vec<_> = ids.iter().flat_map(|id| attributes.map(|attribute| ReadValueId::new(id.clone(), attribute))).collect();
    let answers = limits::read(session, limits, &questions, TimestampsToReturn::Neither).await?;
    let types: HashSet<NodeId> = answers.iter().step_by(attributes.len()).filter_map(data_type).collect();
    let types = type_names(session, limits, types).await?;
    let meanings = read_meanings(session, limits, ids).await?;
    let questions: Vec<_> = ids.iter().map(|id| ReadValueId::from(id.clone())).collect();
    let values = limits::read(session, limits, &questions, TimestampsToReturn::Both).await?;
    let variable = |((told, meaning), data): ((&[DataValue], _), DataValue)| {
        let name = data_type(&told[0]).and_then(|id| types.get(&id).cloned()).unwrap_or_else(|| "?".to_owned());
        let is_array = matches!(told[1].value, Some(Variant::Int32(rank)) if rank >= 0);
        let level = told[2].value.as_ref().and_then(|level| level.clone().try_cast_to::<u8>().ok());
        let is_readable = !data.status().is_bad() && data.value.is_some();
        Variable {
            data_type: if is_array { format!("{name}[]") } else { name },
            value: is_readable.then(|| json(&data, &meaning)),
            status: (data.status() != StatusCode::Good).then(|| status_text(data.status()).into_owned()),
            writable: level.is_some_and(|level| level & CURRENT_WRITE != 0),
        }
    };
    Ok(answers.chunks(attributes.len()).zip(meanings).zip(values).map(variable).collect())
}

fn json(data: &DataValue, meaning: &crate::meaning::Meaning) -> String {
    let mut json = Vec::new();
    convert(data, meaning).value.write(&mut json);
    String::from_utf8_lossy(&json).into_owned()
}

fn data_type(answer: &DataValue) -> Option<NodeId> {
    match (&answer.value, answer.status().is_bad()) {
        (Some(Variant::NodeId(id)), false) => Some((**id).clone()),
        _ => None,
    }
}

async fn type_names(session: &Session, limits: &Limits, types: HashSet<NodeId>) -> Result<HashMap<NodeId, String>, StatusCode> {
    let types: Vec<NodeId> = types.into_iter().collect();
    let questions: Vec<_> = types.iter().map(|id| ReadValueId::new(id.clone(), AttributeId::BrowseName)).collect();
    let answers = limits::read(session, limits, &questions, TimestampsToReturn::Neither).await?;
    let name = |(id, answer): (NodeId, DataValue)| {
        let told = match &answer.value {
            Some(Variant::QualifiedName(name)) if !answer.status().is_bad() => Some(name.name.as_ref().to_owned()),
            _ => None,
        };
        // Small servers do not show where the standard's types come from.
        let standard = || id.as_data_type_id().map_or_else(|_| id.to_string(), |known: DataTypeId| format!("{known:?}"));
        let name = told.unwrap_or_else(standard);
        (id, name)
    };
    Ok(types.into_iter().zip(answers).map(name).collect())
}

/// As a browse path has it; `/` and `&` in a name are written `&/` and `&&`.
pub(crate) fn name(name: &QualifiedName) -> String {
    let escaped = name.name.as_ref().replace('&', "&&").replace('/', "&/");
    format!("{}:{escaped}", name.namespace_index)
}

fn class(class: NodeClass) -> &'static str {
    match class {
        NodeClass::Variable => "Variable",
        NodeClass::Method => "Method",
        _ => "Object",
    }
}
