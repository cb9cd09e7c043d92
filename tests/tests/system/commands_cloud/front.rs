//! Commands from NATS.

use anyhow::{Context as _, ensure};
use asset_stream::command::status::{State, Status};
use asset_stream::{Timestamp, command};
use async_nats::{Client, HeaderMap, Message};
use futures::StreamExt as _;
use rdkafka::message::OwnedHeaders;
use serde_json::Value as Json;
use system_tests::nats::Nats;
use system_tests::process::Process;

use super::setup::{MAX, Setup, event};

/// The service with a NATS server, ready for requests.
struct Served {
    setup: Setup,
    nats: Nats,
    service: Process,
    runtime: tokio::runtime::Runtime,
}

impl Served {
    fn start(name: &str, front: &str) -> anyhow::Result<Self> {
        let nats = Nats::start()?;
        let more =
            format!("create_topic = {{ replication_factor = 1 }}\n[commands.nats]\n{front}\n[nats.MAIN]\nurls = [\"{}\"]\n", nats.url());
        let setup = Setup::new(name, &more)?;
        let mut service = setup.serve()?;
        service.wait_for_log("commands are taken from NATS", MAX)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { setup, nats, service, runtime })
    }

    fn client(&self) -> anyhow::Result<Client> {
        Ok(self.runtime.block_on(async_nats::connect(self.nats.url()))?)
    }

    /// Tells these steps of the command that was given last to the asset.
    fn play(&self, asset: &str, steps: &[State]) -> anyhow::Result<command::Command> {
        let (method, command) = self.setup.wait_command(asset)?;
        for state in steps {
            let status = Status::new(&command.header.sender_uuid, &command.header.correlation_id, *state, Timestamp::now());
            self.setup.write(asset, &event(&format!("{method}_CMD.status"), &status.encode()), OwnedHeaders::new())?;
        }
        self.setup.flush()?;
        Ok(command)
    }
}

/// Asks, and gives what comes back up to the end.
async fn ask(client: Client, subject: &str, payload: &str, headers: HeaderMap) -> anyhow::Result<Vec<Message>> {
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await?;
    // Until the service has subscribed, nobody is there to answer: it said that it has.
    client.publish_with_reply_and_headers(subject.to_owned(), inbox, headers, payload.to_owned().into()).await?;
    let mut told = Vec::new();
    tokio::time::timeout(MAX, async {
        while let Some(message) = replies.next().await {
            let is_end = header(&message, "Of-End").is_some();
            told.push(message);
            if is_end {
                return Ok(told);
            }
        }
        anyhow::bail!("the connection broke")
    })
    .await?
}

fn header<'m>(message: &'m Message, name: &str) -> Option<&'m str> {
    message.headers.as_ref()?.get(name).map(|value| value.as_str())
}

fn states(replies: &[Message]) -> Vec<String> {
    let state = |message: &Message| serde_json::from_slice::<Json>(&message.payload).ok()?["state"].as_str().map(str::to_owned);
    replies.iter().map(|message| state(message).unwrap_or_default()).collect()
}

#[test]
fn a_request_is_answered_with_the_life_of_its_command_and_the_last_reply_says_so() -> anyhow::Result<()> {
    let mut served = Served::start("commands-front", "")?;
    let client = served.client()?;
    let payload = r#"{"arguments": {"x": "10"}}"#;
    let asked = served.runtime.spawn(async move { ask(client, "cmd.PRESS%201.Move", payload, HeaderMap::new()).await });
    let command = served.play("PRESS 1", &[State::Accepted, State::Executing, State::Succeeded])?;
    ensure!(command.argument("x") == Some("10") && command.header.expires_at.is_some(), "{command:?}");
    let replies = served.runtime.block_on(asked)??;
    ensure!(states(&replies) == ["requested", "accepted", "executing", "succeeded"], "{replies:?}");
    ensure!(replies[..3].iter().all(|reply| header(reply, "Of-End").is_none()), "{replies:?}");
    // For clients that take one reply; with an envelope of its own.
    let client = served.client()?;
    let asked = served.runtime.spawn(async move {
        let mut headers = HeaderMap::new();
        headers.insert("Of-Replies", "end");
        let envelope = r#"{"header": {"correlation_id": "c-1", "sender_uuid": "HMI-1", "timestamp": "2026-02-21T12:00:00Z"}}"#;
        let request = async_nats::Request::new().payload(envelope.into()).headers(headers).timeout(Some(MAX));
        client.send_request("cmd.OVEN-1.Stop", request).await
    });
    let command = served.play("OVEN-1", &[State::Rejected])?;
    ensure!((&*command.header.correlation_id, &*command.header.sender_uuid) == ("c-1", "HMI-1"), "{command:?}");
    let reply = served.runtime.block_on(asked)??;
    ensure!(states(std::slice::from_ref(&reply)) == ["rejected"] && header(&reply, "Of-End") == Some("true"), "{reply:?}");
    // They reached the edges' topic as all commands do.
    served.setup.wait_copied(2)?;
    ensure!(served.service.terminate(MAX)?.success(), "{}", served.service.log_tail());
    Ok(())
}

#[test]
fn what_becomes_no_command_and_a_life_without_an_end_are_errors_of_a_nats_service() -> anyhow::Result<()> {
    let served = Served::start("commands-front-errors", "max_waiting = 1\nexpires_in = \"1 s\"")?;
    let client = served.client()?;
    let malformed = served.runtime.block_on(ask(client.clone(), "cmd.PRESS-1.Move", r#"{"x": 1}"#, HeaderMap::new()))?;
    let code = |replies: &[Message]| replies.last().and_then(|reply| header(reply, "Nats-Service-Error-Code")).map(str::to_owned);
    ensure!(malformed.len() == 1 && code(&malformed).as_deref() == Some("400"), "{malformed:?}");
    let first = client.clone();
    let waiting = served.runtime.spawn(async move { ask(first, "cmd.PRESS-1.Move", "", HeaderMap::new()).await });
    served.setup.wait_command("PRESS-1")?;
    let refused = served.runtime.block_on(ask(client, "cmd.PRESS-1.Stop", "", HeaderMap::new()))?;
    ensure!(refused.len() == 1 && code(&refused).as_deref() == Some("503"), "{refused:?}");
    let unanswered = served.runtime.block_on(waiting)??;
    ensure!(states(&unanswered) == ["requested", ""] && code(&unanswered).as_deref() == Some("504"), "{unanswered:?}");
    let status = served.setup.status()?;
    ensure!(status["requests"] == 3 && status["refused"] == 2, "{status:#}");
    Ok(())
}

#[test]
fn commands_of_one_client_stand_in_the_stream_in_the_order_in_which_it_sent_them() -> anyhow::Result<()> {
    const COMMANDS: usize = 50;
    let served = Served::start("commands-front-order", "")?;
    let client = served.client()?;
    served.runtime.block_on(async {
        for n in 0..COMMANDS {
            client.publish("cmd.PRESS-1.Move", format!(r#"{{"arguments": {{"n": "{n}"}}}}"#).into()).await?;
        }
        client.flush().await.context("not sent")
    })?;
    served.setup.wait_copied(COMMANDS)?;
    let numbers = served.setup.committed(&served.setup.commands_topic(), |message| {
        use rdkafka::message::Message as _;
        let event = asset_stream::Event::decode(message.payload()?).ok()?;
        command::Command::from_event(&event).ok()?.1.argument("n")?.parse::<usize>().ok()
    })?;
    ensure!(numbers == (0..COMMANDS).collect::<Vec<_>>(), "{numbers:?}");
    Ok(())
}
