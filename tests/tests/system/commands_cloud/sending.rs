//! `openfactory-cloud command send`: what it writes, what it shows, and how it ends.

use anyhow::ensure;
use asset_stream::command::signature::{PublicKey, verify};
use asset_stream::command::status::{Reason, State, Status};
use asset_stream::command::{Command, signature};
use asset_stream::{Event, Timestamp};
use rdkafka::message::OwnedHeaders;
use system_tests::process;
use system_tests::wait::{self, Look};

use super::setup::{MAX, Setup, event};

/// A step that the test tells, with its reason.
type Step = (State, Option<Reason>);

/// Plays the edge: waits for the command, and tells these steps of its life.
fn play(setup: &Setup, asset: &str, steps: &[Step]) -> anyhow::Result<()> {
    let (method, command) = setup.wait_command(asset)?;
    for (state, reason) in steps {
        let mut status = Status::new(&command.header.sender_uuid, &command.header.correlation_id, *state, Timestamp::now());
        status.reason = *reason;
        status.detail = reason.map(|_| "the test says so".into());
        status.result = (*state == State::Succeeded).then(|| serde_json::json!([7]));
        let mut value = Vec::new();
        status.to_sample(asset, &method).encode(&mut value);
        // Of another command of the same asset: not for this one.
        let other = Status::new(&command.header.sender_uuid, "another", State::Rejected, Timestamp::now());
        setup.write(asset, &event(&format!("{method}_CMD.status"), &other.encode()), OwnedHeaders::new())?;
        setup.write(asset, std::str::from_utf8(&value)?, OwnedHeaders::new())?;
    }
    setup.flush()
}

#[test]
fn a_person_sees_each_life_and_each_end_has_its_exit_code() -> anyhow::Result<()> {
    let setup = Setup::new("commands-send", "")?;
    let lives: [(&str, i32, &[Step]); 5] = [
        ("DONE-1", 0, &[(State::Accepted, None), (State::Executing, None), (State::Succeeded, None)]),
        ("REJECTED-1", 3, &[(State::Rejected, Some(Reason::UnknownMethod))]),
        ("FAILED-1", 4, &[(State::Accepted, None), (State::Executing, None), (State::Failed, Some(Reason::DeviceRefused))]),
        ("EXPIRED-1", 5, &[(State::Expired, Some(Reason::ArrivedLate))]),
        ("UNKNOWN-1", 6, &[(State::Accepted, None), (State::Executing, None), (State::Unknown, Some(Reason::EdgeCrashed))]),
    ];
    for (asset, expected, steps) in lives {
        let (code, out, err) = std::thread::scope(|scope| {
            let edge = scope.spawn(|| play(&setup, asset, steps));
            let seen =
                setup.person(&["command", "send", "--asset", asset, "--method", "Move", "--arg", "x=10", "--sender", "HMI-1", "--wait"]);
            edge.join().map_err(|_| anyhow::anyhow!("the edge panicked"))??;
            seen
        })?;
        ensure!(code == Some(expected), "{asset}: {code:?} {out}{err}");
        let lines: Vec<&str> = out.lines().collect();
        ensure!(lines.len() == steps.len() + 1 && lines[0].contains("requested"), "{out}");
        for (line, (state, reason)) in lines[1..].iter().zip(steps) {
            ensure!(line.contains(state.as_str()) && reason.is_none_or(|_| line.contains("the test says so")), "{out}");
        }
        ensure!(expected != 0 || lines[3].ends_with("result: [7]"), "{out}");
    }
    Ok(())
}

