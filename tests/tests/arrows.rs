//! Which crate may use which is decided once, and kept: ARCHITECTURE.md shows the arrows that this test allows.

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Crate → the crates of this workspace that it may use.
const ARROWS: [(&str, &[&str]); 12] = [
    ("asset-stream", &[]),
    ("edge-buffer", &[]),
    ("service", &[]),
    ("gateway", &["asset-stream"]),
    ("gateway-opcua", &["gateway", "asset-stream"]),
    ("gateway-modbus", &["gateway", "asset-stream"]),
    ("edge-mirror", &["edge-buffer", "asset-stream", "service"]),
    ("cloud-forwarder", &["asset-stream", "service"]),
    ("openfactory-edge", &["asset-stream", "edge-buffer", "edge-mirror", "gateway", "gateway-opcua", "gateway-modbus", "service"]),
    ("openfactory-cloud", &["asset-stream", "cloud-forwarder", "service"]),
    ("system-tests", &["asset-stream"]),
    ("opcua-simulator", &[]),
];

/// Libraries that one crate alone may name, besides tests.
const FENCED: [(&str, &[&str]); 4] = [
    ("async-opcua", &["gateway-opcua", "opcua-simulator"]),
    ("tokio-modbus", &["gateway-modbus"]),
    ("rdkafka", &["service", "edge-mirror", "cloud-forwarder", "system-tests"]),
    ("async-nats", &["cloud-forwarder", "system-tests"]),
];

#[test]
fn no_crate_uses_another_than_the_arrows_allow() {
    let metadata = MetadataCommand::new()
        .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata");
    let ours: Vec<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some(allowed) = allowed.get(name) else {
            wrong.push(format!("{name} is a new crate: decide what it may use, in ARROWS and in ARCHITECTURE.md"));
            continue;
        };
        for dependency in &package.dependencies {
            let used = dependency.name.as_str();
            if ours.contains(&used) && !allowed.contains(&used) {
                wrong.push(format!("{name} uses {used}"));
            }
            let fence = FENCED.iter().find(|(library, _)| *library == used);
            if let Some((_, inside)) = fence
                && dependency.kind == DependencyKind::Normal
                && !inside.contains(&name)
            {
                wrong.push(format!("{name} uses {used}, which is for {inside:?} alone"));
            }
        }
    }
    for name in allowed.keys().filter(|name| !ours.contains(name)) {
        wrong.push(format!("ARROWS names {name}, which does not exist"));
    }
    assert!(wrong.is_empty(), "arrows that are not allowed:\n{}", wrong.join("\n"));
}
