//! What a server says about its variables' values: numbers or texts, the names of an enumeration, the fields of a structure.
//!
//! Read once at connect, before the first value arrives.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use asset_stream::Kind;
use opcua::client::Session;
use opcua::client::browser::BrowserConfig;
use opcua::client::custom_types::DataTypeTreeBuilder;
use opcua::types::{
    AttributeId, BrowseDescription, BrowseDirection, BrowseResultMaskFlags, DataTypeId, DataValue, EnumDefinition, EnumValueType, NodeId,
    ReadValueId, ReferenceDescription, ReferenceTypeId, StatusCode, TimestampsToReturn, Variant,
};
use tracing::warn;

use crate::limits::{self, Limits};
use crate::structure::Structures;

/// Types derived from types derived from types; no real server goes deeper.
const LEVELS: usize = 32;

type Names = HashMap<i64, Arc<str>>;

/// What is known about one node's value; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meaning {
    kind: Option<Kind>,
    base: Option<DataTypeId>,
    names: Option<Arc<Names>>,
    structures: Option<Arc<Structures>>,
}

impl Meaning {
    /// An enumeration.
    #[cfg(test)]
    pub(crate) fn with_names<N: Into<Arc<str>>>(names: impl IntoIterator<Item = (i64, N)>) -> Self {
        let names = names.into_iter().map(|(number, name)| (number, name.into())).collect();
        Self { names: Some(Arc::new(names)), ..Self::of_base(DataTypeId::Enumeration) }
    }

    /// A type that is built in.
    #[cfg(test)]
    pub(crate) fn of_base(base: DataTypeId) -> Self {
        Self { kind: kind(base), base: Some(base), names: None, structures: None }
    }

    /// The built-in type that it is derived from; `None` if the server does not tell.
    pub(crate) fn base(&self) -> Option<DataTypeId> {
        self.base
    }

    /// What an enumeration's numbers stand for, if the server tells.
    pub(crate) fn names(&self) -> Option<&HashMap<i64, Arc<str>>> {
        self.names.as_deref()
    }

    /// The `TYPE` of the data item; `None` if the server does not tell, or the node holds values of any type.
    pub(crate) fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// What a number stands for.
    pub(crate) fn name(&self, number: i64) -> Option<Arc<str>> {
        self.names.as_ref()?.get(&number).cloned()
    }

    /// The definitions of structures.
    pub(crate) fn structures(&self) -> Option<&Structures> {
        self.structures.as_deref()
    }
}

/// Reads what the values of these variables mean: as many answers as nodes, in order. A node that does not tell, and what a server
/// cannot tell, is left without meaning; only a failed service is an error.
pub(crate) async fn read_meanings(session: &Session, limits: &Limits, nodes: &[NodeId]) -> Result<Vec<Meaning>, StatusCode> {
    let data_types = read_data_types(session, limits, nodes).await?;
    meanings_of(session, limits, &data_types).await
}

/// What values of these data types mean: as many answers as types, in order.
pub(crate) async fn meanings_of(session: &Session, limits: &Limits, data_types: &[Option<NodeId>]) -> Result<Vec<Meaning>, StatusCode> {
    let distinct: HashSet<NodeId> = data_types.iter().flatten().cloned().collect();
    let bases = built_in_bases(session, limits, distinct).await?;
    let of_base = |wanted: DataTypeId| bases.iter().filter(move |(_, base)| **base == wanted).map(|(id, _)| id.clone()).collect::<Vec<_>>();
    let enumerations = read_enumerations(session, limits, &of_base(DataTypeId::Enumeration)).await?;
    let structures = match of_base(DataTypeId::Structure).is_empty() {
        true => None,
        false => Some(Arc::new(read_structures(session, limits).await)),
    };
    let meaning = |data_type: &Option<NodeId>| {
        let (id, base) = bases.get_key_value(data_type.as_ref()?)?;
        Some(Meaning {
            kind: kind(*base),
            base: Some(*base),
            names: enumerations.get(id).cloned(),
            structures: structures.clone().filter(|_| *base == DataTypeId::Structure),
        })
    };
    Ok(data_types.iter().map(|data_type| meaning(data_type).unwrap_or_default()).collect())
}

fn kind(base: DataTypeId) -> Option<Kind> {
    match base {
        DataTypeId::SByte
        | DataTypeId::Byte
        | DataTypeId::Int16
        | DataTypeId::UInt16
        | DataTypeId::Int32
        | DataTypeId::UInt32
        | DataTypeId::Int64
        | DataTypeId::UInt64
        | DataTypeId::Float
        | DataTypeId::Double
        | DataTypeId::Number
        | DataTypeId::Integer
        | DataTypeId::UInteger => Some(Kind::Samples),
        DataTypeId::BaseDataType => None,
        _ => Some(Kind::Events),
    }
}

