//! Structures as JSON text, by the definitions that the server gives.
//!
//! Bodies are decoded here and not while a message is read: a definition that does not fit its data then spoils one value, where the
//! library would give up the whole message, and with it the connection. What cannot be decoded keeps everything it has:
//! `{"encoding_id":"ns=2;i=5001","body":"<base64>"}`.
//!
//! Fields stand in the order of the definition; absent optional fields are left out; nulls are `null`; enumerations are names; a union
//! is an object with one field.

use opcua::types::custom::{DataTypeTree, EncodingIds, ParentIds, ParsedStructureField, StructTypeInfo, TypeInfo, TypeInfoRef};
use opcua::types::data_type_definition::DataTypeDefinition;
use opcua::types::type_loader::{ByteStringBody, XmlBody};
use opcua::types::{
    BinaryDecodable, ByteString, Context, ContextOwned, DataTypeId, DataValue, DateTime, DecodingOptions, DiagnosticInfo, Error,
    ExpandedNodeId, ExtensionObject, Guid, LocalizedText, NamespaceMap, NodeId, ObjectId, QualifiedName, StatusCode, StructureDefinition,
    StructureField, StructureType, UAString, Variant, VariantScalarTypeId, XmlElement,
};
use serde_json::json;

use crate::convert;
use crate::meaning::Meaning;

/// Structures within structures; a definition may contain itself.
const DEPTH: usize = 32;
/// As large as anything that a message may hold.
const LONGEST: usize = 16 << 20;

/// The definitions of a server's structures.
#[derive(Debug)]
pub(crate) struct Structures {
    tree: DataTypeTree,
    context: ContextOwned,
}

/// An extension object as JSON text. Never fails: what cannot be decoded is kept as it came.
pub(crate) fn text(object: &ExtensionObject, structures: Option<&Structures>) -> String {
    let mut out = Vec::new();
    write_object(object, structures, &mut out, DEPTH);
    String::from_utf8(out).unwrap_or_default()
}

fn write_object(object: &ExtensionObject, structures: Option<&Structures>, out: &mut Vec<u8>, depth: usize) {
    let Some(body) = &object.body else { return out.extend_from_slice(b"null") };
    if let Some(raw) = object.inner_as::<ByteStringBody>() {
        return write_body(raw.encoding_id(), raw.raw_body().as_ref(), structures, out, depth);
    }
    if let Some(xml) = object.inner_as::<XmlBody>() {
        let xml = json!({"encoding_id": xml.encoding_id().to_string(), "xml": String::from_utf8_lossy(xml.raw_body())});
        return out.extend_from_slice(xml.to_string().as_bytes());
    }
    // A standard structure that the library has decoded already: back to bytes, and on like any other.
    let (fallback, mut bytes) = (structures.is_none().then(context), Vec::new());
    let Some(context) = structures.map(|s| &s.context).or(fallback.as_ref()) else { return };
    match body.encode_binary(&mut bytes, &context.context()) {
        Ok(()) => write_body(&body.binary_type_id().node_id, &bytes, structures, out, depth),
        Err(_) => out.extend_from_slice(json!({"type": body.type_name()}).to_string().as_bytes()),
    }
}

fn write_body(encoding_id: &NodeId, body: &[u8], structures: Option<&Structures>, out: &mut Vec<u8>, depth: usize) {
    let start = out.len();
    if structures.is_some_and(|s| s.decode(encoding_id, body, out, depth)) {
        return;
    }
    out.truncate(start);
    let opaque = Opaque { encoding_id: encoding_id.to_string(), body: ByteString::from(body.to_vec()).as_base64() };
    // Writing into memory cannot fail.
    serde_json::to_writer(out, &opaque).ok();
}

#[derive(serde::Serialize)]
struct Opaque {
    encoding_id: String,
    body: String,
}

fn context() -> ContextOwned {
    let options = DecodingOptions {
        max_array_length: LONGEST,
        max_string_length: LONGEST,
        max_byte_string_length: LONGEST,
        ..DecodingOptions::default()
    };
    ContextOwned::new_default(NamespaceMap::new(), options)
}

