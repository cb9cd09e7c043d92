//! The demo does what the README says, and leaves nothing behind, however it ends.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use system_tests::process::Process;
use system_tests::{tools, wait};

/// Processes that inherited the mark in their environment.
fn marked(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let environment = read("environ");
        if environment.split(|byte| *byte == 0).any(|line| line == format!("OPENFACTORY_TEST_MARK={mark}").as_bytes()) {
            found.push(String::from_utf8_lossy(&read("cmdline")).replace('\0', " "));
        }
    }
    found
}

fn start(name: &str, folder: &Path, arguments: &[&str]) -> anyhow::Result<(Process, String)> {
    let mark = format!("{name}-{}", std::process::id());
    let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    // Temporary folders of the demo go into ours, so that we see whether it removes them.
    let environment = [("OPENFACTORY_TEST_MARK", mark.clone()), ("TMPDIR", folder.to_string_lossy().into_owned())];
    let process = Process::start(name, &tools::built("demo")?, &arguments, &environment, &folder.with_extension("log"))?;
    Ok((process, mark))
}

fn nothing_is_left(mark: &str) -> anyhow::Result<()> {
    let mut left = Vec::new();
    wait::until_true("all processes of the demo are gone", Duration::from_secs(10), || {
        left = marked(mark);
        left.is_empty()
    })
    .map_err(|error| anyhow::anyhow!("{error}: {left:#?}"))
}

#[test]
fn the_demo_ends_with_a_clean_line_and_leaves_nothing_behind() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut demo, mark) = start("demo-seconds", folder.path(), &["--seconds", "5"])?;
    let status = demo.wait_ended(Duration::from_secs(240))?;
    let log = std::fs::read_to_string(demo.log())?;
    anyhow::ensure!(status.success(), "the demo ended with {status}:\n{log}");
    let line = log.lines().last().unwrap_or_default();
    anyhow::ensure!(line.starts_with("observed=") && line.contains(" missing=0 duplicated=0 reordered=0"), "the last line is {line:?}");
    anyhow::ensure!(line.ends_with(" executed_twice=0") && !line.contains(" commands=0 "), "the rule gave no command: {line:?}");
    nothing_is_left(&mark)?;
    let left: Vec<_> = std::fs::read_dir(folder.path())?.flatten().map(|entry| entry.path()).collect();
    anyhow::ensure!(left.is_empty(), "files are left: {left:?}");
    Ok(())
}

#[test]
fn ctrl_c_ends_the_demo_in_order_and_kill_leaves_no_process() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut demo, mark) = start("demo-ctrl-c", folder.path(), &[])?;
    demo.wait_for_log("running", Duration::from_secs(240))?;
    demo.signal(Signal::INT)?;
    let status = demo.wait_ended(Duration::from_secs(120))?;
    anyhow::ensure!(status.success(), "the demo ended with {status}:\n{}", demo.log_tail());
    nothing_is_left(&mark)?;

    let (mut demo, mark) = start("demo-killed", folder.path(), &[])?;
    demo.wait_for_log("starting openfactory-edge", Duration::from_secs(240))?;
    demo.kill()?;
    nothing_is_left(&mark)
}
