//! `openfactory-cloud audit` against histories that this test writes: it is silent about a sound one, and names each harm of another.

use anyhow::{Context as _, ensure};
use asset_stream::command::status::{Link, State, Status};
use asset_stream::{Position, Timestamp, command};
use rdkafka::message::{Header, OwnedHeaders};
use serde_json::{Value as Json, json};

use super::setup::{Setup, event};

/// When the histories took place, in Unix ms: long before now.
const BEGIN: i64 = 1_771_675_200_000;

/// An edge that tells what becomes of commands, each status chained to the one before.
struct Edge<'s> {
    setup: &'s Setup,
    n: u64,
    previous: String,
}

impl Edge<'_> {
    /// What the next status is; written, unless it is to be lost.
    fn tell(&mut self, asset: &str, id: &str, state: State) -> anyhow::Result<()> {
        let (status, text) = self.next(id, state)?;
        self.write(asset, &status, &text)
    }

    fn next(&mut self, id: &str, state: State) -> anyhow::Result<(Status, String)> {
        self.n += 1;
        let mut status = Status::new("HMI-1", id, state, Timestamp::from_millis(BEGIN + 10 * self.n as i64));
        status.chain = Some(Link { n: self.n, previous: std::mem::take(&mut self.previous) });
        let text = status.encode();
        self.previous = sha256(&text)?;
        Ok((status, text))
    }

    fn write(&self, asset: &str, status: &Status, text: &str) -> anyhow::Result<()> {
        let n = status.chain.as_ref().context("chained")?.n;
        let sequence = Position { epoch: 1_771_000_000_000, n }.to_string();
        let mut headers = OwnedHeaders::new();
        for (key, value) in [("of-edge", "EDGE-1"), ("of-seq", &sequence)] {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        self.setup.write(asset, &event("Move_CMD.status", text), headers)
    }
}

/// By another program than ours.
fn sha256(text: &str) -> anyhow::Result<String> {
    use std::io::Write as _;
    let mut child =
        std::process::Command::new("sha256sum").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn()?;
    child.stdin.take().context("no stdin")?.write_all(text.as_bytes())?;
    let out = String::from_utf8(child.wait_with_output()?.stdout)?;
    Ok(out.split_whitespace().next().context("no digest")?.to_owned())
}

fn ask(setup: &Setup, asset: &str, id: &str) -> anyhow::Result<()> {
    let given = Timestamp::from_millis(BEGIN).to_string();
    let envelope = json!({"header": {"correlation_id": id, "sender_uuid": "HMI-1", "timestamp": given}, "arguments": {"x": "10"}});
    setup.write_at(asset, &event(&command::id("Move"), &envelope.to_string()), BEGIN)
}

fn audit(setup: &Setup, more: &[&str]) -> anyhow::Result<(Option<i32>, Json, String)> {
    let (code, out, err) = setup.person(&[&["audit", "--json"], more].concat())?;
    let report = serde_json::from_str(&out).with_context(|| format!("no JSON, exit code {code:?}: {out}{err}"))?;
    let (_, text, _) = setup.person(&[&["audit"], more].concat())?;
    Ok((code, report, text))
}

#[test]
fn a_sound_history_is_told_whole_and_nothing_is_flagged() -> anyhow::Result<()> {
    let setup = Setup::new("commands-audit", "")?;
    let mut edge = Edge { setup: &setup, n: 0, previous: String::new() };
    for n in 0..20 {
        let (asset, id) = (format!("PRESS-{}", n % 5), format!("c-{n}"));
        ask(&setup, &asset, &id)?;
        for state in [State::Accepted, State::Executing, State::Succeeded] {
            edge.tell(&asset, &id, state)?;
        }
    }
    setup.flush()?;
    let (code, report, text) = audit(&setup, &[])?;
    ensure!(code == Some(0) && report["sound"] == true && report["flagged"] == 0, "{report:#}");
    ensure!(report["commands"].as_array().is_some_and(|commands| commands.len() == 20), "{report:#}");
    ensure!(report["chains"][0]["last"] == 60, "{report:#}");
    ensure!(text.contains("sound: 20 commands; 1 whole chain"), "{text}");
    let (code, report, text) = audit(&setup, &["--asset", "PRESS-1"])?;
    ensure!(code == Some(0) && report["chains"].is_null() && report["commands"].as_array().is_some_and(|c| c.len() == 4), "{report:#}");
    ensure!(text.contains("Move(x=10)  succeeded") && text.contains("were not looked at"), "{text}");
    // What is asked for is a time in which nothing was given.
    let (code, report, _) = audit(&setup, &["--from", "2026-02-22T00:00:00Z"])?;
    ensure!(code == Some(0) && report["commands"] == json!([]), "{report:#}");
    Ok(())
}

#[test]
fn a_missing_end_a_second_one_a_status_without_a_command_and_broken_chains_are_flagged() -> anyhow::Result<()> {
    let setup = Setup::new("commands-audit-harm", "")?;
    let mut edge = Edge { setup: &setup, n: 0, previous: String::new() };
    ask(&setup, "PRESS-1", "no-end")?;
    edge.tell("PRESS-1", "no-end", State::Accepted)?;
    ask(&setup, "PRESS-1", "two-ends")?;
    edge.tell("PRESS-1", "two-ends", State::Rejected)?;
    edge.tell("PRESS-1", "two-ends", State::Expired)?;
    edge.tell("OVEN-1", "no-command", State::Rejected)?;
    ask(&setup, "OVEN-1", "fine")?;
    edge.tell("OVEN-1", "fine", State::Rejected)?;
    // One that was taken out, and one that was altered.
    edge.next("lost", State::Rejected)?;
    ask(&setup, "SAW-1", "altered")?;
    let (status, text) = edge.next("altered", State::Rejected)?;
    edge.write("SAW-1", &status, &text.replace("rejected", "expired"))?;
    ask(&setup, "SAW-1", "last")?;
    edge.tell("SAW-1", "last", State::Rejected)?;
    setup.flush()?;
    let (code, report, text) = audit(&setup, &[])?;
    ensure!(code == Some(1) && report["sound"] == false && report["flagged"] == 3, "{report:#}");
    let flags = |id: &str| {
        let commands = report["commands"].as_array().into_iter().flatten();
        commands.filter(|row| row["correlation_id"] == id).map(|row| row["flags"].clone()).collect::<Vec<_>>()
    };
    for (id, expected) in
        [("no-end", json!(["no_end"])), ("two-ends", json!(["two_ends"])), ("no-command", json!(["no_command"])), ("fine", json!([]))]
    {
        ensure!(flags(id) == [expected.clone()], "{id}: {report:#}");
    }
    let chain = &report["chains"][0];
    ensure!(chain["missing"] == json!([6]) && chain["altered"] == json!([7]), "{chain:#}");
    ensure!(text.contains("NOT sound") && text.contains("FLAGGED: nobody told an end"), "{text}");
    Ok(())
}