async fn read_data_types(session: &Session, limits: &Limits, nodes: &[NodeId]) -> Result<Vec<Option<NodeId>>, StatusCode> {
    let questions: Vec<_> = nodes.iter().map(|id| ReadValueId::new(id.clone(), AttributeId::DataType)).collect();
    let answers = limits::read(session, limits, &questions, TimestampsToReturn::Neither).await?;
    let node_id = |answer: DataValue| match (answer.status().is_bad(), answer.value) {
        (false, Some(Variant::NodeId(id))) => Some(*id),
        _ => None,
    };
    Ok(answers.into_iter().map(node_id).collect())
}

/// The data types that everything is derived from, and at which the way up ends.
fn as_base(id: &NodeId) -> Option<DataTypeId> {
    use DataTypeId as T;
    let base = id.as_data_type_id().ok()?;
    // 1 to 25: Boolean to DiagnosticInfo, among them Structure and BaseDataType; 26 to 29: Number, Integer, UInteger, Enumeration.
    let is_base = (1..=29).contains(&(base as u32));
    match base {
        _ if is_base => Some(base),
        // Small servers do not show where these come from.
        T::Duration => Some(T::Double),
        T::UtcTime => Some(T::DateTime),
        T::Counter | T::IntegerId => Some(T::UInt32),
        T::LocaleId | T::NumericRange => Some(T::String),
        T::Range | T::EUInformation | T::Argument => Some(T::Structure),
        _ => None,
    }
}

/// Follows each type up to a built-in one.
async fn built_in_bases(session: &Session, limits: &Limits, types: HashSet<NodeId>) -> Result<HashMap<NodeId, DataTypeId>, StatusCode> {
    let mut bases = HashMap::new();
    // Where each type's way up has come to.
    let mut climbing: Vec<(NodeId, NodeId)> = types.into_iter().map(|id| (id.clone(), id)).collect();
    for _ in 0..LEVELS {
        climbing.retain(|(id, at)| match as_base(at) {
            Some(base) => {
                bases.insert(id.clone(), base);
                false
            }
            None => true,
        });
        if climbing.is_empty() {
            break;
        }
        let up: Vec<_> = climbing
            .iter()
            .map(|(_, at)| BrowseDescription {
                node_id: at.clone(),
                browse_direction: BrowseDirection::Inverse,
                reference_type_id: ReferenceTypeId::HasSubtype.into(),
                include_subtypes: false,
                node_class_mask: 0,
                result_mask: 0,
            })
            .collect();
        let parents = limits::browse(session, limits, &up).await?;
        let parent = |found: Result<Vec<ReferenceDescription>, StatusCode>| Some(found.ok()?.into_iter().next()?.node_id.node_id);
        climbing = climbing.into_iter().zip(parents).filter_map(|((id, _), found)| Some((id, parent(found)?))).collect();
    }
    Ok(bases)
}

/// The names of enumerations: from the DataTypeDefinition, or from the properties of older servers.
async fn read_enumerations(session: &Session, limits: &Limits, types: &[NodeId]) -> Result<HashMap<NodeId, Arc<Names>>, StatusCode> {
    if types.is_empty() {
        return Ok(HashMap::new());
    }
    let questions: Vec<_> = types.iter().map(|id| ReadValueId::new(id.clone(), AttributeId::DataTypeDefinition)).collect();
    let answers = limits::read(session, limits, &questions, TimestampsToReturn::Neither).await?;
    let mut enumerations = HashMap::new();
    let mut without = Vec::new();
    for (id, answer) in types.iter().zip(answers) {
        match answer.value.as_ref().and_then(names_of_definition) {
            Some(names) => {
                enumerations.insert(id.clone(), Arc::new(names));
            }
            None => without.push(id.clone()),
        }
    }
    let properties: Vec<_> = without
        .iter()
        .map(|id| BrowseDescription {
            node_id: id.clone(),
            browse_direction: BrowseDirection::Forward,
            reference_type_id: ReferenceTypeId::HasProperty.into(),
            include_subtypes: true,
            node_class_mask: 0,
            result_mask: BrowseResultMaskFlags::BrowseName.bits(),
        })
        .collect();
    let found = limits::browse(session, limits, &properties).await?;
    let is_names = |r: &ReferenceDescription| ["EnumStrings", "EnumValues"].contains(&r.browse_name.name.as_ref());
    let (owners, values): (Vec<NodeId>, Vec<ReadValueId>) = without
        .into_iter()
        .zip(found)
        .filter_map(|(id, references)| Some((id, references.ok()?.into_iter().find(is_names)?.node_id.node_id)))
        .map(|(id, property)| (id, ReadValueId::new(property, AttributeId::Value)))
        .unzip();
    let values = limits::read(session, limits, &values, TimestampsToReturn::Neither).await?;
    let names = owners.into_iter().zip(values).filter_map(|(id, value)| Some((id, Arc::new(names_of_property(value.value.as_ref()?)?))));
    enumerations.extend(names);
    Ok(enumerations)
}

