use super::{Structures, text};
use opcua::types::custom::{DataTypeTree, EncodingIds, ParentIds, TypeInfo};
use opcua::types::data_type_definition::DataTypeDefinition;
use opcua::types::type_loader::ByteStringBody;
use opcua::types::{
    Array, BinaryEncodable, ByteString, ContextOwned, DataTypeId, EnumDefinition, EnumField, ExtensionObject, NodeId, Range,
    StructureDefinition, StructureField, StructureType, Variant, VariantScalarTypeId,
};

fn field(name: &str, data_type: impl Into<NodeId>, value_rank: i32, is_optional: bool) -> StructureField {
    StructureField { name: name.into(), data_type: data_type.into(), value_rank, is_optional, ..Default::default() }
}

/// A server with an enumeration ns=2;i=1, and a structure ns=2;i=2 whose encoding is ns=2;i=20.
fn structures(structure_type: StructureType, fields: Vec<StructureField>) -> Structures {
    let mut parents = ParentIds::new();
    parents.add_type(NodeId::new(2, 1), DataTypeId::Enumeration.into());
    parents.add_type(NodeId::new(2, 2), DataTypeId::Structure.into());
    let mut tree = DataTypeTree::new(parents);
    let running = EnumField { value: 1, name: "Running".into(), ..Default::default() };
    let definition = DataTypeDefinition::Enum(EnumDefinition { fields: Some(vec![running]) });
    let info = TypeInfo::from_type_definition(definition, String::new(), None, false, &NodeId::new(2, 1), tree.parent_ids());
    tree.add_type(NodeId::new(2, 1), info.expect("an enumeration"));
    let definition = StructureDefinition { structure_type, fields: Some(fields), ..Default::default() };
    let encodings = EncodingIds { binary_id: NodeId::new(2, 20), ..Default::default() };
    let (definition, id) = (DataTypeDefinition::Structure(definition), NodeId::new(2, 2));
    let info = TypeInfo::from_type_definition(definition, String::new(), Some(encodings), false, &id, tree.parent_ids());
    tree.add_type(id, info.expect("a structure"));
    Structures::new(tree)
}

fn decoded(structures: &Structures, body: &[u8]) -> String {
    let body = ByteStringBody::new(ByteString::from(body.to_vec()), NodeId::new(2, 20));
    text(&ExtensionObject::new(body), Some(structures))
}

#[test]
fn a_structure_has_its_fields_in_order_with_names_nulls_and_exact_numbers() {
    let fields = vec![
        field("state", NodeId::new(2, 1), -1, false),
        field("count", DataTypeId::UInt64, -1, false),
        field("note", DataTypeId::String, -1, false),
        field("list", DataTypeId::Byte, 1, false),
        field("none", DataTypeId::Byte, 1, false),
    ];
    let structures = structures(StructureType::Structure, fields);
    let mut body = 1_i32.to_le_bytes().to_vec();
    body.extend(u64::MAX.to_le_bytes());
    body.extend((-1_i32).to_le_bytes());
    body.extend(2_i32.to_le_bytes());
    body.extend([7, 8]);
    body.extend((-1_i32).to_le_bytes());
    assert_eq!(decoded(&structures, &body), r#"{"state":"Running","count":18446744073709551615,"note":null,"list":[7,8],"none":null}"#);
}

#[test]
fn optional_fields_and_unions_show_what_is_there() {
    let fields =
        || vec![field("a", DataTypeId::Byte, -1, true), field("b", DataTypeId::Byte, -1, true), field("c", DataTypeId::Byte, -1, false)];
    let optional = structures(StructureType::StructureWithOptionalFields, fields());
    assert_eq!(decoded(&optional, &[2, 0, 0, 0, 5, 6]), r#"{"b":5,"c":6}"#);
    let union = structures(StructureType::Union, fields());
    assert_eq!(decoded(&union, &[3, 0, 0, 0, 9]), r#"{"c":9}"#);
    assert_eq!(decoded(&union, &[0, 0, 0, 0]), "null");
}

#[test]
fn what_does_not_fit_its_definition_is_kept_as_it_came() {
    let structures =
        structures(StructureType::Structure, vec![field("a", DataTypeId::UInt32, -1, false), field("l", NodeId::new(2, 2), 1, false)]);
    for body in [&[1, 0][..], &[1, 0, 0, 0, 255, 255, 255, 127], &[1, 0, 0, 0, 0, 0, 0, 0, 9]] {
        let expected = format!(r#"{{"encoding_id":"ns=2;i=20","body":"{}"}}"#, ByteString::from(body.to_vec()).as_base64());
        assert_eq!(decoded(&structures, body), expected);
    }
}

#[test]
fn standard_structures_are_known_even_where_the_server_does_not_describe_them() {
    let structures = structures(StructureType::Structure, vec![]);
    let range = ExtensionObject::from_message(Range { low: -0.5, high: 100.0 });
    assert_eq!(text(&range, Some(&structures)), r#"{"Low":-0.5,"High":100.0}"#);
    assert!(text(&range, None).starts_with(r#"{"encoding_id":"i=886","body":""#));
}

#[test]
fn structures_within_variants_are_written_out_and_not_as_texts_in_texts() {
    let structures = structures(StructureType::Structure, vec![field("any", DataTypeId::BaseDataType, -1, false)]);
    let ranges: Vec<Variant> = [1.0, 2.0].map(|high| Variant::from(ExtensionObject::from_message(Range { low: 0.0, high }))).into();
    let array = Array::new(VariantScalarTypeId::ExtensionObject, ranges).expect("an array");
    let context = ContextOwned::default();
    let body = Variant::from(array).encode_to_vec(&context.context());
    assert_eq!(decoded(&structures, &body), r#"{"any":[{"Low":0.0,"High":1.0},{"Low":0.0,"High":2.0}]}"#);
}
