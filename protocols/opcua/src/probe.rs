//! Whether a server has what a device file names, before anything depends on it.

use asset_stream::device_file::Access;
use asset_stream::document::nearest;
use gateway::Finding;
use opcua::client::Session;
use opcua::types::{
    AttributeId, DataValue, NodeClass, NodeId, ObjectId, QualifiedName, ReadValueId, StatusCode, TimestampsToReturn, Variant,
};
use std::collections::HashSet;

use crate::browse::{self, read_variables};
use crate::config::Config;
use crate::convert::status_text;
use crate::limits::{self, Limits};
use crate::methods::discover_methods;
use crate::nodes::{self, Address};
use crate::run::Shared;
use crate::visit::{Visit, said};
use crate::walk::{children, walk};

/// The bit of EventNotifier that says that events can be subscribed (OPC UA Part 3, 8.59).
const SUBSCRIBE_TO_EVENTS: u8 = 1;
/// How far is looked for a name that is like the one that does not exist.
const NEAR: (usize, usize) = (10, 20_000);

/// One entry of the device file, and what it wants of its node.
struct Wanted<'c> {
    item: &'c str,
    address: &'c Address,
    purpose: Purpose,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Read,
    Write,
    Events,
    Methods,
}

/// Connects as the connector says, and asks for each entry. `device`: its name, for the server's list of sessions.
///
/// # Errors
/// Why the server cannot be reached or does not answer, in plain words.
pub async fn probe(config: &Config, shared: &Shared, device: &str) -> Result<Vec<Finding>, String> {
    let visit = Visit::begin(config, shared, device).await?;
    let answers = ask(&visit.session, &visit.limits, config).await.map_err(said);
    visit.end().await;
    answers
}

fn wanted(config: &Config) -> Vec<Wanted<'_>> {
    let constants = config.constants.iter().map(|c| Wanted { item: &c.name, address: &c.address, purpose: Purpose::Read });
    let variables = config.variables.iter().map(|v| {
        let purpose = if v.access == Access::ReadWrite { Purpose::Write } else { Purpose::Read };
        Wanted { item: &v.name, address: &v.address, purpose }
    });
    let events = config.events.iter().map(|e| Wanted { item: &e.name, address: &e.address, purpose: Purpose::Events });
    let methods = config.methods.iter().map(|m| Wanted { item: &m.name, address: &m.address, purpose: Purpose::Methods });
    constants.chain(variables).chain(events).chain(methods).collect()
}

async fn ask(session: &Session, limits: &Limits, config: &Config) -> Result<Vec<Finding>, StatusCode> {
    let wanted = wanted(config);
    let addresses: Vec<&Address> = wanted.iter().map(|wanted| wanted.address).collect();
    let nodes = nodes::resolve(session, limits, &addresses).await?;
    let nodes = with_class(session, limits, nodes).await?;
    let ids: Vec<NodeId> = nodes.iter().filter_map(|node| Some(node.as_ref().ok()?.0.clone())).collect();
    let mut notifiers = read_notifiers(session, limits, &ids).await?.into_iter();
    let variables: Vec<NodeId> =
        nodes.iter().flatten().filter(|(_, class)| *class == NodeClass::Variable).map(|(id, _)| id.clone()).collect();
    let mut values = read_variables(session, limits, &variables).await?.into_iter();
    let mut near = Near::default();
    let mut findings = Vec::with_capacity(wanted.len());
    for (wanted, node) in wanted.iter().zip(nodes) {
        let answer = match node {
            Err(status) => {
                let hint = near.hint(session, limits, wanted).await?;
                Err(format!("{}{hint}", status_text(status)))
            }
            Ok((id, class)) => {
                let notifier = notifiers.next().flatten();
                let value = if class == NodeClass::Variable { values.next() } else { None };
                match wanted.purpose {
                    Purpose::Events => events(notifier),
                    Purpose::Methods => methods(session, limits, wanted.item, id).await?,
                    Purpose::Read | Purpose::Write => value.map_or_else(|| Err(not_a_variable(class)), |v| read(&v, wanted.purpose)),
                }
            }
        };
        findings.push(Finding { item: wanted.item.to_owned(), address: wanted.address.to_string(), answer });
    }
    Ok(findings)
}

type Located = Result<(NodeId, NodeClass), StatusCode>;

/// A node id that resolves need not exist: its class tells.
async fn with_class(session: &Session, limits: &Limits, nodes: Vec<Result<NodeId, StatusCode>>) -> Result<Vec<Located>, StatusCode> {
    let questions: Vec<_> = nodes.iter().flatten().map(|id| ReadValueId::new(id.clone(), AttributeId::NodeClass)).collect();
    let mut answers = limits::read(session, limits, &questions, TimestampsToReturn::Neither).await?.into_iter();
    let located = |node: Result<NodeId, StatusCode>| {
        let id = node?;
        let answer = answers.next().unwrap_or_default();
        match answer.value {
            Some(Variant::Int32(class)) if !answer.status.is_some_and(|status| status.is_bad()) => {
                Ok((id, NodeClass::try_from(class).unwrap_or(NodeClass::Unspecified)))
            }
            _ => Err(answer.status.unwrap_or(StatusCode::BadUnknownResponse)),
        }
    };
    Ok(nodes.into_iter().map(located).collect())
}