fn names_of_definition(definition: &Variant) -> Option<Names> {
    let Variant::ExtensionObject(object) = definition else { return None };
    let fields = object.inner_as::<EnumDefinition>()?.fields.as_ref()?;
    let name = |name: &str, shown: &str| Arc::from(if name.is_empty() { shown } else { name });
    let names = fields.iter().map(|field| (field.value, name(field.name.as_ref(), field.display_name.text.as_ref())));
    Some(names.collect()).filter(|names: &Names| !names.is_empty())
}

/// EnumStrings counts from 0; EnumValues has a number with each name.
fn names_of_property(property: &Variant) -> Option<Names> {
    let Variant::Array(array) = property else { return None };
    let name = |(i, value): (usize, &Variant)| match value {
        Variant::LocalizedText(text) => Some((i as i64, Arc::from(text.text.as_ref()))),
        Variant::ExtensionObject(object) => {
            let value = object.inner_as::<EnumValueType>()?;
            Some((value.value, Arc::from(value.display_name.text.as_ref())))
        }
        _ => None,
    };
    array.values.iter().enumerate().map(name).collect()
}

/// The definitions of all structures that the server has: a variable may hold a type derived from its own.
async fn read_structures(session: &Session, limits: &Limits) -> Structures {
    let browser = BrowserConfig::new().max_nodes_per_request(limits.browse()).max_continuation_point_retries(2);
    let builder = DataTypeTreeBuilder::new(|_: &NodeId| true).config(browser).values_per_read(limits.read());
    match builder.build(session).await {
        Ok(tree) => Structures::new(tree),
        Err(error) => {
            warn!(
                error = &error as &dyn std::error::Error,
                "the server does not tell its structures; unknown ones are passed on as base64"
            );
            Structures::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{as_base, kind, names_of_property};
    use asset_stream::Kind;
    use opcua::types::{Array, DataTypeId, EnumValueType, ExtensionObject, LocalizedText, NodeId, Variant, VariantScalarTypeId};

    #[test]
    fn numbers_are_samples_and_the_rest_events() {
        for (id, expected) in [
            (DataTypeId::Double, Some(Kind::Samples)),
            (DataTypeId::Duration, Some(Kind::Samples)),
            (DataTypeId::UInteger, Some(Kind::Samples)),
            (DataTypeId::Boolean, Some(Kind::Events)),
            (DataTypeId::Enumeration, Some(Kind::Events)),
            (DataTypeId::Structure, Some(Kind::Events)),
            (DataTypeId::BaseDataType, None),
        ] {
            assert_eq!(as_base(&NodeId::from(id)).and_then(kind), expected, "{id:?}");
        }
        assert_eq!(as_base(&NodeId::from(DataTypeId::ServerState)), None, "an enumeration of the standard is looked up");
    }

    #[test]
    fn names_come_from_either_property() {
        let texts = vec![Variant::from(LocalizedText::new("", "Off")), Variant::from(LocalizedText::new("", "On"))];
        let strings = Array::new(VariantScalarTypeId::LocalizedText, texts).expect("an array");
        let names = names_of_property(&Variant::from(strings)).expect("names");
        assert_eq!(names.get(&1).map(|n| &**n), Some("On"));
        let value = EnumValueType { value: -7, display_name: LocalizedText::new("", "Fault"), ..Default::default() };
        let values = vec![Variant::from(ExtensionObject::from_message(value))];
        let values = Array::new(VariantScalarTypeId::ExtensionObject, values).expect("an array");
        let names = names_of_property(&Variant::from(values)).expect("names");
        assert_eq!(names.get(&-7).map(|n| &**n), Some("Fault"));
        assert_eq!(names_of_property(&Variant::Int32(1)), None);
    }
}
