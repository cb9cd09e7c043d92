use super::{Facts, RecordTime, event_message_id, record_message_id, serve};
use crate::{DataItem, Event, Kind, Malformed, Position, Sample, Timestamp, Value};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::sync::Arc;

fn facts() -> Facts {
    let at = Timestamp::from_millis(1_769_528_223_882);
    Facts { kafka: RecordTime::Producer(at), forwarded: Timestamp::from_millis(1_769_528_223_886) }
}

const ADDED: &str = concat!(
    r#""kafka_timestamp":"2026-01-27T15:37:03.882Z","kafka_timestamp_type":"producer","#,
    r#""asset_forwarder_timestamp":"2026-01-27T15:37:03.886Z""#
);

fn served(value: &str) -> (String, String) {
    let served = serve(value.as_bytes(), &facts()).expect("an event");
    (served.id.into_owned(), String::from_utf8(served.payload).expect("UTF-8"))
}

#[test]
fn everything_but_id_and_times_stays_byte_for_byte() {
    for (value, before, after) in [
        (r#"{"ID":"t","VALUE":24.300,"attributes":{"timestamp":"T"}}"#, r#"{"VALUE":24.300,"attributes":{"timestamp":"T","#, "}}"),
        (r#" { "VALUE": 1E+2 , "id": "t" , "TAG": "" } "#, r#"{ "VALUE": 1E+2 , "TAG": "","attributes":{"#, "} }"),
        ("{\"VALUE\": [1,\n2],\t\"ID\": \"t\"}", "{\"VALUE\": [1,\n2],\"attributes\":{", "}}"),
        (r#"{"attributes":{ },"ID":"t","V":"\u00e4ü\/"}"#, r#"{"attributes":{"#, r#" },"V":"\u00e4ü\/"}"#),
        (r#"{"ID":"t"}"#, r#"{"attributes":{"#, "}}"),
        (r#"{"ID":"t","attributes":null,"x":{"ID":1}}"#, r#"{"attributes":{"#, r#"},"x":{"ID":1}}"#),
        (r#"{"Id":"t","Attributes":{"a":1,"b":{}}}"#, r#"{"Attributes":{"a":1,"b":{},"#, "}}"),
        (r#"{"ID":"t","VALUE":18446744073709551616.0e-0}"#, r#"{"VALUE":18446744073709551616.0e-0,"attributes":{"#, "}}"),
    ] {
        assert_eq!(served(value), ("t".to_owned(), format!("{before}{ADDED}{after}")), "{value}");
    }
}

#[test]
fn times_of_an_earlier_forwarding_are_replaced() {
    let value = r#"{"ID":"t","attributes":{"kafka_timestamp": "old", "a": "1", "kafka\u005ftimestamp_type":"old", "b":"2"}}"#;
    assert_eq!(served(value).1, format!(r#"{{"attributes":{{"a": "1", "b":"2",{ADDED}}}}}"#));
}

#[test]
fn ids_are_unescaped_and_found_behind_escapes() {
    assert_eq!(served(r#"{"\u0049D":"a\"b\u00e4"}"#).0, "a\"bä");
    assert_eq!(served(r#"{"ID":"first","id":"second"}"#).0, "first");
}

#[test]
fn a_record_time_that_kafka_does_not_know_is_left_out() {
    let unknown = Facts { kafka: RecordTime::Unknown, ..facts() };
    let payload = serve(br#"{"ID":"t"}"#, &unknown).expect("an event").payload;
    assert_eq!(payload, br#"{"attributes":{"asset_forwarder_timestamp":"2026-01-27T15:37:03.886Z"}}"#);
    let broker = Facts { kafka: RecordTime::Broker(facts().forwarded), ..facts() };
    let payload = serve(br#"{"ID":"t"}"#, &broker).expect("an event").payload;
    assert!(String::from_utf8_lossy(&payload).contains(r#""kafka_timestamp":"2026-01-27T15:37:03.886Z","kafka_timestamp_type":"broker""#));
}

#[test]
fn numbers_that_json_does_not_have_are_served_as_strings() {
    for (value, after) in [
        (r#"{"ID":"t","VALUE":NaN}"#, r#"{"VALUE":"NaN","attributes":{"#),
        (r#"{"VALUE": [-Infinity, -1, Infinity],"ID":"t"}"#, r#"{"VALUE": ["-Infinity", -1, "Infinity"],"attributes":{"#),
        (r#"{"ID":"t","VALUE":NaN,"TAG":"NaN \"NaN\\"}"#, r#"{"VALUE":"NaN","TAG":"NaN \"NaN\\","attributes":{"#),
    ] {
        assert_eq!(served(value), ("t".to_owned(), format!("{after}{ADDED}}}}}")), "{value}");
    }
    assert_eq!(served(r#"{"ID":"NaN","VALUE":NaN}"#).0, "NaN");
}

#[test]
fn what_cannot_be_served_is_said_to_be_malformed() {
    for value in [
        "",
        "{",
        "null",
        "[]",
        "5",
        r#"{"ID":"t"} x"#,
        r#"{"ID":"t","VALUE":nan}"#,
        r#"{"ID":"t","VALUE":-NaN}"#,
        r#"{"ID":"t","a":"\x"}"#,
        r#"{"ID":"t",}"#,
    ] {
        assert!(matches!(serve(value.as_bytes(), &facts()), Err(Malformed::NotAnObject(_))), "{value}");
    }
    for value in ["{}", r#"{"ID":5}"#, r#"{"ID":null}"#, r#"{"ID":"\ud800"}"#] {
        assert!(matches!(serve(value.as_bytes(), &facts()), Err(Malformed::Field { field: "ID", .. })), "{value}");
    }
    for value in [r#"{"ID":"t","attributes":[]}"#, r#"{"ID":"t","attributes":"x"}"#] {
        assert!(matches!(serve(value.as_bytes(), &facts()), Err(Malformed::Field { field: "attributes", .. })), "{value}");
    }
    assert!(serve(b"{\"ID\":\"\xff\"}", &facts()).is_err());
    let deep = format!(r#"{{"ID":"t","VALUE":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(serve(deep.as_bytes(), &facts()).map(|served| served.payload.len()).ok(), Some(deep.len() - 9 + 15 + ADDED.len() + 1));
}

#[test]
fn message_ids_are_single_words() {
    let position = Position { epoch: 1_769_528_223_871, n: 42 };
    assert_eq!(event_message_id("edge-01", position), "edge-01:1769528223871:42");
    assert_eq!(event_message_id("edge\r\nX: 1", position), "edge%0D%0AX:%201:1769528223871:42");
    assert_eq!(record_message_id("ofa_assets", 3, 17), "ofa_assets:3:17");
}

/// A writer in another language: any order, any white space.
fn json_text() -> impl Strategy<Value = Json> {
    let leaf =
        prop_oneof![any::<i64>().prop_map(Json::from), any::<f64>().prop_map(Json::from), ".*".prop_map(Json::from), Just(Json::Null)];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map(".{0,4}", inner, 0..4).prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_serve_or_decode_panic(bytes in any::<Vec<u8>>(), text in r#"([{}\[\]",:\\a-dDI0-9 .-]|NaN|Infinity){0,40}"#) {
        serve(&bytes, &facts()).ok();
        Event::decode(&bytes).ok();
        serve(text.as_bytes(), &facts()).ok();
        serve(format!("{{\"ID\":\"x\",{text}}}").as_bytes(), &facts()).ok();
        serve(format!("{{\"ID\":\"x\",\"attributes\":{text}}}").as_bytes(), &facts()).ok();
    }

    #[test]
    fn what_is_served_means_what_was_written(value in json_text(), tag in ".*", other in json_text(), pretty in any::<bool>()) {
        let record = json!({"ID": "x", "VALUE": value, "TAG": tag, "attributes": {"timestamp": "t", "other": other}});
        let text = if pretty { serde_json::to_string_pretty(&record) } else { serde_json::to_string(&record) }.expect("JSON");
        let seen: Json = serde_json::from_str(&served(&text).1).expect("JSON");
        let mut expected: Json = serde_json::from_str(&text).expect("JSON");
        expected.as_object_mut().expect("an object").remove("ID");
        for (name, text) in [
            ("kafka_timestamp", "2026-01-27T15:37:03.882Z"),
            ("kafka_timestamp_type", "producer"),
            ("asset_forwarder_timestamp", "2026-01-27T15:37:03.886Z"),
        ] {
            expected["attributes"][name] = text.into();
        }
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn what_a_sample_writes_is_served(id in ".*", tag in ".*", text in ".*") {
        let item = Arc::new(DataItem::new("A", &*id, tag, Kind::Events));
        let mut value = Vec::new();
        Sample::good(item, Value::from(text), facts().forwarded, facts().forwarded).encode(&mut value);
        let served = serve(&value, &facts()).expect("an event");
        prop_assert_eq!(served.id, id);
    }
}

/// Not a test of anything: prints the speed of the hot paths.
/// `cargo test --release -p asset-stream -- --ignored --nocapture speed`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let item = Arc::new(DataItem::new("OPCUA-SENSOR-001", "temp", "Temperature", Kind::Samples));
    let at = Timestamp::now();
    let sample = Sample::good(item, 24.3, at, at);
    let mut value = Vec::new();
    sample.encode(&mut value);
    let measure = |what: &str, run: &mut dyn FnMut()| {
        const TIMES: u32 = 1_000_000;
        let mut best = std::time::Duration::MAX;
        for _ in 0..5 {
            let start = std::time::Instant::now();
            (0..TIMES).for_each(|_| run());
            best = best.min(start.elapsed());
        }
        println!("{what}: {} ns", best.as_nanos() / u128::from(TIMES));
    };
    let mut out = Vec::with_capacity(1024);
    measure("encode", &mut || {
        out.clear();
        std::hint::black_box(&sample).encode(&mut out);
    });
    measure("serve", &mut || drop(std::hint::black_box(serve(std::hint::black_box(&value), &facts()))));
    measure("decode", &mut || drop(std::hint::black_box(Event::decode(std::hint::black_box(&value)))));
    measure("subject", &mut || drop(std::hint::black_box(crate::subject::plain(b"OPCUA-SENSOR-001", "temp"))));
    println!("{} bytes", value.len());
}
