//! The wire, byte for byte: what stands in `golden/` is what existing installations read and write.
//!
//! A difference here is a change of the contract. If it is meant: `UPDATE_GOLDEN=1 cargo test -p asset-stream --test golden`, and look at
//! the difference in git.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use asset_stream::command::{Command, Header};
use asset_stream::device_file::DeviceFiles;
use asset_stream::document::{Environment, Problems};
use asset_stream::facts::{Argument, Availability, Method};
use asset_stream::serving::{Facts, RecordTime, serve};
use asset_stream::uns::Schema;
use asset_stream::{DataItem, Event, Gap, GapReason, Kind, Quality, Sample, Timestamp, Value, facts};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn assert_golden(name: &str, seen: &str) {
    let seen = format!("{seen}\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path(name), &seen).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    assert_eq!(seen, read(name), "{name} (left: written now, right: golden)");
}

fn observed() -> Timestamp {
    Timestamp::from_millis(1_769_528_223_871)
}

fn ingested() -> Timestamp {
    Timestamp::from_millis(1_769_528_223_882)
}

fn sample(id: &str, tag: &str, kind: Kind, value: impl Into<Value>) -> Sample {
    Sample::good(Arc::new(DataItem::new("OPCUA-SENSOR-001", id, tag, kind)), value, observed(), ingested())
}

fn command() -> Command {
    let header = Header {
        correlation_id: "550e8400-e29b-41d4-a716-446655440000".into(),
        sender_uuid: "HMI-CNC-9207".into(),
        timestamp: "2026-02-21T12:00:00Z".into(),
        ..Header::default()
    };
    Command { header, arguments: vec![("x".into(), "10".into()), ("y".into(), "20".into())] }
}

/// One of each kind of event that we write.
fn events() -> Vec<(&'static str, Sample)> {
    let asset = "OPCUA-SENSOR-001";
    let sensor_failure = "BadSensorFailure (0x808C0000)";
    let gap = Gap {
        asset: asset.into(),
        item: None,
        reason: GapReason::DroppedOldest,
        count: Some(480),
        sequences: Some((1001, 1480)),
        asset_sequences: Some((17, 496)),
        epoch: None,
        from: observed(),
        to: ingested(),
        detail: "the log was full".into(),
    };
    let earlier = Gap { reason: GapReason::Damaged, epoch: Some(1_769_000_000_000), ..gap.clone() };
    let move_axis = Method {
        description: "Moves the axes".into(),
        arguments: vec![
            Argument { name: "x".into(), description: "in mm".into() },
            Argument { name: "y".into(), description: String::new() },
        ],
    };
    let mut alarm = sample("alarms", "Fault", Kind::Condition, "Coolant low \u{2013} \"tank 2\"\n");
    alarm.attributes = vec![("severity".into(), "700".into()), ("source".into(), "Spindle/Kühlung".into())];
    let mut uncertain = sample("pressure", "Pressure", Kind::Samples, 3_i32);
    uncertain.quality = Quality::Uncertain("UncertainLastUsableValue (0x40900000)".into());
    let mut bad = sample("temp", "Temperature", Kind::Samples, 24.3_f32);
    bad.quality = Quality::Bad(sensor_failure.into());
    vec![
        ("event-samples.json", sample("temp", "Temperature", Kind::Samples, 24.3_f32)),
        ("event-samples-integer.json", sample("count", "PartCount", Kind::Samples, u64::MAX)),
        ("event-samples-not-finite.json", sample("ratio", "Ratio", Kind::Samples, f64::NEG_INFINITY)),
        ("event-samples-array.json", sample("axes", "Position", Kind::Samples, vec![1.5_f64.into(), (-2_i16).into(), 1e300_f64.into()])),
        ("event-samples-bad.json", bad),
        ("event-samples-uncertain.json", uncertain),
        ("event-events-text.json", sample("program", "Program", Kind::Events, "O1234 / Größe \u{1}")),
        ("event-events-boolean.json", sample("door.open", "DoorState", Kind::Events, true)),
        ("event-condition.json", alarm),
        ("event-method.json", move_axis.to_sample(asset, "Move_Axis", ingested())),
        ("event-availability.json", facts::availability(asset, Availability::Unavailable, ingested())),
        ("event-gateway.json", facts::gateway(asset, "opcua", "EDGE-01", ingested())),
        ("event-gap.json", gap.to_sample(ingested())),
        ("event-gap-of-an-earlier-epoch.json", earlier.to_sample(ingested())),
        ("event-command.json", command().to_sample(asset, "Move_Axis", ingested())),
    ]
}

fn encode(sample: &Sample) -> String {
    let mut out = Vec::new();
    sample.encode(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn every_kind_of_event_is_written_byte_for_byte_and_read_back() {
    for (name, sample) in events() {
        assert_golden(name, &encode(&sample));
        let event = Event::decode(read(name).as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((&*event.id, &*event.tag, event.kind), (&*sample.item.id, &*sample.item.tag, sample.item.kind), "{name}");
        assert_eq!(event.timestamp(), Some(sample.timestamp), "{name}");
    }
}

#[test]
fn registration_is_written_byte_for_byte() {
    let uns = uns().expect("a place in the UNS");
    let facts = facts::registration("OPCUA-SENSOR-001", facts::DEVICE, Some(&uns), ingested());
    assert_golden("registration.jsonl", &facts.iter().map(encode).collect::<Vec<_>>().join("\n"));
}

#[test]
fn commands_are_written_byte_for_byte_and_those_of_others_read() {
    assert_golden("command.json", &command().encode());
    assert_eq!(Command::decode(&read("command-of-others.json")).expect("an envelope"), command());
}

#[test]
fn records_of_others_are_served_byte_for_byte() {
    let facts = Facts { kafka: RecordTime::Producer(ingested()), forwarded: Timestamp::from_millis(1_769_528_223_886) };
    for name in ["event-samples.json", "record-of-others.json", "record-of-python.json"] {
        let record = read(name);
        let served = serve(record.trim_end().as_bytes(), &facts).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(served.id, "temp", "{name}");
        assert_golden(&format!("served-{name}"), &String::from_utf8(served.payload).expect("UTF-8"));
    }
    let event = Event::decode(read("record-of-others.json").as_bytes()).expect("an event");
    assert_eq!((event.id.as_str(), event.value.as_f64(), event.kind), ("temp", Some(24.3), Kind::Samples));
}

fn devices() -> DeviceFiles {
    DeviceFiles::load([path("devices.yaml")], Environment::from_fn(|name| (name == "LATHE_HOST").then(|| "10.0.0.9".into())))
}

fn uns() -> Option<asset_stream::uns::Uns> {
    let (files, problems) = (devices(), Problems::new());
    let devices = files.devices(&problems);
    Schema::load(&path("uns.yaml"), &Environment::empty(), &problems)?.resolve(&devices[0])
}

#[test]
fn device_files_of_existing_installations_are_read() {
    let (files, problems) = (devices(), Problems::new());
    let mut seen = String::new();
    for device in files.devices(&problems) {
        let mut connector = device.connector;
        let keys: Vec<&str> = connector.keys().collect();
        let host = connector.optional::<String>("host").unwrap_or_default();
        let place = device.place.line;
        seen += &format!("{place} {} {} {} {keys:?} {host}\n", device.name, device.uuid, device.connector_type);
    }
    assert_golden("devices.txt", &seen);
    assert_eq!(uns().map(|uns| uns.id).as_deref(), Some("OpenFactory.building-a.heat.OPCUA-SENSOR-001"));
    assert!(problems.is_empty(), "{:?}", problems.into_vec());
}

#[test]
fn all_mistakes_of_device_files_are_told_at_once() {
    let files = ["devices-broken.yaml", "devices-broken-too.yaml"].map(|name| (name.into(), read(name).into_bytes()));
    let (files, problems) = (DeviceFiles::parse(files, Environment::empty()), Problems::new());
    let schema = Schema::load(&path("uns.yaml"), &Environment::empty(), &problems).expect("a schema");
    let devices = files.devices(&problems);
    schema.resolve_all(&devices);
    for device in devices {
        let mut connector = device.connector;
        if let Some(mut server) = connector.required_section("server") {
            server.required::<String>("uri");
            server.finish();
        }
        connector.finish();
    }
    let mut seen: Vec<String> = problems.warnings().iter().map(|warning| format!("warning: {warning}")).collect();
    seen.extend(problems.into_vec().iter().map(ToString::to_string));
    // Where the schema lies is this machine's business.
    let folder = format!("{}/", path("").display()).replace("//", "/");
    assert_golden("devices-broken.txt", &seen.join("\n").replace(&folder, ""));
}

#[test]
fn the_example_of_a_uns_schema_is_sound() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/uns.yaml");
    let problems = Problems::new();
    let schema = Schema::load(&file, &Environment::empty(), &problems);
    assert!(problems.is_empty() && problems.warnings().is_empty(), "{:?}", problems.into_vec());
    let levels: Vec<String> = schema.expect("a schema").levels().iter().map(|level| level.name.clone()).collect();
    assert_eq!(levels, ["inc", "location", "workcenter", "asset"]);
}