impl Default for Structures {
    fn default() -> Self {
        Self::new(DataTypeTree::new(ParentIds::new()))
    }
}

impl Structures {
    /// The definitions in the tree, and a few standard ones that small servers do not describe.
    pub(crate) fn new(mut tree: DataTypeTree) -> Self {
        add_standard_types(&mut tree);
        Self { tree, context: context() }
    }

    /// What a number of an enumeration stands for.
    fn name(&self, data_type: &NodeId, number: i32) -> Option<&str> {
        match self.tree.get_type(data_type) {
            Some(TypeInfoRef::Enum(info)) => info.variants.get(&i64::from(number)).map(|field| field.name.as_ref()),
            _ => None,
        }
    }

    fn decode(&self, encoding_id: &NodeId, body: &[u8], out: &mut Vec<u8>, depth: usize) -> bool {
        if encoding_id.is_null() {
            return false;
        }
        let data_type = self.tree.encoding_to_data_type().get(encoding_id).unwrap_or(encoding_id);
        let Some(info) = self.tree.get_struct_type(data_type) else { return false };
        let mut reader = Reader { structures: self, context: self.context.context(), rest: body };
        // Bytes that are left over say that the definition is not that of the data.
        reader.structure(info, out, depth).is_ok() && reader.rest.is_empty()
    }
}

struct Reader<'a> {
    structures: &'a Structures,
    context: Context<'a>,
    rest: &'a [u8],
}

