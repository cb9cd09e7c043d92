//! `openfactory-edge log` on the files of an edge that runs, of one that was stopped, and on damaged ones; and what Prometheus sees of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value as Json;
use system_tests::edge::{Edge, Settings};
use system_tests::wait::{self, Look};
use system_tests::{http, ports};

/// An edge without Kafka, and four devices that nobody answers for: their facts are its events.
struct Bench {
    edge: Edge,
    folder: tempfile::TempDir,
    port: u16,
}

impl Bench {
    fn start() -> anyhow::Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, ports::free()?);
        let more = format!("status_listen = \"127.0.0.1:{port}\"\n");
        let edge = Edge::new(folder.path(), &Settings { id: "edge-1".into(), kafka: None, topic: String::new(), more })?;
        let mut devices = String::from("devices:\n");
        for n in 1..=4 {
            let (nobody, connector) = (ports::free()?, "connector:\n      type: modbus");
            devices += &format!(
                "  press-{n}:\n    uuid: PRESS-{n}\n    {connector}\n      server: {{host: 127.0.0.1, port: {nobody}}}\n      variables: {{temp: {{holding_register: 0, type: uint16}}}}\n"
            );
        }
        edge.device_file("presses", &devices)?;
        let mut bench = Self { edge, folder, port };
        bench.run()?;
        Ok(bench)
    }

    /// Starts the edge and waits until each device's facts are durable.
    fn run(&mut self) -> anyhow::Result<()> {
        self.edge.start()?;
        self.edge.wait_status("the edge has events of all devices", Duration::from_secs(30), |status| {
            status["events"]["durable"].as_u64() >= Some(10) && status["events"]["durable"] == status["events"]["accepted"]
        })?;
        Ok(())
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("edge-1/state/log")
    }

    /// Runs `openfactory-edge log` with these words; what it printed on stdout, with its exit code as expected.
    #[track_caller]
    fn log(&self, words: &[&str], expected: i32) -> anyhow::Result<String> {
        let (code, out, err) = self.edge.command(&[&["log"], words].concat())?;
        assert_eq!(code, Some(expected), "log {words:?} printed {out}{err}");
        Ok(out + &err)
    }

    #[track_caller]
    fn json(&self, words: &[&str], expected: i32) -> anyhow::Result<Json> {
        let out = self.log(&[words, &["--json"]].concat(), expected)?;
        serde_json::from_str(&out).with_context(|| format!("log {words:?} printed no JSON: {out}"))
    }

    /// The events of an export, read back.
    fn export(&self, words: &[&str]) -> anyhow::Result<Vec<Json>> {
        let file = self.folder.path().join("export.jsonl");
        self.log(&[&["export", "--output", &file.to_string_lossy()], words].concat(), 0)?;
        fs::read_to_string(file)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

/// Changes a byte of the first block in the only segment.
fn harm(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join("00000000000000000001.seg");
    let mut bytes = fs::read(&path)?;
    let is_block = |at: &usize| bytes[*at..].starts_with(&[0x8f, b'O', b'F', b'L']) && bytes[at + 8] == 1;
    let block = (0..bytes.len() - 96).step_by(16).find(is_block).context("there is no block")?;
    bytes[block + 100] ^= 1;
    Ok(fs::write(path, bytes)?)
}

#[test]
fn the_log_of_a_running_edge_is_shown_checked_and_copied_out() -> anyhow::Result<()> {
    let mut bench = Bench::start()?;
    let status = bench.edge.status()?;
    let seen = bench.json(&["inspect"], 0)?;
    assert_eq!((&seen["epoch"], seen["segments"][0]["first"].as_u64()), (&status["log"]["epoch"], Some(1)), "{seen}");
    let checked = bench.json(&["verify"], 0)?;
    assert_eq!((checked["intact"].as_bool(), checked["closed_in_order"].as_bool()), (Some(true), Some(false)), "{checked}");
    let all = bench.export(&[])?;
    let sequences: Vec<_> = all.iter().filter_map(|event| event["seq"].as_u64()).collect();
    assert_eq!(sequences, (1..=all.len() as u64).collect::<Vec<_>>(), "every event once, in order");
    assert!(all.len() as u64 >= status["log"]["durable"].as_u64().unwrap_or(u64::MAX), "{} events of {status}", all.len());
    let some = bench.export(&["--asset", "PRESS-2", "--asset", "PRESS-3", "--from", "-1h"])?;
    let assets: BTreeSet<_> = some.iter().filter_map(|event| event["asset"].as_str()).collect();
    assert_eq!(assets, BTreeSet::from(["PRESS-2", "PRESS-3"]));
    assert!(some.iter().all(|event| event["event"]["ID"].is_string() && event["epoch"] == status["log"]["epoch"]), "{some:?}");
    assert_eq!(bench.export(&["--to", "2020-01-01"])?, [] as [Json; 0]);
    let table = bench.folder.path().join("day.parquet");
    bench.log(&["export", "--format", "parquet", "--output", &table.to_string_lossy()], 0)?;
    let bytes = fs::read(&table)?;
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "no Parquet file of {} bytes", bytes.len());
    let left: Vec<_> = fs::read_dir(bench.folder.path())?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    assert!(!left.iter().any(|name| name.ends_with(".tmp")), "{left:?}");
    bench.edge.stop()?;
    assert_eq!(bench.json(&["verify"], 0)?["closed_in_order"], true);
    Ok(())
}

