//! What a gateway hands over is what a reader gets, whatever it holds.

use std::sync::Arc;

use asset_stream::{DataItem, Event, Kind, Quality, Sample, Timestamp, Value};
use proptest::prelude::*;
use serde_json::Value as Json;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::UInt),
        any::<f32>().prop_map(Value::Float32),
        any::<f64>().prop_map(Value::Float64),
        any::<bool>().prop_map(Value::Bool),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| proptest::collection::vec(inner, 0..6).prop_map(Value::Array))
}

/// Whether JSON says the same, to the last bit.
fn same(value: &Value, json: &Json) -> bool {
    match (value, json) {
        (Value::Int(n), Json::Number(_)) => json.as_i64() == Some(*n),
        (Value::UInt(n), Json::Number(_)) => json.as_u64() == Some(*n),
        (Value::Float32(n), Json::Number(_)) => json.as_f64().map(|m| (m as f32).to_bits()) == Some(n.to_bits()),
        (Value::Float64(n), Json::Number(_)) => json.as_f64().map(f64::to_bits) == Some(n.to_bits()),
        (Value::Float32(n), Json::String(text)) => !n.is_finite() && text.parse().is_ok_and(|m: f32| m == *n || (m.is_nan() && n.is_nan())),
        (Value::Float64(n), Json::String(text)) => !n.is_finite() && text.parse().is_ok_and(|m: f64| m == *n || (m.is_nan() && n.is_nan())),
        (Value::Bool(b), Json::Bool(c)) => b == c,
        (Value::Text(text), Json::String(other)) => **text == **other,
        (Value::Array(values), Json::Array(others)) => values.len() == others.len() && values.iter().zip(others).all(|(v, o)| same(v, o)),
        _ => false,
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Samples), Just(Kind::Events), Just(Kind::Condition), Just(Kind::Method), Just(Kind::OpenFactory)]
}

fn quality() -> impl Strategy<Value = Quality> {
    prop_oneof![
        Just(Quality::Good),
        ".*".prop_map(|status| Quality::Uncertain(status.into())),
        ".*".prop_map(|status| Quality::Bad(status.into())),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_unchanged(
        (id, tag, kind, quality, value) in (".*", ".*", kind(), quality(), value()),
        (timestamp, ingested) in (any::<i64>(), any::<i64>()),
        attributes in proptest::collection::btree_map(".*", ".*", 0..4),
    ) {
        let own = ["timestamp", "ingestion_timestamp", "quality", "status"];
        let item = Arc::new(DataItem::new("A", &*id, &*tag, kind));
        let (timestamp, ingested) = (Timestamp::from_millis(timestamp), Timestamp::from_millis(ingested));
        let further = attributes.clone().into_iter().map(|(name, text)| (name.into(), text)).collect();
        let sample = Sample { item, value, quality, timestamp, ingested, attributes: further };
        let mut json = Vec::new();
        sample.encode(&mut json);
        let event = Event::decode(&json).expect("an event");
        prop_assert_eq!((&event.id, &event.tag, event.kind), (&id, &tag, kind));
        prop_assert_eq!(event.timestamp(), Some(timestamp));
        prop_assert_eq!(event.attributes.get("ingestion_timestamp").and_then(|t| Timestamp::parse(t)), Some(ingested));
        let (word, status) = match &sample.quality {
            Quality::Good => ("Good", None),
            Quality::Uncertain(status) => ("Uncertain", Some(status)),
            Quality::Bad(status) => ("Bad", Some(status)),
        };
        prop_assert_eq!(event.attributes.get("quality").map(String::as_str), Some(word));
        prop_assert_eq!(event.attributes.get("status").map(String::as_str), status.map(|s| &**s));
        for (name, text) in attributes.iter().filter(|(name, _)| !own.contains(&name.as_str())) {
            prop_assert_eq!(event.attributes.get(name), Some(text));
        }
        if matches!(sample.quality, Quality::Bad(_)) {
            prop_assert_eq!(event.value, "UNAVAILABLE");
        } else {
            prop_assert!(same(&sample.value, &event.value), "{:?} became {}", sample.value, event.value);
        }
    }
}