impl Reader<'_> {
    fn read<T: BinaryDecodable>(&mut self) -> Result<T, Error> {
        T::decode(&mut self.rest, &self.context)
    }

    fn structure(&mut self, info: &StructTypeInfo, out: &mut Vec<u8>, depth: usize) -> Result<(), Error> {
        let depth = depth.checked_sub(1).ok_or_else(|| Error::decoding("structures are nested too deeply"))?;
        let subtypes = matches!(info.structure_type, StructureType::StructureWithSubtypedValues | StructureType::UnionWithSubtypedValues);
        match info.structure_type {
            StructureType::Union | StructureType::UnionWithSubtypedValues => {
                let chosen = self.read::<u32>()? as usize;
                if chosen == 0 {
                    out.extend_from_slice(b"null");
                    return Ok(());
                }
                let field = info.fields.get(chosen - 1).ok_or_else(|| Error::decoding("a union without such a field"))?;
                write_name(&field.name, b'{', out);
                self.field(field, subtypes && field.is_optional, out, depth)?;
            }
            _ => {
                let with_optional_fields = info.structure_type == StructureType::StructureWithOptionalFields;
                let present = if with_optional_fields { self.read::<u32>()? } else { u32::MAX };
                let mut optional = 0;
                let mut separator = b'{';
                for field in &info.fields {
                    if with_optional_fields && field.is_optional {
                        let is_present = present.checked_shr(optional).is_some_and(|bits| bits & 1 == 1);
                        optional += 1;
                        if !is_present {
                            continue;
                        }
                    }
                    write_name(&field.name, separator, out);
                    separator = b',';
                    self.field(field, subtypes && field.is_optional, out, depth)?;
                }
                if separator == b'{' {
                    out.push(b'{');
                }
            }
        }
        out.push(b'}');
        Ok(())
    }

    fn field(&mut self, field: &ParsedStructureField, subtypes: bool, out: &mut Vec<u8>, depth: usize) -> Result<(), Error> {
        let dimensions = match field.value_rank {
            ..=0 => Some(Vec::new()),
            1 => Some(vec![self.read::<i32>()?]),
            _ => self.read::<Option<Vec<i32>>>()?,
        };
        let dimensions: Option<Vec<usize>> = dimensions.and_then(|d| d.into_iter().map(|n| usize::try_from(n).ok()).collect());
        // No dimensions, or a negative one, is how a null array is written.
        let Some(dimensions) = dimensions else {
            out.extend_from_slice(b"null");
            return Ok(());
        };
        if dimensions.len() != field.value_rank.max(0) as usize || dimensions.len() > DEPTH {
            return Err(Error::decoding("the array's dimensions are not those of its definition"));
        }
        // An element has a byte at least, but for structures without fields: no array is longer than what is left to read.
        let count = dimensions.iter().try_fold(1_usize, |product, n| product.checked_mul(*n));
        if count.is_none_or(|count| count > self.rest.len().max(DEPTH)) {
            return Err(Error::decoding("the array is longer than its message"));
        }
        self.elements(&dimensions, field, subtypes, out, depth)
    }

    fn elements(
        &mut self,
        dimensions: &[usize],
        field: &ParsedStructureField,
        subtypes: bool,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), Error> {
        let [length, inner @ ..] = dimensions else { return self.element(field, subtypes, out, depth) };
        out.push(b'[');
        for i in 0..*length {
            if i > 0 {
                out.push(b',');
            }
            self.elements(inner, field, subtypes, out, depth)?;
        }
        out.push(b']');
        Ok(())
    }

    fn element(&mut self, field: &ParsedStructureField, subtypes: bool, out: &mut Vec<u8>, depth: usize) -> Result<(), Error> {
        use VariantScalarTypeId as Type;
        let variant = match field.scalar_type {
            Type::ExtensionObject => {
                let info = self.structures.tree.get_struct_type(&field.type_id);
                return match info.filter(|info| !info.is_abstract && !subtypes) {
                    Some(info) => self.structure(&info.clone(), out, depth),
                    None => {
                        let object = self.read::<ExtensionObject>()?;
                        write_object(&object, Some(self.structures), out, depth);
                        Ok(())
                    }
                };
            }
            _ if subtypes => self.read::<Variant>()?,
            Type::Boolean => Variant::Boolean(self.read()?),
            Type::SByte => Variant::SByte(self.read()?),
            Type::Byte => Variant::Byte(self.read()?),
            Type::Int16 => Variant::Int16(self.read()?),
            Type::UInt16 => Variant::UInt16(self.read()?),
            Type::Int32 => Variant::Int32(self.read()?),
            Type::UInt32 => Variant::UInt32(self.read()?),
            Type::Int64 => Variant::Int64(self.read()?),
            Type::UInt64 => Variant::UInt64(self.read()?),
            Type::Float => Variant::Float(self.read()?),
            Type::Double => Variant::Double(self.read()?),
            Type::String => Variant::String(self.read::<UAString>()?),
            Type::DateTime => Variant::from(self.read::<DateTime>()?),
            Type::Guid => Variant::from(self.read::<Guid>()?),
            Type::ByteString => Variant::ByteString(self.read()?),
            Type::XmlElement => Variant::XmlElement(self.read::<XmlElement>()?),
            Type::NodeId => Variant::from(self.read::<NodeId>()?),
            Type::ExpandedNodeId => Variant::from(self.read::<ExpandedNodeId>()?),
            Type::StatusCode => Variant::StatusCode(self.read::<StatusCode>()?),
            Type::QualifiedName => Variant::from(self.read::<QualifiedName>()?),
            Type::LocalizedText => Variant::from(self.read::<LocalizedText>()?),
            Type::DataValue => Variant::from(self.read::<DataValue>()?),
            Type::Variant => self.read::<Variant>()?,
            Type::DiagnosticInfo => Variant::from(self.read::<DiagnosticInfo>()?),
        };
        match variant {
            Variant::Int32(number) if let Some(name) = self.structures.name(&field.type_id, number) => write_text(name, out),
            other => write_variant(&other, self.structures, out, depth),
        }
        Ok(())
    }
}

fn write_name(name: &str, separator: u8, out: &mut Vec<u8>) {
    out.push(separator);
    write_text(name, out);
    out.push(b':');
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    // Writing into memory cannot fail.
    serde_json::to_writer(out, text).ok();
}

