//! Bad input gives the error that its reader needs: file, line, key, and what to do; all problems at once, and exit code 78.

use std::path::Path;
use std::time::Duration;

use system_tests::{process, tools};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join("devices"))?;
        Ok(Self(folder))
    }

    fn file(&self, name: &str, text: &str) -> anyhow::Result<()> {
        Ok(std::fs::write(self.0.path().join(name), text)?)
    }

    fn check(&self, program: &str, config: &str) -> anyhow::Result<(Option<i32>, String)> {
        let config = self.0.path().join(config);
        let arguments = ["check-config", "--config", &config.to_string_lossy()];
        let (code, out, err) = process::run(&tools::built(program)?, &arguments, Duration::from_secs(20))?;
        Ok((code, format!("{out}{err}")))
    }
}

#[track_caller]
fn says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
}

const EDGE: &str = "[edge]\nid = \"edge-1\"\ndevices = \"devices\"\nstate_dir = \"state\"\nsocket = \"edge.sock\"\n";

#[test]
fn a_good_config_passes() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    folder.file("edge.toml", EDGE)?;
    folder.file("devices/a.yaml", "devices:\n  press:\n    uuid: PRESS-1\n    connector:\n      type: modbus\n      server: {host: 127.0.0.1}\n      variables: {temp: {holding_register: 0, type: uint16}}\n")?;
    let (code, said) = folder.check("openfactory-edge", "edge.toml")?;
    assert_eq!(code, Some(0), "{said}");
    Ok(())
}

#[test]
fn every_problem_of_edge_toml_and_all_device_files_is_told_with_its_place() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    folder.file("edge.toml", &format!("{EDGE}[log]\nlinger = \"2 min\"\nmax_size = \"9 MiB\"\n"))?;
    let bad = "\
devices:
  furnace-1:
    uuid: FURNACE-1
    connector:
      type: opcua
      server: {uri: \"opc.tcp://10.0.0.5:4840/\"}
      variables:
        both: {node_id: \"ns=2;i=1\", browse_path: \"0:Root/0:Objects\", tag: T}
        unknown: {node_id: \"ns=2;i=2\", tag: T, deadbnd: 3}
        secret: {node_id: \"${OPENFACTORY_NO_SUCH_VARIABLE}\", tag: T}
  furnace-2:
    uuid: FURNACE-1
    connector: {type: modbus, server: {host: 10.0.0.6}, variables: {speed: {holding_register: 4, type: uint16}}}
  furnace-3:
    uuid: FURNACE-3
    connector:
      type: morse
";
    folder.file("devices/bad.yaml", bad)?;
    let (code, said) = folder.check("openfactory-edge", "edge.toml")?;
    assert_eq!(code, Some(78), "{said}");
    says(&said, &["edge.toml:7:10: log.linger: ", "edge.toml:8:12: log.max_size: "]);
    says(&said, &["bad.yaml:8:", "node_id", "browse_path"]);
    says(&said, &["bad.yaml:9:", "deadbnd", "deadband"]);
    says(&said, &["bad.yaml:10:", "OPENFACTORY_NO_SUCH_VARIABLE"]);
    says(&said, &["bad.yaml:12:", "FURNACE-1"]);
    says(&said, &["bad.yaml:17:", "morse", "opcua", "modbus"]);
    Ok(())
}

#[test]
fn problems_of_edge_toml_and_cloud_toml_are_told_with_their_place() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    folder.file("edge.toml", &EDGE.replace("[edge]", "[edge]\nmemori = \"32 MiB\""))?;
    let (code, said) = folder.check("openfactory-edge", "edge.toml")?;
    assert_eq!(code, Some(78), "{said}");
    says(&said, &["edge.toml:2", "memori"]);

    folder.file("cloud.toml", "[kafka]\nbrokers = []\n")?;
    let (code, said) = folder.check("openfactory-cloud", "cloud.toml")?;
    assert_eq!(code, Some(78), "{said}");
    says(&said, &["cloud.toml", "kafka", "nats"]);
    Ok(())
}

#[test]
fn commands_that_ask_the_daemon_exit_with_78_if_the_config_does_not_say_where_it_is() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    folder.file("edge.toml", &EDGE.replace("[edge]", "[edge]\nsockets = 1"))?;
    let config = folder.0.path().join("edge.toml");
    for command in ["status", "tail"] {
        let arguments = [command, "--config", &config.to_string_lossy()];
        let (code, _, said) = process::run(&tools::built("openfactory-edge")?, &arguments, Duration::from_secs(20))?;
        assert_eq!(code, Some(78), "{said}");
        says(&said, &["edge.toml:2", "sockets"]);
    }
    Ok(())
}

#[test]
fn a_daemon_with_a_bad_config_exits_with_78_before_it_touches_anything() -> anyhow::Result<()> {
    let folder = Folder::new()?;
    folder.file("edge.toml", &EDGE.replace("edge-1", "edge 1"))?;
    let config = folder.0.path().join("edge.toml");
    let arguments = ["run", "--config", &config.to_string_lossy()];
    let (code, _, said) = process::run(&tools::built("openfactory-edge")?, &arguments, Duration::from_secs(20))?;
    assert_eq!(code, Some(78), "{said}");
    says(&said, &["edge.id", "edge 1"]);
    assert!(!Path::new(&folder.0.path().join("state")).exists(), "the state folder was made");
    Ok(())
}
