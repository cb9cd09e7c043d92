//! Who asked what of which asset, when, and what came of it; and whether all of that is sound.
//!
//! A command has exactly one end, its steps come in the order of the life that `asset_stream::command::status` draws, and no step is without its
//! command. Each edge chains what it tells about commands by hash, over all its assets, so chains are proven where all assets are read.

mod chain;
mod life;
#[cfg(test)]
mod life_tests;
mod table;

use std::collections::BTreeMap;
use std::time::Instant;

use asset_stream::command::{COMMAND_MARK, STATUS_MARK, has_mark};
use asset_stream::{Event, Timestamp, headers, partition};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use serde::Serialize;

use crate::reading::{Places, Topic};
use crate::{Error, LOOK_AGAIN, Progress, UNDER_WAY};
pub use chain::Chain;
use chain::Chains;
use life::Lives;
pub use life::{Flag, Row, StepRow};

/// What is to be audited.
#[derive(Clone, Debug)]
pub struct Request {
    /// The asset stream.
    pub topic: String,
    /// Only commands to this asset. Chains are not proven then.
    pub asset: Option<String>,
    /// Only commands of this sender.
    pub sender: Option<String>,
    /// Only commands from this time on.
    pub from: Option<Timestamp>,
    /// Only commands before this time; what came of them is read to the topic's end.
    pub to: Option<Timestamp>,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// The topic.
    pub topic: String,
    /// Whether nothing is flagged, and every chain is whole.
    pub sound: bool,
    /// Records that were read.
    pub records: u64,
    /// Commands that something is wrong with.
    pub flagged: u64,
    /// Lives whose command stands before what was read, or is no longer in the topic: they are not judged.
    pub earlier: u64,
    /// The commands, by time.
    pub commands: Vec<Row>,
    /// The edges' chains; `None` where not all assets were read.
    pub chains: Option<Vec<Chain>>,
}

/// A record that is about a command.
struct Record {
    asset: String,
    partition: i32,
    event: Event,
    /// Unix milliseconds; Kafka's time of the record.
    time: i64,
    edge: Option<String>,
    position: Option<headers::Position>,
}

/// Reads the topic; `told` hears of each record how far it is.
pub fn audit(kafka: &service::kafka::Config, request: &Request, mut told: impl FnMut(Progress)) -> Result<Audit, Error> {
    let topic = Topic::open(kafka, &request.topic)?;
    let (begin, mut ends) = (topic.starts()?, topic.ends()?);
    if let Some(asset) = &request.asset {
        let theirs = partition::of_key(asset.as_bytes(), i32::try_from(ends.len()).unwrap_or(i32::MAX));
        ends.retain(|partition, _| *partition == theirs);
    }
    let starts = match request.from {
        Some(from) => topic.at_time(from.millis())?,
        None => begin,
    };
    let is_cut = |partition: i32| request.from.is_some() || starts.get(&partition).is_some_and(|start| *start > 0);
    let all = ends.iter().map(|(partition, end)| end.saturating_sub(starts[partition]).max(0).unsigned_abs()).sum();
    let (mut lives, mut chains, mut records) = (Lives::default(), Chains::default(), 0);
    topic.read(&starts, &ends, |message| {
        records += 1;
        if let Some(record) = read(message) {
            chains.take(&record);
            lives.take(record);
        }
        told(Progress { read: records, all });
    })?;
    let is_whole = request.asset.is_none();
    if is_whole {
        fill(&topic, ends, &mut lives, &mut chains)?;
    }
    let (commands, earlier) = lives.rows(request, is_cut, Timestamp::now());
    let begins_at_first = !starts.keys().any(|partition| is_cut(*partition));
    let chains = is_whole.then(|| chains.rows(begins_at_first));
    let flagged = commands.iter().filter(|row| !row.flags.is_empty()).count() as u64;
    let sound = flagged == 0 && chains.iter().flatten().all(Chain::is_sound);
    Ok(Audit { topic: request.topic.clone(), sound, records, flagged, earlier, commands, chains })
}

/// The ends of the partitions were told one after the other, so a status that stands before another one of its edge may stand behind them.
fn fill(topic: &Topic, mut places: Places, lives: &mut Lives, chains: &mut Chains) -> Result<(), Error> {
    let deadline = Instant::now() + UNDER_WAY;
    while chains.has_holes() && Instant::now() < deadline {
        let ends = topic.ends()?;
        if ends == places {
            break;
        }
        topic.read(&places, &ends, |message| {
            if let Some(record) = read(message) {
                chains.take(&record);
                lives.take(record);
            }
        })?;
        places = ends;
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

fn read(message: &BorrowedMessage<'_>) -> Option<Record> {
    let value = message.payload()?;
    if !has_mark(value, COMMAND_MARK) && !has_mark(value, STATUS_MARK) {
        return None;
    }
    let event = Event::decode(value).ok()?;
    let of_edge: BTreeMap<&str, &str> = message
        .headers()
        .into_iter()
        .flat_map(|headers| headers.iter())
        .filter_map(|header| Some((header.key, std::str::from_utf8(header.value?).ok()?)))
        .collect();
    Some(Record {
        asset: std::str::from_utf8(message.key()?).ok()?.to_owned(),
        partition: message.partition(),
        event,
        time: message.timestamp().to_millis().unwrap_or_default(),
        edge: of_edge.get(headers::EDGE).map(|edge| (*edge).to_owned()),
        position: of_edge.get(headers::SEQUENCE).and_then(|text| text.parse().ok()),
    })
}
