use opcua::types::{DataTypeId, NodeId, QualifiedName, Variant, VariantScalarTypeId};

use super::{Declared, Unfit};
use crate::meaning::Meaning;

fn scalar(base: DataTypeId) -> Declared {
    Declared { meaning: Meaning::of_base(base), rank: -1 }
}

fn ranked(base: DataTypeId, rank: i32) -> Declared {
    Declared { rank, ..scalar(base) }
}

#[test]
fn each_type_has_its_way_of_being_written() {
    for (base, text, expected) in [
        (DataTypeId::Boolean, "true", Variant::Boolean(true)),
        (DataTypeId::Boolean, "0", Variant::Boolean(false)),
        (DataTypeId::SByte, "-128", Variant::SByte(-128)),
        (DataTypeId::Byte, "255", Variant::Byte(255)),
        (DataTypeId::Int16, " -5 ", Variant::Int16(-5)),
        (DataTypeId::Int32, "5.0", Variant::Int32(5)),
        (DataTypeId::UInt32, "4294967295", Variant::UInt32(u32::MAX)),
        (DataTypeId::Int64, "-9223372036854775808", Variant::Int64(i64::MIN)),
        (DataTypeId::UInt64, "18446744073709551615", Variant::UInt64(u64::MAX)),
        (DataTypeId::Float, "24.3", Variant::Float(24.3)),
        (DataTypeId::Double, "-1e-3", Variant::Double(-0.001)),
        (DataTypeId::Number, "7", Variant::Double(7.0)),
        (DataTypeId::UInteger, "7", Variant::UInt64(7)),
        (DataTypeId::String, " [1] ", Variant::String(" [1] ".into())),
        (DataTypeId::ByteString, "AQI=", Variant::ByteString(vec![1, 2].into())),
        (DataTypeId::NodeId, "ns=2;s=a", NodeId::new(2, "a").into()),
        (DataTypeId::QualifiedName, "2:Name", QualifiedName::new(2, "Name").into()),
        (DataTypeId::QualifiedName, "Name", QualifiedName::new(0, "Name").into()),
        (DataTypeId::Enumeration, "3", Variant::Int32(3)),
        (DataTypeId::BaseDataType, "3", Variant::Int64(3)),
        (DataTypeId::BaseDataType, "3.5", Variant::Double(3.5)),
        (DataTypeId::BaseDataType, "true", Variant::Boolean(true)),
        (DataTypeId::BaseDataType, "on", Variant::String("on".into())),
    ] {
        assert_eq!(scalar(base).variant(text), Ok(expected), "{base:?} {text:?}");
    }
    let time = scalar(DataTypeId::DateTime).variant("2026-02-21T12:00:00.5Z").expect("a time");
    assert_eq!(crate::convert::value(&time, &Meaning::default()), "2026-02-21T12:00:00.500Z".into());
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    for (base, text, reason) in [
        (DataTypeId::Boolean, "on", "type"),
        (DataTypeId::Byte, "256", "range"),
        (DataTypeId::Byte, "-1", "range"),
        (DataTypeId::SByte, "128", "range"),
        (DataTypeId::Int32, "1.5", "type"),
        (DataTypeId::Int32, "", "type"),
        (DataTypeId::Int64, "9223372036854775808", "range"),
        (DataTypeId::UInt64, "1e18", "range"),
        (DataTypeId::Float, "1e39", "range"),
        (DataTypeId::Double, "NaN", "type"),
        (DataTypeId::Double, "Infinity", "type"),
        (DataTypeId::DateTime, "yesterday", "type"),
        (DataTypeId::Guid, "1", "type"),
        (DataTypeId::NodeId, "a", "type"),
        (DataTypeId::ByteString, "?", "type"),
        (DataTypeId::Structure, "{}", "type"),
    ] {
        let seen = match scalar(base).variant(text) {
            Err(Unfit::WrongType(_)) => "type",
            Err(Unfit::OutOfRange(_)) => "range",
            Ok(value) => panic!("{base:?} {text:?} was taken as {value:?}"),
        };
        assert_eq!(seen, reason, "{base:?} {text:?}");
    }
}

#[test]
fn enumerations_are_given_by_name_or_number_and_nothing_else_is() {
    let declared = Declared { meaning: Meaning::with_names([(0, "Off"), (2, "On")]), rank: -1 };
    assert_eq!(declared.variant("On"), Ok(Variant::Int32(2)));
    assert_eq!(declared.variant("0"), Ok(Variant::Int32(0)));
    let refused = Unfit::OutOfRange("\"1\" is none of Off (0), On (2)".to_owned());
    assert_eq!(declared.variant("1"), Err(refused));
}

#[test]
fn arrays_are_json_of_the_declared_dimensions() {
    let elements = |variant: Variant| match variant {
        Variant::Array(array) => (array.value_type, array.values, array.dimensions),
        other => panic!("no array: {other:?}"),
    };
    let list = elements(ranked(DataTypeId::UInt64, 1).variant("[1, 18446744073709551615, \"3\"]").expect("a list"));
    let expected = [1, u64::MAX, 3].map(Variant::UInt64).to_vec();
    assert_eq!(list, (VariantScalarTypeId::UInt64, expected, None));
    let matrix = elements(ranked(DataTypeId::Int16, 2).variant("[[1,2,3],[4,5,6]]").expect("a matrix"));
    let expected = [1, 2, 3, 4, 5, 6].map(Variant::Int16).to_vec();
    assert_eq!(matrix, (VariantScalarTypeId::Int16, expected, Some(vec![2, 3])));
    assert_eq!(elements(ranked(DataTypeId::Double, 1).variant("[]").expect("an empty list")).1, []);
    assert_eq!(elements(ranked(DataTypeId::String, -2).variant("[\"a,b\", \"]\"]").expect("a list")).1.len(), 2);
    assert_eq!(ranked(DataTypeId::Int32, -3).variant("5"), Ok(Variant::Int32(5)));
    assert_eq!(elements(ranked(DataTypeId::Boolean, 0).variant("[[true],[false]]").expect("a matrix")).2, Some(vec![2, 1]));
    assert_eq!(elements(ranked(DataTypeId::BaseDataType, -2).variant("[1, \"a\"]").expect("a list")).0, VariantScalarTypeId::Variant);
    for (rank, wrong) in [(1, "5"), (1, "[1"), (1, "[[1]]"), (2, "[1]"), (2, "[[1,2],[3]]"), (1, "[null]"), (1, "[1.5]"), (0, "7")] {
        assert!(ranked(DataTypeId::Int32, rank).variant(wrong).is_err(), "{wrong} was taken as an array of rank {rank}");
    }
}
