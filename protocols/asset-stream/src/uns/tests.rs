use super::{Schema, Uns};
use crate::device_file::DeviceFiles;
use crate::document::{Environment, Problems};

const SCHEMA: &str = "namespace_structure:
  - inc: OpenFactory
  - area: [building-a, building-b]
  - line: ANY
  - workcenter: ANY
  - asset: ANY
  - attribute: ANY
uns_template: inc.area.workcenter.asset.attribute
";

fn schema(text: &str) -> (Option<Schema>, Vec<String>) {
    let problems = Problems::new();
    let schema = Schema::parse("uns.yaml", text.as_bytes(), &Environment::empty(), &problems);
    (schema, problems.into_vec().iter().map(ToString::to_string).collect())
}

/// What the good schema makes of devices with these `uns` sections.
fn resolve(sections: &[&str], connector: &str) -> (Vec<Option<Uns>>, Vec<String>) {
    let mut text = String::from("devices:\n");
    for (i, uns) in sections.iter().enumerate() {
        text.push_str(&format!("  d{i}:\n    uuid: D-{i}\n    uns: {uns}\n    connector: {{type: x, {connector}}}\n"));
    }
    let files = DeviceFiles::parse([("d.yaml".into(), text.into_bytes())], Environment::empty());
    let problems = Problems::new();
    let devices = files.devices(&problems);
    assert_eq!(devices.len(), sections.len());
    let resolved = schema(SCHEMA).0.expect("a good schema").resolve_all(&devices);
    (resolved, problems.into_vec().iter().map(ToString::to_string).collect())
}

#[test]
fn levels_become_a_path() {
    for (uns, id) in [
        ("{area: building-a, workcenter: heat}", "OpenFactory.building-a.heat.D-0"),
        ("{area: building-b}", "OpenFactory.building-b.D-0"),
        ("{}", "OpenFactory.D-0"),
        ("{workcenter: heat, inc: OpenFactory, area: building-a, asset: oven}", "OpenFactory.building-a.heat.oven"),
    ] {
        let (resolved, problems) = resolve(&[uns], "");
        assert_eq!((resolved[0].as_ref().map(|uns| uns.id.as_str()), problems), (Some(id), vec![]), "{uns}");
    }
    let (resolved, _) = resolve(&["{area: building-a, workcenter: heat}"], "");
    let levels = [("inc", "OpenFactory"), ("area", "building-a"), ("workcenter", "heat"), ("asset", "D-0")];
    assert_eq!(resolved[0].as_ref().map(|uns| uns.levels.clone()), Some(levels.map(|(n, v)| (n.into(), v.into())).to_vec()));
}

#[test]
fn a_device_without_uns_has_no_place() {
    assert_eq!(resolve(&[""], ""), (vec![None], vec![]));
}

#[test]
fn each_mistake_of_a_device_has_its_place() {
    for (uns, expected) in [
        ("{workcenter: heat}", "d.yaml:4:11: devices.d0.uns.workcenter: is given, but `area` above it is not; give `area` too"),
        ("{area: building-c}", "d.yaml:4:11: devices.d0.uns.area: `building-c` is none of `building-a`, `building-b` (uns.yaml)"),
        ("{inc: Acme}", "d.yaml:4:11: devices.d0.uns.inc: is always `OpenFactory` (uns.yaml); remove it or write that"),
        ("{aera: building-a}", "d.yaml:4:11: devices.d0.uns.aera: unknown key `aera`; did you mean `area`?"),
        ("{line: one}", "d.yaml:4:11: devices.d0.uns.line: unknown key `line`; known here: inc, area, workcenter, asset"),
        ("{attribute: x}", "d.yaml:4:11: devices.d0.uns.attribute: stands for the data item and is not given; remove it"),
        ("{asset: a.b}", "d.yaml:4:11: devices.d0.uns.asset: `a.b` contains `.`, which separates the levels (uns.yaml); write it without"),
        ("{area: [building-a]}", "d.yaml:4:11: devices.d0.uns.area: expected a single value, found a list"),
    ] {
        assert_eq!(resolve(&[uns], ""), (vec![None], vec![expected.to_owned()]), "{uns}");
    }
}