#[test]
fn a_command_is_signed_by_the_key_that_is_named_and_has_its_deadline() -> anyhow::Result<()> {
    let setup = Setup::new("commands-signed", "")?;
    let key = setup.folder.path().join("hmi.pem");
    let arguments = ["genpkey", "-algorithm", "ed25519", "-out", &key.to_string_lossy()];
    let (code, _, err) = process::run(std::path::Path::new("/usr/bin/openssl"), &arguments, MAX)?;
    ensure!(code == Some(0), "{err}");
    let public: PublicKey = signature::PrivateKey::from_pem(&std::fs::read_to_string(&key)?)?.public();
    let send = ["command", "send", "--asset", "OVEN-1", "--method", "Set Point", "--arg", "value=80", "--id", "c-1", "--no-wait", "--json"];
    let (code, out, err) = setup.person(&[&send[..], &["--sign", &key.to_string_lossy()]].concat())?;
    ensure!(code == Some(0) && out.contains(r#""state":"requested""#) && err.contains("Set_Point"), "{code:?} {out}{err}");
    let (method, command) = setup.wait_command("OVEN-1")?;
    ensure!(method == "Set_Point" && command.argument("value") == Some("80") && command.header.correlation_id == "c-1", "{command:?}");
    verify(&[public], "OVEN-1", "Set_Point", &command)?;
    let (given, deadline) = (command.header.time(), command.header.deadline().ok().flatten());
    ensure!(deadline.map(|at| at.millis()) == given.map(|at| at.millis() + 30_000), "{command:?}");
    // What cannot be meant is refused before anything is written.
    for wrong in [&["--arg", "value=81"][..], &["--arg", "value"], &["--sign", "/nowhere"], &["--method", "°"]] {
        let (code, _, err) = setup.person(&[&send[..], wrong].concat())?;
        ensure!(code == Some(2), "{wrong:?}: {code:?} {err}");
    }
    let (code, _, err) = setup.person(&["command", "write", "--asset", "OVEN-2", "--variable", "offset", "-2.5", "--no-wait"])?;
    ensure!(code == Some(0), "{code:?} {err}");
    let (method, command) = setup.wait_command("OVEN-2")?;
    ensure!(method == "offset" && command.argument("value") == Some("-2.5"), "{command:?}");
    ensure!(setup.committed(&setup.topic, |_| Some(()))?.len() == 2, "a command with wrong usage was written");
    Ok(())
}

#[test]
fn nobody_s_answer_is_said_with_what_to_look_at_and_an_edge_that_took_it_is_named() -> anyhow::Result<()> {
    let setup = Setup::new("commands-silence", "")?;
    let send = ["command", "send", "--asset", "PRESS-1", "--method", "Move", "--wait=2s"];
    let (code, _, err) = setup.person(&send)?;
    ensure!(code == Some(7) && err.contains("nobody took the command") && err.contains("is its name right?"), "{code:?} {err}");
    setup.write("PRESS-1", r#"{"ID":"temp","VALUE":1,"TYPE":"Samples"}"#, OwnedHeaders::new())?;
    setup.flush()?;
    let (code, _, err) = setup.person(&send)?;
    ensure!(code == Some(7) && !err.contains("is its name right?"), "{code:?} {err}");
    let (code, out, err) = std::thread::scope(|scope| {
        let edge = scope.spawn(|| -> anyhow::Result<()> {
            let envelope = wait::until("the third command is there", MAX, || {
                let ids = setup.committed(&setup.topic, |message| {
                    use rdkafka::message::Message as _;
                    Command::from_event(&Event::decode(message.payload()?).ok()?).ok()
                })?;
                Ok(if ids.len() == 3 { Look::Done(ids[2].1.clone()) } else { Look::Waiting(format!("{} are", ids.len())) })
            })?;
            let header = &envelope.header;
            let claim = serde_json::json!({"correlation_id": header.correlation_id, "sender_uuid": header.sender_uuid, "edge": "EDGE-7", "epoch": 1});
            setup.write("PRESS-1", &event("Move_CMD.claim", &claim.to_string()), OwnedHeaders::new())?;
            setup.flush()
        });
        let seen = setup.person(&["command", "send", "--asset", "PRESS-1", "--method", "Move", "--wait=4s", "--json"]);
        edge.join().map_err(|_| anyhow::anyhow!("the edge panicked"))??;
        seen
    })?;
    ensure!(code == Some(7) && out.contains("the edge EDGE-7 took the command") && out.contains("no_answer"), "{code:?} {out}{err}");
    Ok(())
}
