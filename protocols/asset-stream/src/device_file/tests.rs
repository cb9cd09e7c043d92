use super::{DeviceFiles, ItemNames, MAX_NAME, validate_item_name};
use crate::document::{Environment, Problems};

struct Seen {
    devices: Vec<(String, String, String)>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

fn read(files: &[(&str, &str)]) -> Seen {
    let files = files.iter().map(|(file, text)| (file.into(), text.as_bytes().to_vec()));
    let files = DeviceFiles::parse(files, Environment::from_fn(|name| (name == "UUID").then(|| "PRESS-9".to_owned())));
    let problems = Problems::new();
    let devices = files.devices(&problems).into_iter().map(|d| (d.name, d.uuid, d.connector_type)).collect();
    let warnings = problems.warnings().iter().map(ToString::to_string).collect();
    Seen { devices, problems: problems.into_vec().iter().map(ToString::to_string).collect(), warnings }
}

fn device(name: &str, uuid: &str) -> String {
    format!("devices:\n  {name}:\n    uuid: {uuid}\n    connector: {{type: opcua}}\n")
}

#[test]
fn devices_come_in_the_order_of_the_files() {
    let seen = read(&[("b.yaml", &device("z", "Z")), ("a.yaml", &device("a", "\"${UUID}\"")), ("c.yaml", &device("seven", "007"))]);
    let device = |name: &str, uuid: &str| (name.to_owned(), uuid.to_owned(), "opcua".to_owned());
    assert_eq!(seen.devices, [device("z", "Z"), device("a", "PRESS-9"), device("seven", "007")]);
    assert_eq!((seen.problems, seen.warnings), (vec![], vec![]));
}

#[test]
fn a_name_or_uuid_that_is_there_twice_names_both_places() {
    let seen = read(&[("a.yaml", &device("press", "P-1")), ("b.yaml", &device("press", "P-2")), ("c.yaml", &device("lathe", "P-1"))]);
    let expected = [
        "b.yaml:2:3: devices.press: there is a device `press` in a.yaml:2 too; names are unique on an edge",
        "c.yaml:3:5: devices.lathe.uuid: `P-1` is the UUID of the device `press` in a.yaml:3 too; each device is an asset of its own",
    ];
    assert_eq!(seen.problems, expected);
    assert_eq!(seen.devices.len(), 1, "{:?}", seen.devices);
}

#[test]
fn everything_wrong_is_said_at_once() {
    let text = "devices:\n  a:\n    uid: A\n    connector: {type: opcua}\n  b:\n    uuid: B\n    connectr: {}\n  c: 5\n  d:\n    uuid: D\n    \
                connector: {host: x}\n    uns: heat\nagents: {}\n";
    let seen = read(&[("d.yaml", text), ("e.yaml", "a: [\n")]);
    let expected = [
        "d.yaml:2:3: devices.a.uuid: `uuid` is missing",
        "d.yaml:3:5: devices.a.uid: unknown key `uid`; did you mean `uuid`?",
        "d.yaml:5:3: devices.b.connector: `connector` is missing",
        "d.yaml:7:5: devices.b.connectr: unknown key `connectr`; did you mean `connector`?",
        "d.yaml:8:6: devices.c: expected `key: value` lines, found `5`",
        "d.yaml:11:5: devices.d.connector.type: `type` is missing",
        "d.yaml:12:10: devices.d.uns: expected `key: value` lines, found `heat`",
        "d.yaml:13:1: agents: unknown key `agents`; known here: devices",
    ];
    assert_eq!(seen.problems[..expected.len()], expected);
    assert!(seen.problems.len() == 9 && seen.problems[8].starts_with("e.yaml:2:1: a[0]: not YAML: "), "{:?}", seen.problems);
    assert_eq!(seen.devices, []);
}

#[test]
fn a_uuid_that_nobody_could_use_is_refused() {
    let long = "X".repeat(MAX_NAME + 1);
    for (uuid, message) in [
        ("''", "is empty"),
        ("\"A\\nB\"", "contains a control character"),
        ("' A'", "begins or ends with a space"),
        ("A|B", "contains `|`, which"),
        ("'A,B'", "contains `,`, which"),
        (&*long, "has 201 bytes; at most 200 are possible"),
        ("[A]", "expected a single value, found a list"),
        ("", "`uuid` has no value"),
    ] {
        let seen = read(&[("d.yaml", &device("a", uuid))]);
        assert!(seen.problems.len() == 1 && seen.problems[0].contains(message), "{uuid}: {:?}", seen.problems);
        assert_eq!(seen.devices, []);
    }
}

#[test]
fn a_uuid_that_existing_clients_would_not_find_is_a_warning() {
    let seen = read(&[("d.yaml", &device("a", "Press.4"))]);
    let expected = [
        "d.yaml:3:5: devices.a.uuid: NATS subjects cannot carry it as it is; the asset is served as `Press%2E4`",
        "d.yaml:3:5: devices.a.uuid: is not in upper case; existing clients subscribe to the UUID in upper case and will not see this asset",
    ];
    assert_eq!((seen.problems, seen.warnings, seen.devices.len()), (vec![], expected.map(String::from).to_vec(), 1));
}

#[test]
fn a_file_without_devices_is_a_warning_and_one_of_another_kind_a_problem() {
    for text in ["", "# devices:\n#   a:\n", "devices:\n", "devices: {}\n"] {
        let seen = read(&[("d.yaml", text)]);
        assert_eq!((seen.problems, seen.warnings), (vec![], vec!["d.yaml:1:1: no device in this file".to_owned()]), "{text:?}");
    }
    let seen = read(&[("d.yaml", "namespace_structure: []\nuns_template: a\n")]);
    assert!(seen.problems.len() == 1 && seen.problems[0].contains("a UNS schema, no device file"), "{:?}", seen.problems);
    let seen = read(&[("d.yaml", "device:\n  a: {}\n")]);
    let expected = [
        "d.yaml:1:1: device: unknown key `device`; did you mean `devices`?",
        "d.yaml:1:1: devices: `devices` is missing: write `devices:` and below it a name for each device",
    ];
    assert_eq!(seen.problems, expected);
}

#[test]
fn a_folder_is_read_by_name_and_what_cannot_be_read_is_a_problem() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (file, name) in [("b.yaml", "b"), ("a.yml", "a"), ("c.yaml.bak", "c"), (".hidden.yaml", "h")] {
        std::fs::write(folder.path().join(file), device(name, &name.to_uppercase())).expect("written");
    }
    let files = DeviceFiles::load([folder.path(), &folder.path().join("missing.yaml")], Environment::empty());
    let problems = Problems::new();
    let names: Vec<String> = files.devices(&problems).into_iter().map(|d| d.name).collect();
    assert_eq!(names, ["a", "b"]);
    let problems = problems.into_vec();
    assert!(problems.len() == 1 && problems[0].to_string().contains("missing.yaml: cannot be read: "), "{problems:?}");
}

#[test]
fn local_names_are_unique_over_all_sections() {
    let text = "constants:\n  temp: {}\n  gap: {}\nvariables:\n  temp: {}\n  Temp 2.0: {}\n";
    let problems = Problems::new();
    let environment = Environment::empty();
    let document = crate::document::Document::parse("d.yaml", text.as_bytes(), &problems).expect("YAML");
    let mut root = document.root(&environment, &problems);
    let mut names = ItemNames::new();
    let claimed: Vec<bool> =
        ["constants", "variables"].iter().flat_map(|key| root.entries(key)).map(|(name, item)| names.claim(&name, &item)).collect();
    assert_eq!(claimed, [true, false, false, true]);
    let seen: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
    let expected = [
        "d.yaml:3:3: constants.gap: the name is an event that the platform itself writes for each asset; choose another name",
        "d.yaml:5:3: variables.temp: the name is taken by constants.temp in line 2; local names are unique over all sections of a connector",
    ];
    assert_eq!(seen, expected);
    assert!(validate_item_name("Reset_CMD").is_err() && validate_item_name("reset").is_ok());
}
