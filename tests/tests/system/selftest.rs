//! `openfactory-edge selftest`, as a person runs it.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use system_tests::mounts::{self, Mount};
use system_tests::process::{self, Process};
use system_tests::{tools, wait};

fn selftest(dir: &Path, words: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
    let dir = dir.to_string_lossy();
    let words = [&["selftest", "--dir", &dir], words].concat();
    let (code, out, err) = process::run(&tools::built("openfactory-edge")?, &words, Duration::from_secs(120))?;
    Ok((code, format!("{out}{err}")))
}

fn files(dir: &Path) -> anyhow::Result<Vec<String>> {
    std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[test]
fn a_disk_is_measured_read_back_and_left_as_it_was() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("mine"), "untouched")?;
    let (code, said) = selftest(dir.path(), &["--json", "--seconds", "1", "--size", "16 MiB"])?;
    // What lies under the tests' temporary folder is not for this test to know: only what is true of every disk.
    let json: serde_json::Value = serde_json::Deserializer::from_str(&said).into_iter().next().expect("JSON")?;
    let problems =
        json["findings"].as_array().map_or(0, |findings| findings.iter().filter(|finding| finding["level"] == "problem").count());
    assert_eq!(code, Some(if problems == 0 { 0 } else { 1 }), "{said}");
    assert_eq!(json["log"]["wrong"], serde_json::Value::Null, "{said}");
    assert!(json["log"]["events"].as_u64() > Some(100) && json["commits"][0]["count"].as_u64() >= Some(20), "{said}");
    assert_eq!((files(dir.path())?, std::fs::read_to_string(dir.path().join("mine"))?.as_str()), (vec!["mine".to_owned()], "untouched"));
    Ok(())
}

#[test]
fn memory_is_no_place_for_the_log() -> anyhow::Result<()> {
    if !mounts::are_allowed() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let _disk = Mount::tmpfs(dir.path(), 40 << 20)?;
    let (code, said) = selftest(dir.path(), &["--seconds", "1", "--size", "16 MiB"])?;
    assert!(code == Some(1) && said.contains("tmpfs is memory"), "{code:?}: {said}");
    let (code, said) = selftest(dir.path(), &["--seconds", "1"])?;
    assert!(code == Some(1) && said.contains("too little room") && said.contains("--size"), "{code:?}: {said}");
    Ok(())
}

#[test]
fn what_was_said_to_be_durable_is_looked_for_after_the_cut() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let out = tempfile::NamedTempFile::new()?;
    let words = ["selftest", "--dir", &dir.path().to_string_lossy(), "--size", "16 MiB", "--until-power-cut"].map(str::to_owned);
    let mut writer = Process::start("selftest", &tools::built("openfactory-edge")?, &words, &[], out.path())?;
    let said = || -> Option<u64> {
        std::fs::read_to_string(out.path()).ok()?.lines().rev().find_map(|line| line.strip_prefix("durable ")?.parse().ok())
    };
    wait::until_true("numbers are said", Duration::from_secs(60), || said() > Some(0))?;
    // As near to a power cut as a test comes; the rest is the disk's.
    writer.signal(Signal::KILL)?;
    writer.wait_ended(Duration::from_secs(10))?;
    let promised = said().expect("a number");

    let (code, answer) = selftest(dir.path(), &["--until-power-cut"])?;
    assert!(code == Some(1) && answer.contains("--after-power-cut"), "a second test would overwrite the first: {answer}");
    let beyond = (promised + 1_000_000_000).to_string();
    let (code, answer) = selftest(dir.path(), &["--size", "16 MiB", "--after-power-cut", &beyond])?;
    assert!(code == Some(1) && answer.contains("lied"), "{answer}");
    let (code, answer) = selftest(dir.path(), &["--size", "16 MiB", "--after-power-cut", &promised.to_string()])?;
    assert!(code == Some(0) && answer.contains("is there"), "{answer}");
    assert_eq!(files(dir.path())?, Vec::<String>::new(), "the test's folder goes when it has passed");
    Ok(())
}
