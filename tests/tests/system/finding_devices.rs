//! From a device that nobody described to a device file that works, with the programs that an engineer types.

use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;
use system_tests::wait::{self, Look};

#[test]
fn a_server_is_browsed_into_a_device_file_that_the_online_check_accepts() -> anyhow::Result<()> {
    let plant = Plant::new("browse", Broker::shared()?, "")?;
    let devices = Devices::start(Plan::new(Make::Asyncua, 1, 12), plant.folder())?;
    let server = format!("opc.tcp://127.0.0.1:{}", devices.ports()[0]);
    let (code, tree, error) = plant.edge.command(&["browse", &server])?;
    assert!(code == Some(0) && tree.contains("node id") && tree.contains("ns=2;"), "{tree}{error}");

    let file = plant.edge.config().with_file_name("devices").join("found.yaml");
    let write = ["browse", &server, "--asset", "FOUND-1", "--write", &file.to_string_lossy()];
    let (code, said, error) = plant.edge.command(&write)?;
    assert!(code == Some(0) && said.contains("check-config --online"), "{said}{error}");
    let (code, _, error) = plant.edge.command(&write)?;
    assert!(code == Some(1) && error.contains("is there already"), "a file was written over: {error}");
    let (code, said, error) = plant.edge.command(&["check-config", "--online"])?;
    assert!(code == Some(0) && said.contains("has 4 partitions"), "{said}{error}");

    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replacen("ns=2;", "ns=7;", 1))?;
    let (code, said, error) = plant.edge.command(&["check-config", "--online"])?;
    assert!(code == Some(1) && said.contains("AMISS") && said.contains("BadNodeIdUnknown"), "{said}{error}");
    std::fs::write(&file, text.replace(&server, "opc.tcp://127.0.0.1:1"))?;
    let (code, said, error) = plant.edge.command(&["check-config", "--online"])?;
    assert!(code == Some(1) && said.contains("found-1   AMISS"), "{said}{error}");
    Ok(())
}

#[test]
fn a_modbus_device_is_scanned() -> anyhow::Result<()> {
    let mut plant = Plant::new("scan", Broker::shared()?, "")?;
    let devices = Devices::start(Plan::new(Make::PymodbusTcp, 1, 8), plant.folder())?;
    let endpoint = format!("127.0.0.1:{}", devices.ports()[0]);
    let scan = ["scan", "modbus", &endpoint, "--units", "1-3", "--addresses", "0-199", "--json"];
    let (code, said, error) = plant.edge.command(&scan)?;
    assert_eq!(code, Some(0), "{said}{error}");
    let found: serde_json::Value = serde_json::from_str(&said)?;
    let ranges = found["units"][0]["ranges"].as_array().map_or(0, Vec::len);
    assert!(ranges > 0, "no range was found: {said}");
    let file = plant.edge.config().with_file_name("devices").join("found.yaml");
    let write = ["--asset", "FOUND-1", "--write", &file.to_string_lossy()];
    let scan = [&["scan", "modbus", &endpoint, "--units", "1", "--addresses", "0-199"][..], &write].concat();
    let (code, said, error) = plant.edge.command(&scan)?;
    assert!(code == Some(0) && said.contains("check-config --online"), "{said}{error}");
    let (code, said, error) = plant.edge.command(&["check-config", "--online"])?;
    assert!(code == Some(0) && !said.contains("AMISS"), "{said}{error}");

    // A register that is not there shows in the status of a device that is connected.
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, format!("{text}        lost: {{holding_register: 65535, type: uint16}}\n"))?;
    plant.start_edge()?;
    wait::until("the status tells of the register that is not there", Duration::from_secs(30), || {
        let (_, said, error) = plant.edge.command(&["status"])?;
        Ok(if said.contains("no value of lost: ") { Look::Done(()) } else { Look::Waiting(said + &error) })
    })?;
    let (code, said, error) = plant.edge.command(&["scan", "modbus", "127.0.0.1:1", "--units", "1"])?;
    assert!(code == Some(1) && error.contains("cannot be opened"), "{said}{error}");
    Ok(())
}

#[test]
fn the_certificate_is_shown_and_renewed() -> anyhow::Result<()> {
    let plant = Plant::new("cert", Broker::shared()?, "")?;
    let own = || -> anyhow::Result<serde_json::Value> {
        let (code, said, error) = plant.edge.command(&["cert", "show", "--json"])?;
        assert_eq!(code, Some(0), "{said}{error}");
        Ok(serde_json::from_str::<serde_json::Value>(&said)?["own"].clone())
    };
    let before = own()?;
    let (code, said, error) = plant.edge.command(&["cert", "renew"])?;
    assert!(code == Some(0) && said.contains("import"), "{said}{error}");
    let after = own()?;
    assert!(before["sha1"] != after["sha1"] && before["file"] == after["file"], "{before} {after}");
    let (code, _, error) = plant.edge.command(&["cert", "trust", "0123abcd"])?;
    assert!(code == Some(1) && error.contains("cert show"), "{error}");
    Ok(())
}