#[test]
fn two_devices_at_one_place_are_a_problem() {
    let (resolved, problems) = resolve(&["{asset: oven}", "{asset: oven}"], "");
    assert!(resolved[0].is_some() && resolved[1].is_none());
    assert_eq!(
        problems,
        ["d.yaml:8:5: devices.d1.uns: `OpenFactory.oven` is the place of the device `d0` in d.yaml:2 too; give another `asset`"]
    );
}

#[test]
fn an_item_named_like_a_level_is_a_problem() {
    let (_, problems) = resolve(&["{area: building-a}"], "variables: {area: {}, workcenter: {}, temp: {}}");
    let expected = "d.yaml:5:38: devices.d0.connector.variables.area: \
                    `area` is a level of the UNS (uns.yaml), which is an item of the asset already; choose another name";
    assert_eq!(problems, [expected]);
}

#[test]
fn each_mistake_of_a_schema_has_its_place() {
    let structure = "namespace_structure: [area: ANY, asset: ANY, attribute: ANY]\n";
    for (text, expected) in [
        (String::new(), "uns.yaml:1:1: namespace_structure: `namespace_structure` is missing"),
        (format!("{structure}uns_template: attribute\n"), "uns.yaml:2:1: uns_template: `attribute` has no separator"),
        (format!("{structure}uns_template: area/asset\n"), "uns.yaml:2:1: uns_template: its last field must be `attribute`"),
        (format!("{structure}uns_template: area.attribute\n"), "uns.yaml:2:1: uns_template: the field before `attribute` must be `asset`"),
        (
            format!("{structure}uns_template: site.asset.attribute\n"),
            "uns.yaml:2:1: uns_template: `site` is no level of namespace_structure",
        ),
        (format!("{structure}uns_template: area.area.asset.attribute\n"), "uns.yaml:2:1: uns_template: `area` is out of order"),
        (format!("{structure}uns_template: area.asset.attribute\nsep: x\n"), "uns.yaml:3:1: sep: unknown key `sep`"),
        ("namespace_structure: {area: ANY}\nuns_template: a.b\n".into(), "uns.yaml:1:1: namespace_structure: expected a list"),
        (
            "namespace_structure: [area]\nuns_template: asset.attribute\n".into(),
            "uns.yaml:1:23: namespace_structure[0]: expected one level",
        ),
        (
            "namespace_structure:\n- area: a\n  site: b\nuns_template: asset.attribute\n".into(),
            "uns.yaml:2:3: namespace_structure[0]: expected one level such as `area: ANY`, found 2 keys",
        ),
        (SCHEMA.replace("line: ANY", "area: ANY"), "uns.yaml:4:5: namespace_structure[2].area: the level `area` is there twice"),
        (SCHEMA.replace("line: ANY", "gap: ANY"), "uns.yaml:4:5: namespace_structure[2].gap: the level's name is an event"),
        (SCHEMA.replace("line: ANY", "line:"), "uns.yaml:4:5: namespace_structure[2].line: has no value"),
        (SCHEMA.replace("line: ANY", "line: []"), "uns.yaml:4:5: namespace_structure[2].line: the list of choices is empty"),
        (SCHEMA.replace("- inc: OpenFactory", "- inc: Open.Factory"), "uns.yaml:1:1: namespace_structure: `Open.Factory` of the level"),
        (SCHEMA.replace("asset: ANY", "asset: A"), "uns.yaml:1:1: namespace_structure: `asset` cannot be a constant"),
    ] {
        let (schema, problems) = schema(&text);
        assert!(schema.is_none() && problems.iter().any(|p| p.starts_with(expected)), "{text}: expected {expected}, seen {problems:#?}");
    }
}