async fn read_notifiers(session: &Session, limits: &Limits, ids: &[NodeId]) -> Result<Vec<Option<u8>>, StatusCode> {
    let questions: Vec<_> = ids.iter().map(|id| ReadValueId::new(id.clone(), AttributeId::EventNotifier)).collect();
    let answers = limits::read(session, limits, &questions, TimestampsToReturn::Neither).await?;
    let bits = |answer: DataValue| answer.value.and_then(|value| value.try_cast_to::<u8>().ok());
    Ok(answers.into_iter().map(bits).collect())
}

fn events(notifier: Option<u8>) -> Result<String, String> {
    match notifier {
        Some(bits) if bits & SUBSCRIBE_TO_EVENTS != 0 => Ok("tells events".to_owned()),
        _ => {
            Err("the node tells no events (its EventNotifier does not allow to subscribe); the Server object, i=2253, mostly does"
                .to_owned())
        }
    }
}

async fn methods(session: &Session, limits: &Limits, name: &str, id: NodeId) -> Result<Result<String, String>, StatusCode> {
    let found = discover_methods(session, limits, &[(name.to_owned(), id)], &HashSet::new()).await?;
    let names: Vec<_> = found.iter().map(|method| method.name.as_str()).collect();
    Ok(match names.len() {
        0 => Err("there is no method below this node".to_owned()),
        _ => Ok(format!("methods: {}", names.join(", "))),
    })
}

fn not_a_variable(class: NodeClass) -> String {
    let class = match class {
        NodeClass::Object => "an object",
        NodeClass::Method => "a method",
        _ => "something else",
    };
    format!("the node is {class}, no variable: it has no value")
}

fn read(variable: &browse::Variable, purpose: Purpose) -> Result<String, String> {
    let denied = [StatusCode::BadUserAccessDenied, StatusCode::BadNotReadable, StatusCode::BadSecurityModeInsufficient];
    let denied = denied.iter().map(|status| status_text(*status)).any(|status| variable.status.as_deref() == Some(&*status));
    match (&variable.value, &variable.status) {
        (None, Some(status)) if denied => Err(format!("our login may not read it: {status}; give it the right on the server")),
        _ if purpose == Purpose::Write && !variable.writable => {
            Err("our login may not write it: give it the right on the server, or set access_level: ro".to_owned())
        }
        (Some(value), None) => Ok(format!("{} {value}", variable.data_type)),
        (Some(value), Some(status)) => Ok(format!("{} {value}, {status}", variable.data_type)),
        (None, status) => Ok(format!("{}, no value now: {}", variable.data_type, status.as_deref().unwrap_or("the server gives none"))),
    }
}

/// Finds what may be meant by an address that leads nowhere.
#[derive(Default)]
struct Near {
    /// All nodes below Objects, once somebody needs them.
    known: Option<Vec<(NodeId, Vec<QualifiedName>)>>,
}

impl Near {
    async fn hint(&mut self, session: &Session, limits: &Limits, wanted: &Wanted<'_>) -> Result<String, StatusCode> {
        match wanted.address {
            Address::Path(steps) => along(session, limits, steps).await,
            Address::Node(id) => self.like(session, limits, id, wanted.item).await,
        }
    }

    /// Nodes whose identifier is like the one that does not exist, or that are called like the item.
    async fn like(&mut self, session: &Session, limits: &Limits, id: &NodeId, item: &str) -> Result<String, StatusCode> {
        if self.known.is_none() {
            let walked = walk(session, limits, &ObjectId::ObjectsFolder.into(), NEAR.0, NEAR.1, |_| {}).await?;
            self.known = Some(walked.steps.into_iter().map(|step| (step.id, step.path)).collect());
        }
        let known = self.known.iter().flatten();
        let ids: Vec<String> = known.clone().map(|(id, _)| id.to_string()).collect();
        let names: Vec<&str> = known.map(|(_, path)| path.last().map_or("", |name| name.name.as_ref())).collect();
        let at = |of: Option<usize>| of.and_then(|place| ids.get(place));
        let like_id = nearest(&id.to_string(), ids.iter().map(String::as_str)).map(str::to_owned);
        let like_item = at(nearest(item, names.iter().copied()).and_then(|near| names.iter().position(|name| *name == near)));
        Ok(match like_id.as_ref().or(like_item) {
            Some(near) => format!("; did you mean {near}?"),
            None => "; see what there is with `openfactory-edge browse`".to_owned(),
        })
    }
}

/// Follows a path as far as it leads, and says what is there.
async fn along(session: &Session, limits: &Limits, steps: &[QualifiedName]) -> Result<String, StatusCode> {
    let mut here = NodeId::from(ObjectId::RootFolder);
    let mut way = "0:Root".to_owned();
    for step in steps {
        let answers = limits::browse(session, limits, &[children(here.clone())]).await?;
        let Some(Ok(references)) = answers.into_iter().next() else { break };
        match references.iter().find(|reference| reference.browse_name == *step) {
            Some(reference) => {
                here = reference.node_id.node_id.clone();
                way = format!("{way}/{}", browse::name(step));
            }
            None => {
                let names: Vec<String> = references.iter().map(|reference| browse::name(&reference.browse_name)).collect();
                let missing = browse::name(step);
                return Ok(match nearest(&missing, names.iter().map(String::as_str)) {
                    Some(near) => format!(": {way} has no {missing}; did you mean {near}?"),
                    None if names.is_empty() => format!(": there is nothing below {way}"),
                    None => format!(": {way} has no {missing}, but {}", few(&names)),
                });
            }
        }
    }
    Ok(String::new())
}

/// Some names, and how many more there are.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
