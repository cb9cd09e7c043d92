//! What is to be seen: the newest value of every data item from NATS, and the counters of edge and forwarder.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value as Json;
use system_tests::nats::Received;
use system_tests::plant::Plant;
use system_tests::wait;

/// Latency is told of so long, in milliseconds.
const WINDOW: i64 = 10_000;

/// Who tells a data item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    Device,
    Platform,
}

/// The newest value of a data item.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) value: String,
    pub(crate) quality: String,
    /// When the device observed it, in Unix milliseconds.
    pub(crate) observed: i64,
}

/// Counters along the way of an event.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: u64,
    pub(crate) durable: u64,
    pub(crate) mirrored: u64,
    pub(crate) forwarded: u64,
    pub(crate) backlog: u64,
    pub(crate) commands: usize,
}

/// Everything that the table shows.
#[derive(Debug)]
pub(crate) struct Watch {
    /// What devices tell, by asset and data item, then the platform's facts about them: a small window shows what moves.
    pub(crate) rows: BTreeMap<(Origin, String, String), Row>,
    pub(crate) counters: Counters,
    /// Arrival and device timestamp to arrival, of the last messages, in milliseconds.
    latencies: VecDeque<(i64, i64)>,
    pub(crate) received: usize,
    status_at: i64,
    started: i64,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            counters: Counters::default(),
            latencies: VecDeque::new(),
            received: 0,
            status_at: 0,
            started: wait::now(),
        }
    }
}

impl Watch {
    /// Takes what has come since the last look.
    pub(crate) fn look(&mut self, plant: &mut Plant) -> anyhow::Result<()> {
        plant.edge.process()?.expect_alive()?;
        let new = plant.subscriber.as_ref().map(|subscriber| subscriber.received(self.received)).unwrap_or_default();
        self.received += new.len();
        for message in new {
            self.take(&message);
        }
        while self.latencies.front().is_some_and(|(at, _)| *at < wait::now() - WINDOW) {
            self.latencies.pop_front();
        }
        // The counters are for people: a look a second is enough.
        if wait::now() - self.status_at >= 1000 {
            self.status_at = wait::now();
            self.count(plant);
        }
        Ok(())
    }

    /// One line for logs.
    pub(crate) fn line(&self) -> String {
        let Counters { accepted, durable, mirrored, forwarded, backlog, commands } = &self.counters;
        format!(
            "demo: {:>3} s  {} items from NATS  accepted {accepted}  durable {durable}  mirrored {mirrored}  forwarded {forwarded}  backlog {backlog}  commands {commands}  {}",
            (wait::now() - self.started) / 1000,
            self.rows.len(),
            self.latency_text()
        )
    }

    /// Device timestamp to NATS arrival.
    pub(crate) fn latency_text(&self) -> String {
        let mut latencies: Vec<i64> = self.latencies.iter().map(|(_, latency)| *latency).collect();
        latencies.sort_unstable();
        let at = |percent: usize| latencies.get((latencies.len() * percent / 100).min(latencies.len().saturating_sub(1)));
        match (at(50), at(99)) {
            (Some(p50), Some(p99)) => format!("latency of the last {} s: p50 {p50} ms  p99 {p99} ms", WINDOW / 1000),
            _ => "latency -".to_owned(),
        }
    }

    fn take(&mut self, message: &Received) {
        // A message that cannot be read is the judge's business.
        let Ok(json) = serde_json::from_slice::<Json>(&message.payload) else { return };
        let Some((asset, item)) = message.subject.split_once('.') else { return };
        let attribute = |name: &str| json["attributes"][name].as_str();
        let Some(observed) = attribute("timestamp").and_then(asset_stream::Timestamp::parse) else { return };
        let observed = observed.millis();
        if observed >= self.started {
            // One clock here for devices, edge and us.
            self.latencies.push_back((message.at, message.at - observed));
        }
        let value = json["VALUE"].as_str().map_or_else(|| json["VALUE"].to_string(), str::to_owned);
        let quality = attribute("quality").unwrap_or("-").to_owned();
        let facts = ["avail", "gateway"];
        let origin = if json["TYPE"] == "OpenFactory" || facts.contains(&item) { Origin::Platform } else { Origin::Device };
        self.rows.insert((origin, asset.to_owned(), item.to_owned()), Row { value, quality, observed });
    }

    fn count(&mut self, plant: &Plant) {
        // Between two looks either may be busy: the old numbers stand until the next.
        if let Ok(status) = plant.edge.status() {
            let number = |json: &Json| json.as_u64().unwrap_or_default();
            self.counters.accepted = number(&status["events"]["accepted"]);
            self.counters.durable = number(&status["log"]["durable"]);
            self.counters.mirrored = number(&status["mirror"]["acknowledged"]);
            self.counters.backlog = number(&status["mirror"]["backlog"]);
        }
        if let Some(Ok(status)) = plant.forwarder.as_ref().map(|forwarder| forwarder.status()) {
            self.counters.forwarded = status["forwarded"].as_u64().unwrap_or_default();
        }
    }
}
