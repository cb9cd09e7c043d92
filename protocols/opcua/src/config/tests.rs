use std::time::Duration;

use asset_stream::Kind;
use asset_stream::device_file::Access;
use asset_stream::document::{Document, Environment, Problems};

use super::{Config, parse};
use crate::nodes::Address;

fn read(yaml: &str) -> (Option<Config>, Vec<String>) {
    let (problems, environment) = (Problems::new(), Environment::empty());
    let document = Document::parse("plc.yaml", yaml.as_bytes(), &problems);
    let config = document.as_ref().and_then(|d| parse(d.root(&environment, &problems)));
    (config, problems.into_vec().iter().map(ToString::to_string).collect())
}

#[test]
fn the_defaults_are_those_of_existing_installations() {
    let (config, problems) = read("server: {uri: \"opc.tcp://plc:4840/\"}\nvariables: {temp: {node_id: \"ns=2;i=3\"}}\n");
    assert_eq!(problems, [""; 0]);
    let config = config.expect("valid");
    assert_eq!(config.subscription.publishing_interval, Duration::from_millis(100));
    let temp = &config.variables[0];
    assert_eq!((temp.tag.as_str(), temp.queue_size, temp.sampling_interval, temp.deadband, temp.kind), ("temp", 1, 0.0, None, None));
    assert_eq!(temp.access, Access::ReadOnly);
}

#[test]
fn a_full_section_is_read_as_it_is_meant() {
    let (config, problems) = read(
        "server:\n  uri: opc.tcp://10.0.0.5:4840/server/\n  subscription: {publishing_interval: 250, queue_size: 7, sampling_interval: 50}\n  \
         session: {request_timeout: 9000, action_timeout: 30000, keep_alive_failures: 3}\n\
         constants: {model: {node_id: ns=2;i=3, tag: SensorModel}}\n\
         variables:\n  temp: {browse_path: '0:Root/0:Objects/2:Temperature', tag: Temperature, deadband: 0.1, queue_size: 5, sampling_interval: -1}\n  \
         state: {node_id: ns=2;s=state, type: Samples, access_level: rw}\n\
         events: {alarms: {node_id: i=2253, minimum_severity: 500}}\n\
         methods: {sensor: {browse_path: '0:Root/0:Objects/2:Sensors'}}\n",
    );
    assert_eq!(problems, [""; 0]);
    let config = config.expect("valid");
    assert_eq!(config.session.request_timeout, Duration::from_secs(9));
    assert_eq!(config.session.action_timeout, Duration::from_secs(30));
    assert_eq!(config.session.keep_alive_failures, 3);
    let [temp, state] = config.variables.as_slice() else { panic!("two variables: {:?}", config.variables) };
    assert_eq!((temp.deadband, temp.queue_size, temp.sampling_interval), (Some(0.1), 5, -1.0));
    assert_eq!((state.queue_size, state.sampling_interval, state.kind, state.access), (7, 50.0, Some(Kind::Samples), Access::ReadWrite));
    assert_eq!((config.events[0].queue_size, config.events[0].minimum_severity), (1_000, Some(500)));
    assert!(matches!(config.methods[0].address, Address::Path(ref steps) if steps.len() == 2));
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let (config, problems) = read(
        "server:\n  uri: http://plc\n  subscription: {queue_size: 0}\n  session: {keep_alive_failures: 0}\n\
         constants:\n  temp: {node_id: ns=2;i=3}\n\
         variables:\n  temp: {node_id: ns=2;i=3}\n  both: {node_id: ns=2;i=3, browse_path: '0:Root'}\n  neither: {tag: T}\n  \
         wrong: {node_id: i3, deadbant: 1}\n  avail: {node_id: ns=2;i=4}\n  path: {browse_path: Objects/2:a, deadband: -1}\n",
    );
    assert!(config.is_none());
    let expected = [
        (2, "server.uri", "opc.tcp://"),
        (3, "server.subscription.queue_size", "at least 1"),
        (4, "server.session.keep_alive_failures", "never be noticed"),
        (8, "variables.temp", "unique over all sections"),
        (9, "variables.both.browse_path", "exclude each other"),
        (10, "variables.neither", "is missing"),
        (11, "variables.wrong.deadbant", "did you mean `deadband`"),
        (11, "variables.wrong.node_id", "no node id"),
        (12, "variables.avail", "another name"),
        (13, "variables.path.browse_path", "<namespace>:<name>"),
        (13, "variables.path.deadband", "not be negative"),
    ];
    for (line, key, word) in expected {
        let is = |p: &&String| p.starts_with(&format!("plc.yaml:{line}:")) && p.contains(&format!(" {key}: ")) && p.contains(word);
        assert!(problems.iter().any(|p| is(&p)), "no problem in line {line} at {key} with {word:?}; seen:\n{}", problems.join("\n"));
    }
    assert_eq!(problems.len(), expected.len(), "{}", problems.join("\n"));
}

#[test]
fn the_example_file_is_valid() {
    let text = include_str!("../../../../config/devices/opcua.yaml");
    let (problems, environment) = (Problems::new(), Environment::empty());
    let document = Document::parse("opcua.yaml", text.as_bytes(), &problems).expect("one mapping");
    let mut root = document.root(&environment, &problems);
    for (name, mut device) in root.entries("devices") {
        let mut connector = device.required_section("connector").expect("a connector");
        assert_eq!(connector.required::<String>("type").as_deref(), Some("opcua"), "{name}");
        let config = parse(connector);
        assert!(config.is_some_and(|config| !config.variables.is_empty()), "{name}");
    }
    let problems: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
    assert_eq!(problems, [""; 0]);
}