#[test]
fn damage_is_found_repaired_and_told_by_a_gap_event() -> anyhow::Result<()> {
    let mut bench = Bench::start()?;
    bench.edge.stop()?;
    harm(&bench.dir())?;
    let said = bench.log(&["verify"], 1)?;
    assert!(said.contains("events 1 to ") && said.contains("DAMAGED in 1 place") && said.contains("log repair"), "{said}");
    let checked = bench.json(&["verify"], 1)?;
    let last = checked["damage"][0]["lost"]["last"].as_u64().with_context(|| format!("no damage in {checked}"))?;
    let said = bench.log(&["export", "--asset", "PRESS-4"], 1)?;
    assert!(said.contains(&format!("events 1 to {last} are lost")), "an export says what is missing in it: {said}");
    assert!(bench.log(&["repair", "--dry-run"], 0)?.contains("nothing was changed"));
    assert_eq!(bench.json(&["verify"], 1)?, checked, "a dry run changes nothing");

    let said = bench.log(&["repair"], 0)?;
    assert!(said.contains("quarantined ") && said.contains(&format!("of the events 1 to {last} are lost")), "{said}");
    let known = bench.json(&["verify"], 0)?;
    assert_eq!((&known["damage"][0]["known"], known["closed_in_order"].as_bool()), (&Json::Bool(true), Some(true)), "{known}");
    assert!(bench.log(&["repair"], 0)?.contains("nothing to repair"));

    bench.edge.start()?;
    let is_gap = |event: &&Json| event["event"]["ID"] == "gap" && event["event"]["VALUE"].to_string().contains("damaged");
    let gaps = wait::until("gap events tell the damage", Duration::from_secs(30), || {
        bench.edge.process()?.expect_alive()?;
        let gaps: Vec<Json> = bench.export(&[])?.iter().filter(is_gap).cloned().collect();
        Ok(if gaps.is_empty() { Look::Waiting("no gap event".into()) } else { Look::Done(gaps) })
    })?;
    let range = format!("[1,{last}]");
    assert!(gaps.iter().all(|gap| gap["event"]["VALUE"].as_str().is_some_and(|value| value.contains(&range))), "{range} in {gaps:?}");
    bench.edge.stop()
}

#[test]
fn a_running_edge_keeps_its_log_from_being_repaired() -> anyhow::Result<()> {
    let mut bench = Bench::start()?;
    harm(&bench.dir())?;
    let said = bench.log(&["repair"], 1)?;
    assert!(said.contains("in use by another process") && said.contains("systemctl stop"), "{said}");
    bench.edge.stop()
}

#[test]
fn what_cannot_be_done_is_told_with_its_remedy() -> anyhow::Result<()> {
    let bench = Bench::start()?;
    let absent = bench.folder.path().join("absent");
    let absent = absent.to_string_lossy();
    for (words, code, parts) in [
        (&["inspect", "--dir", &absent][..], 1, &["there is no log in ", "*.seg"][..]),
        (&["export", "--from", "yesterday"], 2, &["2026-01-27T15:37:00Z", "-2h"]),
        (&["export", "--format", "parquet"], 2, &["--output"]),
        (&["export", "--output", "/proc/none/x"], 1, &["/proc/none/x.tmp cannot be made"]),
    ] {
        let said = bench.log(words, code)?;
        assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said}");
    }
    fs::write(bench.edge.config(), "[edge]\nstate_dir = 5\n")?;
    let said = bench.log(&["verify"], 78)?;
    assert!(said.contains("edge.state_dir") && said.contains("--dir"), "{said}");
    Ok(())
}

#[test]
fn prometheus_sees_what_the_status_says() -> anyhow::Result<()> {
    let mut bench = Bench::start()?;
    let (code, page) = http::get(bench.port, "/metrics")?;
    assert_eq!(code, 200, "{page}");
    let value = |name: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok()).with_context(|| format!("{name} is not in\n{page}"))
    };
    let (code, status) = http::get(bench.port, "/status")?;
    let status: Json = serde_json::from_str(&status).with_context(|| format!("{code}: {status}"))?;
    for (name, json) in [
        ("openfactory_edge_accepted_total", &status["events"]["accepted"]),
        ("openfactory_edge_durable_total", &status["events"]["durable"]),
        ("openfactory_edge_lost_total{reason=\"dropped_oldest\"}", &status["log"]["dropped"]),
        ("openfactory_edge_log_max_bytes", &status["log"]["max_bytes"]),
    ] {
        assert_eq!(Some(value(name)?), json.as_f64(), "{name}");
    }
    assert_eq!(value("openfactory_edge_log_writable")?, 1.0);
    assert!(value("openfactory_edge_log_free_bytes")? > 0.0);
    assert_eq!(value("openfactory_edge_device_connected{device=\"press-1\",asset=\"PRESS-1\",protocol=\"MODBUS\"}")?, 0.0);
    let (code, health) = http::get(bench.port, "/healthz")?;
    assert!(code == 200 && health.contains("0/4 devices connected"), "{code} {health}");
    bench.edge.stop()
}
