//! What a person asks a server before the edge works with it: what it has, and whether it has what a device file names.

mod support;

use gateway_opcua::{Address, Extent, browse, probe, propose};
use support::server::Server;
use support::{connector, python, shared};

#[tokio::test]
async fn what_is_browsed_is_proposed_as_a_device_file_that_the_server_fulfils() {
    let Some(python) = python() else { return };
    // As small controllers are: a few nodes in a request.
    let server = Server::start(&python, &["--counters", "3", "--many", "60", "--most-reads", "7"]).await;
    let uri = format!("server: {{uri: \"opc.tcp://127.0.0.1:{}/test\"}}\n", server.port);
    let state = tempfile::tempdir().expect("a folder");
    let shared = gateway_opcua::Shared::open(state.path()).expect("open");
    let extent = Extent { start: Address::browse_path("0:Root/0:Objects").expect("valid"), depth: 20, most: 10_000 };
    let mut heard = Vec::new();
    let browsed = browse(&connector(&uri), &shared, &extent, |nodes| heard.push(nodes)).await.expect("the server answers");
    assert!(!browsed.is_cut && heard.last() == Some(&browsed.nodes.len()), "{heard:?} of {}", browsed.nodes.len());
    let found = |path: &[&str]| browsed.nodes.iter().find(|node| node.path == path).unwrap_or_else(|| panic!("no {path:?}"));
    let temperature = found(&["2:Plant", "2:temperature"]);
    let variable = temperature.variable.as_ref().expect("a variable");
    assert_eq!((variable.data_type.as_str(), variable.value.as_deref(), variable.writable), ("Double", Some("20.0"), true));
    assert_eq!(temperature.node_id, "ns=2;s=temperature");
    for object in ["2:Machine", "2:Twin"] {
        assert_eq!(found(&["2:Plant", object, "2:Add"]).class, "Method");
    }
    let places: Vec<_> = browsed.nodes.iter().map(|node| &node.path).collect();
    assert!(places.is_sorted_by_key(|path| path.iter().map(|step| step.to_lowercase()).collect::<Vec<_>>()), "no tree: {places:?}");

    let proposed = propose(&browsed, "i=85");
    let config = connector(&format!("{}{}", uri, proposed.replace("\n      ", "\n").trim_start()));
    assert_eq!(config.variables.len(), 3 + 60 + 4, "{proposed}");
    let offered: Vec<_> = config.methods.iter().map(|root| root.name.as_str()).collect();
    assert_eq!(offered, ["Machine", "Twin"], "{proposed}");
    let findings = probe(&config, &shared, "plant").await.expect("the server answers");
    let wrong: Vec<_> = findings.iter().filter(|finding| finding.answer.is_err()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn what_the_server_does_not_have_is_told_with_what_may_be_meant() {
    let Some(python) = python() else { return };
    let server = Server::start(&python, &["--counters", "1"]).await;
    let config = connector(&format!(
        r#"server: {{uri: "opc.tcp://127.0.0.1:{}/test"}}
variables:
  there: {{node_id: "ns=2;s=temperature", tag: T, access_level: rw}}
  mistyped: {{node_id: "ns=2;s=temprature", tag: T}}
  burst: {{node_id: "ns=2;i=9", tag: T}}
  far: {{node_id: "ns=9;i=77", tag: T}}
  step: {{browse_path: "0:Root/0:Objects/2:Plant/2:modell", tag: T}}
  namespace: {{browse_path: "0:Root/0:Objects/3:Plant/2:model", tag: T}}
  object: {{node_id: "ns=2;s=Plant", tag: T}}
  protected: {{node_id: "i=2258", tag: T, access_level: rw}}
events:
  silent: {{node_id: "ns=2;s=temperature"}}
  alarms: {{node_id: "i=2253"}}
methods:
  none: {{node_id: "ns=2;s=temperature"}}
  machine: {{node_id: "ns=2;s=Machine"}}
"#,
        server.port
    ));
    let findings = probe(&config, &shared(), "plant").await.expect("the server answers");
    let answer = |item: &str| {
        let finding = findings.iter().find(|finding| finding.item == item).unwrap_or_else(|| panic!("nothing about {item}"));
        finding.answer.clone().unwrap_or_else(|why| format!("NOT: {why}"))
    };
    for (item, expected) in [
        ("there", "Double 20.0"),
        ("mistyped", "NOT: BadNodeIdUnknown (0x80340000); did you mean ns=2;s=temperature?"),
        ("burst", "NOT: BadNodeIdUnknown (0x80340000); did you mean ns=2;s=burst?"),
        ("far", "NOT: BadNodeIdUnknown (0x80340000); see what there is with `openfactory-edge browse`"),
        ("step", "NOT: BadNoMatch (0x806F0000): 0:Root/0:Objects/2:Plant has no 2:modell; did you mean 2:model?"),
        ("namespace", "NOT: BadNoMatch (0x806F0000): 0:Root/0:Objects has no 3:Plant; did you mean 2:Plant?"),
        ("object", "NOT: the node is an object, no variable: it has no value"),
        ("protected", "NOT: our login may not write it: give it the right on the server, or set access_level: ro"),
        ("alarms", "tells events"),
        ("none", "NOT: there is no method below this node"),
        ("machine", "methods: Add"),
    ] {
        assert_eq!(answer(item), expected, "{item}");
    }
    assert!(answer("silent").starts_with("NOT: the node tells no events"), "{}", answer("silent"));

    let nobody = connector("server: {uri: \"opc.tcp://127.0.0.1:1/test\"}\n");
    let refused = probe(&nobody, &shared(), "plant").await.expect_err("nobody listens there");
    assert!(refused.contains("refuse"), "{refused}");
}
