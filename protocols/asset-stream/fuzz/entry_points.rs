//! Everything that takes bytes from outside, and what must hold for whatever they are. Shared by the fuzz targets and, for stable
//! toolchains, by the test `entry_points`.

use std::collections::BTreeMap;

use asset_stream::command::signature::verify;
use asset_stream::command::status::Status;
use asset_stream::command::{Command, method_name, method_of};
use asset_stream::device_file::{DeviceFiles, ItemNames};
use asset_stream::document::{Document, Environment, Problems};
use asset_stream::serving::{Facts, RecordTime, serve as serve_record};
use asset_stream::uns::Schema;
use asset_stream::{Event, Timestamp, subject};
use serde_json::value::RawValue;

/// A record's value, as any reader takes it.
pub(crate) fn event_decode(bytes: &[u8]) {
    let Ok(event) = Event::decode(bytes) else { return };
    if let Some(timestamp) = event.timestamp() {
        assert_eq!(Timestamp::parse(&timestamp.to_string()), Some(timestamp));
    }
    if let Ok((method, command)) = Command::from_event(&event) {
        assert_eq!(method_of(&event.id), Some(&*method));
        // Whatever it is, nobody without a key has signed it.
        assert!(verify(&[], "A", &method, &command).is_err());
    }
    if let Some((_, Ok(status))) = Status::from_event(&event) {
        let again: Status = serde_json::from_str(&status.encode()).expect("a status");
        assert_eq!(again, status);
    }
}

/// A record's value, as the forwarder takes it.
pub(crate) fn serve(bytes: &[u8]) {
    let at = Timestamp::from_millis(0);
    let Ok(served) = serve_record(bytes, &Facts { kafka: RecordTime::Broker(at), forwarded: at }) else { return };
    let payload: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&served.payload).expect("the payload is a JSON object");
    assert!(!payload.keys().any(|key| key.eq_ignore_ascii_case("ID")), "ID is left out");
    let attributes = payload.iter().filter(|(key, _)| key.eq_ignore_ascii_case("attributes"));
    for (_, json) in attributes.clone() {
        let attributes: BTreeMap<String, Box<RawValue>> = serde_json::from_str(json.get()).expect("attributes are an object");
        assert_eq!(attributes["kafka_timestamp_type"].get(), "\"broker\"");
    }
    assert!(attributes.count() > 0, "attributes are there");
    let token = subject::escape(served.id.as_bytes());
    assert_eq!(subject::unescape(&token).as_deref(), Some(served.id.as_bytes()));
}

/// A device file, and the same text as a UNS schema.
pub(crate) fn device_file(bytes: &[u8]) {
    let files = DeviceFiles::parse([("a.yaml".into(), bytes.to_vec()), ("b.yaml".into(), bytes.to_vec())], Environment::empty());
    let problems = Problems::new();
    let schema = Schema::parse("uns.yaml", bytes, &Environment::empty(), &problems);
    let devices = files.devices(&problems);
    if let Some(schema) = schema {
        schema.resolve_all(&devices);
    }
    for mut device in devices {
        let mut names = ItemNames::new();
        for (name, section) in device.connector.entries("variables") {
            names.claim(&name, &section);
            section.finish();
        }
        device.connector.optional::<f64>("host");
        device.connector.optional::<Vec<u16>>("port");
        device.connector.finish();
    }
    if let Some(document) = Document::parse("c.yaml", bytes, &problems) {
        document.root(&Environment::empty(), &problems).finish();
    }
    for problem in problems.into_vec() {
        assert!(!problem.to_string().contains('\n'), "a problem is one line: {problem:?}");
    }
}

/// The envelope of a command.
pub(crate) fn command(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(name) = method_name(text) {
        assert_eq!(method_name(&name), Some(name));
    }
    let Ok(command) = Command::decode(text) else { return };
    assert_eq!(Command::decode(&command.encode()).expect("what was written is read"), command);
}