fn write_variant(variant: &Variant, structures: &Structures, out: &mut Vec<u8>, depth: usize) {
    match variant {
        _ if convert::is_null(variant) => out.extend_from_slice(b"null"),
        Variant::Variant(inner) => write_variant(inner, structures, out, depth),
        Variant::ExtensionObject(object) => write_object(object, Some(structures), out, depth.saturating_sub(1)),
        Variant::Array(array) if array.value_type == VariantScalarTypeId::ExtensionObject => {
            out.push(b'[');
            for (i, element) in array.values.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_variant(element, structures, out, depth);
            }
            out.push(b']');
        }
        other => convert::value(other, &Meaning::default()).write(out),
    }
}

/// Standard structures that stand in variables of machines, with their fields: data type, encoding, fields (name, type, is array).
type Standard = (DataTypeId, ObjectId, &'static [(&'static str, DataTypeId, bool)]);

const STANDARD: &[Standard] = &[
    (DataTypeId::Range, ObjectId::Range_Encoding_DefaultBinary, &[("Low", DataTypeId::Double, false), ("High", DataTypeId::Double, false)]),
    (
        DataTypeId::EUInformation,
        ObjectId::EUInformation_Encoding_DefaultBinary,
        &[
            ("NamespaceUri", DataTypeId::String, false),
            ("UnitId", DataTypeId::Int32, false),
            ("DisplayName", DataTypeId::LocalizedText, false),
            ("Description", DataTypeId::LocalizedText, false),
        ],
    ),
    (
        DataTypeId::ComplexNumberType,
        ObjectId::ComplexNumberType_Encoding_DefaultBinary,
        &[("Real", DataTypeId::Float, false), ("Imaginary", DataTypeId::Float, false)],
    ),
    (
        DataTypeId::DoubleComplexNumberType,
        ObjectId::DoubleComplexNumberType_Encoding_DefaultBinary,
        &[("Real", DataTypeId::Double, false), ("Imaginary", DataTypeId::Double, false)],
    ),
    (DataTypeId::XVType, ObjectId::XVType_Encoding_DefaultBinary, &[("X", DataTypeId::Double, false), ("Value", DataTypeId::Float, false)]),
    (
        DataTypeId::TimeZoneDataType,
        ObjectId::TimeZoneDataType_Encoding_DefaultBinary,
        &[("Offset", DataTypeId::Int16, false), ("DaylightSavingInOffset", DataTypeId::Boolean, false)],
    ),
    (
        DataTypeId::EnumValueType,
        ObjectId::EnumValueType_Encoding_DefaultBinary,
        &[
            ("Value", DataTypeId::Int64, false),
            ("DisplayName", DataTypeId::LocalizedText, false),
            ("Description", DataTypeId::LocalizedText, false),
        ],
    ),
    (
        DataTypeId::Argument,
        ObjectId::Argument_Encoding_DefaultBinary,
        &[
            ("Name", DataTypeId::String, false),
            ("DataType", DataTypeId::NodeId, false),
            ("ValueRank", DataTypeId::Int32, false),
            ("ArrayDimensions", DataTypeId::UInt32, true),
            ("Description", DataTypeId::LocalizedText, false),
        ],
    ),
];

fn add_standard_types(tree: &mut DataTypeTree) {
    for (data_type, encoding, fields) in STANDARD {
        let id = NodeId::from(*data_type);
        if tree.get_struct_type(&id).is_some() {
            continue;
        }
        let field = |(name, data_type, is_array): &(&str, DataTypeId, bool)| StructureField {
            name: (*name).into(),
            data_type: (*data_type).into(),
            value_rank: if *is_array { 1 } else { -1 },
            ..Default::default()
        };
        let definition = StructureDefinition {
            default_encoding_id: NodeId::from(*encoding),
            base_data_type: DataTypeId::Structure.into(),
            structure_type: StructureType::Structure,
            fields: Some(fields.iter().map(field).collect()),
        };
        let encodings = EncodingIds { binary_id: NodeId::from(*encoding), ..EncodingIds::default() };
        let definition = DataTypeDefinition::Structure(definition);
        // It cannot fail: the fields' types are built in.
        if let Ok(info) = TypeInfo::from_type_definition(definition, String::new(), Some(encodings), false, &id, tree.parent_ids()) {
            tree.add_type(id, info);
        }
    }
}

#[cfg(test)]
mod tests;
