use super::{Converted, convert, overflowed, status_text};
use crate::meaning::Meaning;
use asset_stream::{Quality, Timestamp, Value};
use opcua::types::{
    Array, ByteString, DataValue, DateTime, Guid, LocalizedText, NodeId, QualifiedName, StatusCode, UAString, Variant, VariantScalarTypeId,
};

fn of(variant: Variant) -> Converted {
    convert(&DataValue::value_only(variant), &Meaning::default())
}

fn json(variant: Variant) -> String {
    let mut out = Vec::new();
    of(variant).value.write(&mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

#[test]
fn every_scalar_becomes_what_the_table_says() {
    let time = DateTime::from((2026, 1, 27, 15, 37, 3, 871_000_000));
    let finer = DateTime::from((2026, 1, 27, 15, 37, 3, 871_000_100));
    let guid: Guid = "72962b91-fa75-4ae6-8d28-b404dc7daf63".parse().expect("a GUID");
    for (variant, expected) in [
        (Variant::Boolean(true), "true"),
        (Variant::SByte(-128), "-128"),
        (Variant::Byte(255), "255"),
        (Variant::Int64(i64::MIN), "-9223372036854775808"),
        (Variant::UInt64(u64::MAX), "18446744073709551615"),
        (Variant::Float(24.3), "24.3"),
        (Variant::Double(f64::NAN), "\"NaN\""),
        (Variant::from("grün"), "\"grün\""),
        (Variant::ByteString(ByteString::from(vec![0, 255])), "\"AP8=\""),
        (Variant::from(guid), "\"72962b91-fa75-4ae6-8d28-b404dc7daf63\""),
        (Variant::from(time), "\"2026-01-27T15:37:03.871Z\""),
        (Variant::from(finer), "\"2026-01-27T15:37:03.871000100Z\""),
        (Variant::from(LocalizedText::new("de", "Störung")), "\"Störung\""),
        (Variant::from(QualifiedName::new(2, "Pump")), "\"2:Pump\""),
        (Variant::from(NodeId::new(2, "a;b")), "\"ns=2;s=a;b\""),
        (Variant::from(NodeId::new(0, 85)), "\"i=85\""),
        (Variant::StatusCode(StatusCode::BadSensorFailure), "\"BadSensorFailure\""),
        (Variant::Variant(Box::new(Variant::Int32(7))), "7"),
    ] {
        let shown = format!("{variant:?}");
        assert_eq!(json(variant), expected, "{shown}");
    }
}

#[test]
fn a_null_text_is_told_from_an_empty_one_and_no_value_from_both() {
    let (null, empty) = (of(Variant::String(UAString::null())), of(Variant::from("")));
    assert_eq!((&null.value, &empty.value), (&Value::from(""), &Value::from("")));
    assert_eq!(null.attributes, [("null".into(), "true".to_owned())]);
    assert_eq!(empty.attributes, []);
    assert_eq!(of(Variant::Empty).quality, Quality::Bad("no value".into()));
}

#[test]
fn arrays_keep_their_dimensions_as_far_as_these_make_sense() {
    let numbers: Vec<Variant> = (1..=6).map(Variant::Int32).collect();
    let matrix = |dimensions| {
        let array = Array { value_type: VariantScalarTypeId::Int32, values: numbers.clone(), dimensions };
        json(Variant::Array(Box::new(array)))
    };
    assert_eq!(matrix(None), "[1,2,3,4,5,6]");
    assert_eq!(matrix(Some(vec![2, 3])), "[[1,2,3],[4,5,6]]");
    assert_eq!(matrix(Some(vec![1, 3, 2])), "[[[1,2],[3,4],[5,6]]]");
    assert_eq!(matrix(Some(vec![])), "[1,2,3,4,5,6]");
    assert_eq!(matrix(Some(vec![2, 4])), "[1,2,3,4,5,6]", "dimensions that contradict the values");
    assert_eq!(matrix(Some(vec![u32::MAX, u32::MAX, u32::MAX])), "[1,2,3,4,5,6]");
    assert_eq!(matrix(Some([vec![6], vec![1; 10_000]].concat())), "[1,2,3,4,5,6]", "a stack that is too deep");
}

#[test]
fn a_bad_value_is_never_used_even_if_the_server_repeats_the_last_good_one() {
    let mut data = DataValue::new_now_status(Variant::Double(20.5), StatusCode::BadSensorFailure);
    let converted = convert(&data, &Meaning::default());
    assert_eq!(converted.value, Value::unavailable());
    assert_eq!(converted.quality, Quality::Bad("BadSensorFailure (0x808C0000)".into()));
    // 0b11 is no severity of the standard; it counts as bad.
    data.status = Some(StatusCode::from(0xC000_0000));
    assert_eq!(convert(&data, &Meaning::default()).quality, Quality::Bad("Bad (0xC0000000)".into()));
}

#[test]
fn the_full_status_is_kept() {
    let mut data = DataValue::value_only(Variant::Double(20.5));
    data.status = Some(StatusCode::from(0x4000_0480));
    let uncertain = convert(&data, &Meaning::default());
    assert_eq!(uncertain.quality, Quality::Uncertain("Uncertain (0x40000480)".into()));
    assert_eq!(uncertain.value, Value::Float64(20.5));
    assert!(overflowed(&data));
    data.status = Some(StatusCode::GoodClamped);
    let clamped = convert(&data, &Meaning::default());
    assert_eq!(clamped.quality, Quality::Good);
    assert_eq!(clamped.attributes, [("status".into(), "GoodClamped (0x00300000)".to_owned())]);
    data.status = Some(StatusCode::from(0x0000_0480));
    assert_eq!(convert(&data, &Meaning::default()).attributes, []);
    assert!(overflowed(&data));
    data.status = None;
    assert!(!overflowed(&data));
    assert_eq!(status_text(StatusCode::Good), "Good");
}

#[test]
fn the_sources_time_stands_before_the_servers_and_null_is_no_time() {
    let (source, server) = (DateTime::from((2026, 1, 1, 0, 0, 0)), DateTime::from((2026, 1, 2, 0, 0, 0)));
    let mut data = DataValue::value_only(Variant::Int32(1));
    data.server_timestamp = Some(server);
    let at = |data: &DataValue| convert(data, &Meaning::default()).timestamp.map(|t| t.to_string());
    assert_eq!(at(&data).as_deref(), Some("2026-01-02T00:00:00.000Z"));
    data.source_timestamp = Some(source);
    assert_eq!(at(&data).as_deref(), Some("2026-01-01T00:00:00.000Z"));
    data.source_timestamp = Some(DateTime::null());
    assert_eq!(at(&data).as_deref(), Some("2026-01-02T00:00:00.000Z"));
    data.server_timestamp = None;
    assert_eq!(convert(&data, &Meaning::default()).timestamp, None::<Timestamp>);
}

#[test]
fn an_enumeration_has_names_and_an_unnamed_number_stays_a_number() {
    let meaning = Meaning::with_names([(0, "Idle"), (2, "Running")]);
    let named = |n| convert(&DataValue::value_only(Variant::Int32(n)), &meaning).value;
    assert_eq!(named(2), Value::from("Running"));
    assert_eq!(named(1), Value::Int(1));
}
