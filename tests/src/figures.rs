//! A benchmark's figure: what was measured beside its baseline, as a line for people or an object of JSON.

use anyhow::{Context as _, ensure};
use asset_stream::Timestamp;
use serde_json::{Value as Json, json};

use crate::nats::Received;

/// What a figure has to reach.
#[derive(Clone, Copy, Debug)]
pub enum Reach {
    /// At most so much more than the baseline.
    More(f64),
    /// At most so much; there is no baseline.
    AtMost(f64),
}

/// How figures are printed.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    /// A line each.
    Text,
    /// An object each.
    Json,
}

impl Format {
    /// `--json` or not.
    pub fn json(wanted: bool) -> Self {
        if wanted { Self::Json } else { Self::Text }
    }
}

/// One row of the table of benchmarks.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// Of all values.
    pub unit: &'static str,
    /// A value for each round.
    pub measured: Vec<f64>,
    /// A value for each round; empty where there is no baseline.
    pub baseline: Vec<f64>,
    /// What it has to reach.
    pub reach: Reach,
}

impl Figure {
    /// Prints it.
    pub fn print(self, format: Format) {
        match format {
            Format::Text => println!("{}", self.line()),
            Format::Json => println!("{}", self.object()),
        }
    }

    fn line(self) -> String {
        let Self { name, unit, measured, baseline, reach } = self;
        let spread = |[low, median, high]: [f64; 3]| format!("{median:.1} {unit} ({low:.1} to {high:.1})");
        let (of_measured, of_baseline) = (spread_of(measured), spread_of(baseline));
        let Some(measured) = of_measured else { return format!("{name}: nothing was measured") };
        match (reach, of_baseline) {
            (Reach::More(most), Some(baseline)) => {
                let more = measured[1] - baseline[1];
                format!("{name}: {}, baseline {}, {more:.1} {unit} more (reach {most:.0})", spread(measured), spread(baseline))
            }
            (Reach::More(most) | Reach::AtMost(most), _) => format!("{name}: {} (reach {most:.0})", spread(measured)),
        }
    }

    fn object(self) -> Json {
        let Self { name, unit, measured, baseline, reach } = self;
        let rounds = measured.len();
        let side = |values| spread_of(values).map(|[low, median, high]| json!({"median": median, "low": low, "high": high}));
        let (measured, baseline) = (side(measured), side(baseline));
        let more = measured.as_ref().zip(baseline.as_ref()).and_then(|(m, b)| Some(m["median"].as_f64()? - b["median"].as_f64()?));
        let (Reach::More(most) | Reach::AtMost(most)) = reach;
        json!({"name": name, "unit": unit, "rounds": rounds, "measured": measured, "baseline": baseline, "more": more, "reach": most})
    }
}

/// Lowest, median, highest.
fn spread_of(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    Some([*values.first()?, *values.get(values.len() / 2)?, *values.last()?])
}

/// How long values took from the device's time to a subscriber, in ms.
#[derive(Clone, Copy, Debug)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// Of a hundred values, one took longer.
    pub p99: f64,
}

impl Percentiles {
    /// Of the samples among these messages; an error if they are too few to tell.
    pub fn of(received: &[Received]) -> anyhow::Result<Self> {
        let mut latencies = Vec::new();
        for message in received {
            let event: Json = serde_json::from_slice(&message.payload)?;
            if event["TYPE"] == "Samples" {
                let said = event["attributes"]["timestamp"].as_str().and_then(Timestamp::parse).context("an event without a time")?;
                latencies.push((message.at - said.millis()) as f64);
            }
        }
        ensure!(latencies.len() >= 500, "only {} values arrived", latencies.len());
        latencies.sort_by(f64::total_cmp);
        Ok(Self { p50: latencies[latencies.len() / 2], p99: latencies[latencies.len() * 99 / 100] })
    }
}
