//! The config is read again while the edge works: all of it takes effect, or nothing, and what did not change is not touched.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value as Json;
use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;

const CONNECTED: Duration = Duration::from_secs(60);

/// Name, state and since when: what a device that was touched would have another one of.
fn standing(status: &Json, assets: &[String]) -> Vec<String> {
    let devices = status["devices"].as_array().map_or(&[][..], Vec::as_slice);
    let of_them = devices.iter().filter(|device| assets.iter().any(|asset| device["asset"] == asset.as_str()));
    of_them.map(|device| format!("{} {} {}", device["asset"], device["state"], device["since"])).collect()
}

#[track_caller]
fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
}

fn edge_toml(plant: &Plant, change: impl Fn(&str) -> String) -> anyhow::Result<()> {
    let file = plant.edge.config();
    Ok(std::fs::write(file, change(&std::fs::read_to_string(file)?))?)
}

#[test]
fn what_is_added_or_changed_touches_nothing_else_and_loses_nothing() -> anyhow::Result<()> {
    let mut plant = Plant::new("reload", Broker::shared()?, "")?;
    let first = [Plan { rate: 200, ..Plan::new(Make::Asyncua, 1, 20) }, Plan::new(Make::PymodbusTcp, 1, 10)];
    for plan in first {
        let devices = Devices::start(plan, plant.folder())?;
        plant.add(devices)?;
    }
    plant.start()?;
    plant.run_for(Duration::from_secs(2))?;
    let (before, first) = (plant.edge.status()?, plant.assets());

    // A device more.
    let third = Devices::start(Plan { first_device: 2, rate: 200, ..Plan::new(Make::Asyncua, 1, 20) }, plant.folder())?;
    let file = third.device_file(|port| port)?;
    plant.add_with_file(third, &file)?;
    let (code, said, error) = plant.edge.command(&["reload"])?;
    assert!(code == Some(0) && said.starts_with("devices: added ") && said.ends_with("; 2 untouched\n"), "{said}{error}");
    plant.edge.wait_connected(&plant.assets(), CONNECTED)?;
    plant.wait_first_values(CONNECTED)?;
    plant.go()?;

    // Its config changes: it alone is connected anew.
    let changed = file.replace("publishing_interval: 100", "publishing_interval: 150");
    let written = std::fs::read_dir(plant.edge.config().with_file_name("devices"))?.flatten().map(|entry| entry.path());
    let own = written.into_iter().find(|path| std::fs::read_to_string(path).is_ok_and(|text| text == file)).expect("its device file");
    std::fs::write(own, changed)?;
    let (code, said, error) = plant.edge.command(&["reload"])?;
    assert!(code == Some(0) && said.starts_with("devices: changed ") && said.ends_with("; 2 untouched\n"), "{said}{error}");
    plant.edge.wait_connected(&plant.assets(), CONNECTED)?;

    // The mirror's config changes, by the signal that systemd sends where a unit says so.
    edge_toml(&plant, |text| text.replace("[mirror]", "[mirror]\nwindow = 20000"))?;
    plant.edge.process()?.signal(Signal::HUP)?;
    plant.edge.wait_status("the reload is done", CONNECTED, |status| status["reload"]["told"][0] == "Kafka: connecting anew")?;
    plant.run_for(Duration::from_secs(2))?;

    assert_eq!(standing(&before, &first), standing(&plant.edge.status()?, &first), "a device that did not change was touched");
    let (code, said, _) = plant.edge.command(&["reload"])?;
    assert_eq!((code, said.trim()), (Some(0), "nothing has changed"));
    plant.expect_clean(Duration::from_secs(60))?;
    plant.stop()
}

#[test]
fn a_bad_config_changes_nothing_and_is_told_everywhere() -> anyhow::Result<()> {
    let mut plant = Plant::new("refused", Broker::shared()?, "")?;
    let devices = Devices::start(Plan::new(Make::PymodbusTcp, 2, 5), plant.folder())?;
    plant.add(devices)?;
    plant.start()?;
    let before = standing(&plant.edge.status()?, &plant.assets());

    // Something good and something bad at once: neither takes effect.
    plant.edge.device_file("zz", "devices:\n  new:\n    uuid: NEW-1\n    connector: {type: morse}\n")?;
    edge_toml(&plant, |text| text.replace("[mirror]", "[mirror]\nwindow = 20000"))?;
    let (code, _, error) = plant.edge.command(&["reload"])?;
    assert_eq!(code, Some(78), "{error}");
    says(&error, &["zz.yaml:4:", "morse", "nothing was changed"]);
    let status = plant.edge.status()?;
    assert_eq!((&status["reload"]["outcome"], standing(&status, &plant.assets())), (&Json::from("refused"), before.clone()));
    assert_eq!(status["mirror"]["state"], "mirroring");
    says(&plant.edge.command(&["status"])?.1, &["REFUSED", "zz.yaml:4:"]);
    says(&plant.edge.log_tail(), &["the new config is refused", "zz.yaml:4:"]);

    // What a running edge cannot change is named, and changes nothing either.
    plant.edge.device_file("zz", "devices: {}\n")?;
    edge_toml(&plant, |text| text.replace("[kafka]", "memory = \"8 MiB\"\n[log]\nmax_size = \"1 GiB\"\n[kafka]"))?;
    let (code, _, error) = plant.edge.command(&["reload"])?;
    assert_eq!(code, Some(78), "{error}");
    says(&error, &["edge.memory", "edge.toml:6:", "log: ", "systemctl restart openfactory-edge"]);

    // A pipe in place of a file: nobody waits for what it may say.
    let pipe = plant.edge.config().with_file_name("devices").join("pipe.yaml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status()?.success());
    let (code, _, error) = plant.edge.command(&["reload"])?;
    assert_eq!(code, Some(78), "{error}");
    says(&error, &["pipe.yaml", "no regular file"]);
    std::fs::remove_file(&pipe)?;

    // Mended: the good part takes effect.
    edge_toml(&plant, |text| text.replace("memory = \"8 MiB\"\n[log]\nmax_size = \"1 GiB\"\n", ""))?;
    let (code, said, error) = plant.edge.command(&["reload"])?;
    assert_eq!((code, said.trim()), (Some(0), "Kafka: connecting anew"), "{error}");
    assert_eq!(standing(&plant.edge.status()?, &plant.assets()), before);
    plant.expect_clean(Duration::from_secs(60))?;
    plant.stop()
}
