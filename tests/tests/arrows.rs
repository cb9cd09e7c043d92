//! Which crate may use which is decided once, and kept: ARCHITECTURE.md shows the arrows that this test allows.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value as Json;

/// Crate → the crates of this workspace that it may use.
const ARROWS: [(&str, &[&str]); 14] = [
    ("asset-stream", &[]),
    ("edge-buffer", &[]),
    ("service", &[]),
    ("gateway", &["asset-stream"]),
    ("gateway-opcua", &["gateway", "asset-stream"]),
    ("gateway-modbus", &["gateway", "asset-stream"]),
    ("edge-mirror", &["edge-buffer", "asset-stream", "service"]),
    ("cloud-commands", &["asset-stream", "service"]),
    ("cloud-forwarder", &["asset-stream", "service"]),
    ("cloud-verify", &["asset-stream", "service"]),
    ("openfactory-edge", &["asset-stream", "edge-buffer", "edge-mirror", "gateway", "gateway-opcua", "gateway-modbus", "service"]),
    ("openfactory-cloud", &["asset-stream", "cloud-commands", "cloud-forwarder", "cloud-verify", "service"]),
    // Benchmarks fill a log within minutes, run hundreds of mirrors, and have a gateway publish straight to NATS for comparison.
    ("system-tests", &["asset-stream", "edge-buffer", "edge-mirror", "gateway", "gateway-opcua", "service"]),
    ("opcua-simulator", &[]),
];

/// Libraries that one crate alone may name, besides tests.
const FENCED: [(&str, &[&str]); 4] = [
    ("async-opcua", &["gateway-opcua", "opcua-simulator"]),
    ("tokio-modbus", &["gateway-modbus"]),
    ("rdkafka", &["service", "edge-mirror", "cloud-commands", "cloud-forwarder", "cloud-verify", "system-tests"]),
    ("async-nats", &["cloud-commands", "cloud-forwarder", "system-tests"]),
];

/// What cargo knows of the workspace's packages.
fn packages() -> Vec<Json> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--manifest-path", manifest];
    let output = Command::new(cargo).args(arguments).output().expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Json = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

fn text<'j>(json: &'j Json, field: &str) -> &'j str {
    json[field].as_str().unwrap_or_default()
}

#[test]
fn no_crate_uses_another_than_the_arrows_allow() {
    let packages = packages();
    let ours: Vec<&str> = packages.iter().map(|package| text(package, "name")).collect();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut wrong = Vec::new();
    for package in &packages {
        let name = text(package, "name");
        let Some(allowed) = allowed.get(name) else {
            wrong.push(format!("{name} is a new crate: decide what it may use, in ARROWS and in ARCHITECTURE.md"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = text(dependency, "name");
            if ours.contains(&used) && !allowed.contains(&used) {
                wrong.push(format!("{name} uses {used}"));
            }
            let fence = FENCED.iter().find(|(library, _)| *library == used);
            // A kind of null is a dependency of the crate itself, not of its tests.
            if let Some((_, inside)) = fence
                && dependency["kind"].is_null()
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
