//! Values, alarms and methods of a server that we did not write, as they come out of the gateway.

mod support;

use std::time::Duration;

use asset_stream::{Kind, Quality, Sample};
use support::server::Server;
use support::{Edge, python, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// What `machine.py` has, and the `VALUE` that is to come of it.
const VALUES: &[(&str, &str)] = &[
    ("boolean", "true"),
    ("sbyte", "-128"),
    ("byte", "255"),
    ("int16", "-32768"),
    ("uint16", "65535"),
    ("int32", "-2147483648"),
    ("uint32", "4294967295"),
    ("int64", "-9223372036854775808"),
    ("uint64", "18446744073709551615"),
    ("float", "24.3"),
    ("double", "0.1"),
    ("nan", r#""NaN""#),
    ("text", r#""grün \"quoted\"""#),
    ("empty_text", r#""""#),
    ("null_text", r#""""#),
    ("time", r#""2026-01-27T15:37:03.871Z""#),
    ("guid", r#""72962b91-fa75-4ae6-8d28-b404dc7daf63""#),
    ("bytes", r#""AP8=""#),
    ("xml", r#""<a>1</a>""#),
    ("node_id", r#""ns=2;s=a;b""#),
    ("expanded", r#""ns=2;s=far""#),
    ("status", r#""BadSensorFailure""#),
    ("qualified", r#""2:Pump""#),
    ("localized", r#""Störung""#),
    ("numbers", "[1,2,3]"),
    ("no_numbers", "[]"),
    ("texts", r#"["a","b"]"#),
    ("matrix", "[[1,2,3],[4,5,6]]"),
    ("cube", "[[[1.0,2.0],[3.0,4.0]],[[5.0,6.0],[7.0,8.0]]]"),
    ("variants", r#"[1,"b"]"#),
    ("no_value", r#""UNAVAILABLE""#),
    ("range", r#""{\"Low\":-0.5,\"High\":100.0}""#),
    ("server_state", r#""Running""#),
    ("state", r#""Running""#),
    ("states", r#"["Idle","Fault",7]"#),
    ("old_state", r#""On""#),
    (
        "machine",
        r#""{\"Name\":null,\"State\":\"Running\",\"Total\":18446744073709551615,\"Place\":{\"X\":1.5,\"Y\":-2.0},\"Way\":[{\"X\":0.0,\"Y\":0.0},{\"X\":1.0,\"Y\":0.5}],\"Limits\":{\"Low\":0.0,\"High\":10.0},\"Shifts\":null}""#,
    ),
    ("points", r#"["{\"X\":1.0,\"Y\":2.0}","{\"X\":3.0,\"Y\":4.0}"]"#),
    ("partial", r#""{\"B\":7}""#),
    ("choice", r#""{\"Text\":\"second\"}""#),
];

/// Those whose `TYPE` is `Samples`; the others are `Events`.
const NUMBERS: &[&str] = &[
    "sbyte",
    "byte",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float",
    "double",
    "nan",
    "numbers",
    "no_numbers",
    "matrix",
    "cube",
    "variants",
    "no_value",
];

fn json(sample: &Sample) -> String {
    let mut out = Vec::new();
    match sample.quality {
        Quality::Bad(_) => asset_stream::Value::unavailable().write(&mut out),
        _ => sample.value.write(&mut out),
    }
    String::from_utf8(out).expect("JSON is UTF-8")
}

fn attribute<'s>(sample: &'s Sample, name: &str) -> Option<&'s str> {
    sample.attributes.iter().find(|(n, _)| n == name).map(|(_, text)| text.as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_arrives_as_the_table_says() {
    let Some(python) = python() else { return };
    let server = Server::start_script(&python, "machine.py", &[]).await;
    let mut yaml = format!("server:\n  uri: opc.tcp://127.0.0.1:{}/machine\nvariables:\n", server.port);
    for (name, _) in VALUES {
        yaml += &format!("  {name}: {{node_id: \"ns=2;s={name}\"}}\n");
    }
    let edge = Edge::start(&yaml);
    let missing = || VALUES.iter().map(|(name, _)| *name).filter(|name| edge.kept().of(name).is_empty()).collect::<Vec<_>>();
    let all = || Some(missing()).filter(|missing| !missing.is_empty()).map_or(Ok(()), Err);
    wait_until("a sample of every variable", SOON, all).await;
    let kept = edge.kept();
    let mut wrong = Vec::new();
    for (name, expected) in VALUES {
        let sample = &kept.of(name)[0];
        let kind = if NUMBERS.contains(name) { Kind::Samples } else { Kind::Events };
        if json(sample) != *expected || sample.item.kind != kind {
            wrong.push(format!("{name}: expected {expected} ({kind}), got {} ({}), {:?}", json(sample), sample.item.kind, sample.quality));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(attribute(&kept.of("null_text")[0], "null"), Some("true"));
    assert_eq!(attribute(&kept.of("empty_text")[0], "null"), None);
    assert!(matches!(&kept.of("no_value")[0].quality, Quality::Bad(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarms_and_events_arrive_as_conditions() {
    let Some(python) = python() else { return };
    let mut server = Server::start_script(&python, "machine.py", &[]).await;
    let uri = format!("opc.tcp://127.0.0.1:{}/machine", server.port);
    let edge = Edge::start(&format!(
        "server: {{uri: {uri}}}\nvariables:\n  double: {{node_id: \"ns=2;s=double\"}}\nevents:\n  \
         alarms: {{node_id: \"ns=2;s=Furnace\"}}\n  severe: {{node_id: \"ns=2;s=Furnace\", minimum_severity: 500}}\n"
    ));
    // The first value says that the subscription stands.
    edge.wait_for_samples("double", 1, SOON).await;
    for told in ["alarm active 800 too hot", "alarm active 300 warm", "alarm inactive 300 fine again", "event 5 door opened"] {
        assert_eq!(server.tell(told).await, "done");
    }
    edge.wait_for_samples("alarms", 4, SOON).await;
    edge.wait_for_samples("severe", 1, SOON).await;
    let kept = edge.kept();
    let seen: Vec<_> = kept.of("alarms").iter().map(|s| format!("{} {} {}", s.item.kind, s.item.tag, json(s))).collect();
    let expected = [
        r#"Condition Fault "too hot""#,
        r#"Condition Warning "warm""#,
        r#"Condition Normal "fine again""#,
        r#"Condition SystemEventType "door opened""#,
    ];
    assert_eq!(seen, expected);
    let alarm = &kept.of("alarms")[0];
    for (name, text) in [
        ("severity", "800"),
        ("source", "Furnace"),
        ("source_node", "ns=2;s=Furnace"),
        ("event_type", "OverheatAlarmType"),
        ("condition", "Overheat"),
        ("condition_id", "ns=2;s=overheat"),
        ("active", "true"),
        ("acked", "false"),
    ] {
        assert_eq!(attribute(alarm, name), Some(text), "{name} of {:?}", alarm.attributes);
    }
    assert!(attribute(alarm, "event_id").is_some_and(|id| !id.is_empty()), "{:?}", alarm.attributes);
    assert_eq!(kept.of("severe").iter().map(json).collect::<Vec<_>>(), [r#""too hot""#], "the severity filter");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_at_any_depth_are_offered_once() {
    let Some(python) = python() else { return };
    let server = Server::start_script(&python, "machine.py", &[]).await;
    let uri = format!("opc.tcp://127.0.0.1:{}/machine", server.port);
    let edge = Edge::start(&format!("server: {{uri: {uri}}}\nmethods:\n  cell: {{browse_path: \"0:Root/0:Objects/2:Plant/2:Cell\"}}\n"));
    for name in ["Move_to", "Axis_Stop", "Pump_Stop"] {
        edge.wait_for_samples(name, 1, SOON).await;
    }
    let kept = edge.kept();
    let sample = &kept.of("Move_to")[0];
    assert_eq!((&*sample.item.tag, sample.item.kind), ("Method", Kind::Method));
    let value = r#"{"description":"Moves the axis","arguments":[{"name":"x","description":"to the right"},{"name":"y","description":""}]}"#;
    assert_eq!(sample.value, asset_stream::Value::from(value));
    let methods: Vec<_> = kept.samples.values().flatten().filter(|s| s.item.kind == Kind::Method).map(|s| &*s.item.id).collect();
    assert_eq!(methods, ["Axis_Stop", "Move_to", "Pump_Stop"]);
}
