//! Gap events, as a reader sees them.

use anyhow::Context as _;
use asset_stream::{Event, Position, Timestamp};
use serde_json::Value as Json;

use super::arrivals::Arrivals;
use super::verdict::{Harm, Side, Verdict};

/// Loss that was told.
#[derive(Debug)]
pub(super) struct ToldGap {
    pub(super) asset: String,
    pub(super) count: Option<u64>,
    pub(super) text: String,
    edge: Option<String>,
    /// Of its numbers.
    epoch: Option<u64>,
    /// Its numbers are of another epoch than its own.
    is_of_another_epoch: bool,
    item: Option<String>,
    sequences: Option<(u64, u64)>,
    asset_sequences: Option<(u64, u64)>,
    from: i64,
    to: i64,
}

impl ToldGap {
    /// `written`: by which edge, and where in its log.
    pub(super) fn read(asset: &str, written: Option<(&str, Position)>, event: &Event) -> anyhow::Result<Self> {
        let text = event.value.as_str().context("a gap event's VALUE is no text")?.to_owned();
        let json: Json = serde_json::from_str(&text).context("a gap event's VALUE is no JSON text")?;
        let time = |name: &str| {
            let time = json[name].as_str().and_then(Timestamp::parse);
            time.map(Timestamp::millis).with_context(|| format!("a gap event's {name} is no time: {text}"))
        };
        let range = |name: &str| Some((json[name][0].as_u64()?, json[name][1].as_u64()?));
        json["reason"].as_str().with_context(|| format!("a gap event without a reason: {text}"))?;
        let (edge, own_epoch) = written.map(|(edge, at)| (edge.to_owned(), at.epoch)).unzip();
        let epoch = json["epoch"].as_u64().or(own_epoch);
        Ok(Self {
            asset: asset.to_owned(),
            count: json["count"].as_u64(),
            edge,
            epoch,
            is_of_another_epoch: epoch != own_epoch,
            item: json["item"].as_str().map(str::to_owned),
            sequences: range("sequences"),
            asset_sequences: range("asset_sequences"),
            from: time("from")?,
            to: time("to")?,
            text,
        })
    }

    /// Whether the loss happened before the log: its events never had a number.
    pub(super) fn is_of_the_device(&self) -> bool {
        self.sequences.is_none() && self.asset_sequences.is_none()
    }

    pub(super) fn tells_sequence(&self, edge: &str, at: Position) -> bool {
        self.edge.as_deref() == Some(edge)
            && self.epoch == Some(at.epoch)
            && self.sequences.is_some_and(|(first, last)| (first..=last).contains(&at.n))
    }

    /// `counter` is `<edge>/<asset>`.
    pub(super) fn tells_asset_sequence(&self, counter: &str, at: Position) -> bool {
        self.is_count(counter)
            && self.epoch == Some(at.epoch)
            && self.asset_sequences.is_some_and(|(first, last)| (first..=last).contains(&at.n))
    }

    /// Whether it has something in common with a time, Unix ms.
    pub(super) fn touches(&self, from: i64, to: i64) -> bool {
        self.from <= to && from <= self.to
    }

    /// When the loss ended, Unix ms.
    pub(super) fn ends(&self) -> i64 {
        self.to
    }

    pub(super) fn tells_value(&self, asset: &str, item: &str, said_at: i64, slack: i64) -> bool {
        self.asset == asset
            && self.item.as_deref().is_none_or(|only| only == item)
            && (self.from - slack..=self.to + slack).contains(&said_at)
    }

    /// Of the numbers that it names, as many as it counts must be absent.
    pub(super) fn check_count(&self, by_asset: &Arrivals, verdict: &mut Verdict) {
        let (Some(_), Some(count)) = (self.asset_sequences, self.count) else { return };
        let absent = by_asset.absent().iter().filter(|(counter, at)| self.tells_asset_sequence(counter, *at)).count() as u64;
        // Nothing came after the last numbers of an earlier epoch, so what is missing there is not seen to be.
        let is_right = if self.is_of_another_epoch { absent <= count } else { absent == count };
        if !is_right {
            verdict.harm(Harm::WrongGap, Side::Kafka, || {
                format!("{}: {absent} events are absent, but a gap event says: {}", self.asset, self.text)
            });
        }
    }

    fn is_count(&self, counter: &str) -> bool {
        self.edge.as_deref().is_some_and(|edge| counter.strip_prefix(edge).and_then(|rest| rest.strip_prefix('/')) == Some(&self.asset))
    }
}
