//! `openfactory-edge check-config --online`: whether Kafka and the devices answer, and have what the config names.

use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use edge_mirror::Unfit;
use gateway::Finding;
use serde_json::{Value as Json, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::check::Checked;
use crate::devices::Device;
use crate::progress::{self, Line};
use crate::protocols::Protocols;

/// Devices that are asked at the same time.
const AT_ONCE: usize = 16;
/// How long brokers may take to answer: a TLS handshake over a slow link among them.
const BROKERS: Duration = Duration::from_secs(15);

/// What one of those that were asked said.
struct Asked {
    device: Device,
    answer: Result<Vec<Finding>, String>,
}

impl Asked {
    fn missing(&self) -> impl Iterator<Item = (&Finding, &String)> {
        self.answer.iter().flatten().filter_map(|finding| Some((finding, finding.answer.as_ref().err()?)))
    }
}

/// Asks all of them, and prints what they say. The exit code tells whether anything is amiss.
pub(crate) fn run(checked: Checked, as_json: bool) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot be started")?;
    let mirror = checked.config.mirror();
    // Where nobody may command anything, nobody needs the topic of commands.
    let commands = (!checked.config.commands.allow.is_empty()).then(|| checked.config.commands.topic.clone());
    let kafka = mirror.map(|mirror| std::thread::spawn(move || mirror.ask_topics(commands.as_deref(), BROKERS)));
    let asked = runtime.block_on(ask(checked))?;
    let kafka = kafka.map(|asking| asking.join().unwrap_or_else(|_| Err(Unfit::Silent("the question failed".to_owned()))));
    let amiss = usize::from(matches!(kafka, Some(Err(_))))
        + asked.iter().filter(|asked| asked.answer.is_err() || asked.missing().next().is_some()).count();
    let text = match as_json {
        true => serde_json::to_string_pretty(&to_json(kafka.as_ref(), &asked))? + "\n",
        false => to_text(kafka.as_ref(), &asked)?,
    };
    service::output::print(&text)?;
    if amiss == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("openfactory-edge: {amiss} of {} that were asked have something amiss", asked.len() + usize::from(kafka.is_some()));
    Ok(ExitCode::FAILURE)
}

async fn ask(checked: Checked) -> anyhow::Result<Vec<Asked>> {
    let mut protocols = Protocols::new(&checked.config.edge.state_dir);
    protocols.open(&checked.devices).map_err(anyhow::Error::msg)?;
    let (protocols, places, all) = (Arc::new(protocols), Arc::new(Semaphore::new(AT_ONCE)), checked.devices.len());
    let mut asking = JoinSet::new();
    for (number, device) in checked.devices.into_iter().enumerate() {
        let (protocols, places) = (protocols.clone(), places.clone());
        asking.spawn(async move {
            let _place = places.acquire().await;
            let answer = protocols.probe(&device.name, &device.connector).await;
            (number, Asked { device, answer })
        });
    }
    let (mut line, mut asked) = (Line::new(), Vec::with_capacity(all));
    while let Some(answered) = asking.join_next().await {
        asked.push(answered.context("a device could not be asked")?);
        line.show(|| format!("{} {} of {all} devices asked", progress::bar(asked.len(), all), asked.len()));
    }
    asked.sort_by_key(|(number, _)| *number);
    Ok(asked.into_iter().map(|(_, asked)| asked).collect())
}

/// The mirror's topics with their partitions.
type Topics = Result<Vec<(String, usize)>, Unfit>;

fn to_text(kafka: Option<&Topics>, asked: &[Asked]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let out = &mut text;
    match kafka {
        None if asked.is_empty() => writeln!(out, "there is nothing to ask: neither [kafka] nor a device")?,
        None => {}
        Some(Ok(topics)) => {
            let told = |(topic, partitions): &(String, usize)| match partitions {
                0 => format!("topic {topic} will be made"),
                partitions => format!("topic {topic} has {partitions} partitions"),
            };
            writeln!(out, "kafka     answers; {}", topics.iter().map(told).collect::<Vec<_>>().join(", "))?;
        }
        Some(Err(Unfit::NoTopic(why))) => writeln!(out, "kafka     AMISS: answers; {why}")?,
        Some(Err(Unfit::Silent(why))) => writeln!(out, "kafka     AMISS: {why}")?,
    }
    for asked in asked {
        let name = &asked.device.name;
        match &asked.answer {
            Err(why) => writeln!(out, "{name:<9} AMISS: {why}")?,
            Ok(findings) => {
                let there = findings.len() - asked.missing().count();
                let amiss = if there == findings.len() { "" } else { "AMISS: " };
                writeln!(out, "{name:<9} {amiss}answers; {there} of {} entries can be used", findings.len())?;
            }
        }
        for (finding, why) in asked.missing() {
            writeln!(out, "          {} ({}): {why}", finding.item, finding.address)?;
        }
    }
    Ok(text)
}

fn to_json(kafka: Option<&Topics>, asked: &[Asked]) -> Json {
    let topic = |(topic, partitions): &(String, usize)| json!({"topic": topic, "partitions": partitions});
    let kafka = kafka.map(|answer| match answer {
        Ok(topics) => json!({"answers": true, "topics": topics.iter().map(topic).collect::<Vec<_>>()}),
        Err(Unfit::NoTopic(why)) => json!({"answers": true, "why": why}),
        Err(Unfit::Silent(why)) => json!({"answers": false, "why": why}),
    });
    let entry = |finding: &Finding| {
        let (usable, told) = match &finding.answer {
            Ok(told) => (true, told),
            Err(why) => (false, why),
        };
        json!({"item": finding.item, "address": finding.address, "usable": usable, "told": told})
    };
    let device = |asked: &Asked| {
        let Device { name, asset, connector, .. } = &asked.device;
        let mut device = json!({"name": name, "asset": asset, "protocol": connector.protocol(), "answers": asked.answer.is_ok()});
        match &asked.answer {
            Ok(findings) => device["entries"] = findings.iter().map(entry).collect(),
            Err(why) => device["why"] = why.as_str().into(),
        }
        device
    };
    json!({"kafka": kafka, "devices": asked.iter().map(device).collect::<Vec<_>>()})
}
