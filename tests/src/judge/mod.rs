//! The judge: reads what devices said, what stands in Kafka and what NATS serves, and says what is missing, duplicated, reordered or altered.
//!
//! It knows the wire (the contract) and nothing else of the product. It is fed with [`Judge::kafka`] in each partition's order and with
//! [`Judge::nats`] in each subject's order, and gives a [`Verdict`]. Where the records come from is the business of [`sources`].
//!
//! What counts as what:
//! - missing: a value that a device said and that does not stand in Kafka; a number of `of-seq` or `of-asset-seq` below one that does; a record
//!   of Kafka that NATS does not serve, but for what it served while a plain subscriber had no connection: that is lost to it by NATS's nature. What a gap event tells is not missing, but told; a gap event that counts wrong is harm.
//! - duplicated: a record with a number that stood before, unless it carries `of-resent` or `of-replay`; a value that stands twice. A device that
//!   is connected again states its last value again: that repeat is allowed once, after an `avail` event.
//! - reordered: a number or a value of an asset after a later one, unless its record carries `of-replay` or `of-resent`: it was missing, and says that it is late.
//! - altered: a value that the device never said, or with another timestamp; a message that differs from its record; a record that cannot be read.

mod arrivals;
mod gaps;
mod journal;
pub mod sources;
mod verdict;

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use asset_stream::{Event, Kind, Position, headers, subject};
use serde_json::Value as Json;

use arrivals::{Arrival, Arrivals};
use gaps::ToldGap;
pub use journal::{Journal, Value};
use journal::{Order, TagState};
pub use verdict::{Harm, Side, Verdict};

/// A record as it stands in Kafka.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it stands.
    pub partition: i32,
    /// Where it stands in there.
    pub offset: i64,
    /// The asset's UUID.
    pub key: String,
    /// Header names and values.
    pub headers: BTreeMap<String, String>,
    /// The JSON.
    pub value: Vec<u8>,
}

/// A message as a NATS subscriber gets it.
#[derive(Clone, Debug)]
pub struct Message {
    /// `<asset>.<ID>`, without the prefix of the JetStream stream.
    pub subject: String,
    /// Header names and values.
    pub headers: BTreeMap<String, String>,
    /// The JSON.
    pub payload: Vec<u8>,
    /// When NATS served it, in Unix milliseconds.
    pub at: i64,
}

/// Milliseconds after a start in which an edge states what it knows already.
const START: i64 = 5_000;
/// Facts about a device at a start, at most.
const FACTS: u64 = 8;

/// A period in which nobody can have listened to the devices, stated by the test that made it so.
#[derive(Clone, Debug)]
struct Deaf {
    from: i64,
    to: i64,
}

/// A value that a device said and Kafka does not have.
struct Missing<'j> {
    said_at: i64,
    asset: &'j String,
    item: &'j String,
    value: u64,
    slack: i64,
}

/// What is known of an asset in Kafka.
#[derive(Debug, Default)]
struct Asset {
    partition: Option<i32>,
    /// How often it was connected: counts `avail` events.
    connections: u64,
}

/// Takes everything in, then judges.
#[derive(Debug)]
pub struct Judge {
    tags: HashMap<String, HashMap<String, TagState>>,
    assets: HashMap<String, Asset>,
    /// Numbers of `of-seq`, by edge and epoch: what stands in Kafka, with a digest for the comparison with NATS.
    log: Arrivals,
    /// Numbers of `of-asset-seq`, by edge, asset and epoch.
    by_asset: Arrivals,
    /// Digests of records that no edge of ours wrote, by `<topic>:<partition>:<offset>`.
    foreign: HashMap<String, u64>,
    topic: String,
    told: Vec<ToldGap>,
    /// Numbers of an asset whose loss is told: as many of its values are not missing, but told.
    told_numbers: HashMap<String, u64>,
    deaf: Vec<Deaf>,
    /// Up to where Kafka was read, by edge.
    ends: HashMap<String, Position>,
    jetstream: Option<Arrivals>,
    plain: Option<Arrivals>,
    away: Vec<(i64, i64)>,
    /// What was served while the plain subscriber was away.
    unserved: Arrivals,
    verdict: Verdict,
}

impl Judge {
    /// A judge who knows what devices said; `topic` is the asset stream's.
    pub fn new(journal: Journal, topic: impl Into<String>) -> Self {
        Self {
            tags: journal.into_states(),
            assets: HashMap::new(),
            log: Arrivals::default(),
            by_asset: Arrivals::default(),
            foreign: HashMap::new(),
            topic: topic.into(),
            told: Vec::new(),
            told_numbers: HashMap::new(),
            deaf: Vec::new(),
            ends: HashMap::new(),
            jetstream: None,
            plain: None,
            away: Vec::new(),
            unserved: Arrivals::default(),
            verdict: Verdict::default(),
        }
    }

    /// Nobody listened to the devices between these times (Unix ms): what they said then is nobody's loss. For tests that kill the edge.
    pub fn nobody_listened(&mut self, from: i64, to: i64) {
        self.deaf.push(Deaf { from, to });
    }

    /// There is such a subscriber: it must have got everything, even if nothing comes from it.
    pub fn listens(&mut self, side: Side) {
        match side {
            Side::Kafka => {}
            Side::JetStream => drop(self.jetstream.get_or_insert_default()),
            Side::Plain => drop(self.plain.get_or_insert_default()),
        }
    }

    /// The plain subscriber had no connection between these times (Unix ms). To be said before JetStream's messages are taken, which tell what
    /// was served then.
    pub fn plain_was_away(&mut self, from: i64, to: i64) {
        self.away.push((from, to));
    }

    /// Takes the next record of a partition.
    pub fn kafka(&mut self, record: &Record) {
        self.verdict.kafka += 1;
        let place = format!("{}:{}:{}", self.topic, record.partition, record.offset);
        if let Err(problem) = self.take_record(record, &place) {
            self.verdict.harm(Harm::Altered, Side::Kafka, || format!("{place}: {problem:#}"));
        }
    }

    fn take_record(&mut self, record: &Record, place: &str) -> anyhow::Result<()> {
        let digest = digest(&record.value, &record.key);
        let at = position(&record.headers, headers::SEQUENCE)?;
        let mut is_late = record.headers.contains_key(headers::REPLAY);
        match at {
            None => drop(self.foreign.insert(place.to_owned(), digest)),
            Some(at) => {
                let edge = record.headers.get(headers::EDGE).with_context(|| format!("{} without {}", headers::SEQUENCE, headers::EDGE))?;
                let resent = is_late || record.headers.contains_key(headers::RESENT);
                let in_asset =
                    position(&record.headers, headers::ASSET_SEQUENCE)?.with_context(|| format!("no {}", headers::ASSET_SEQUENCE))?;
                if self.log.is_there(edge, at) {
                    self.repeated(edge, at, digest, resent, place);
                    return Ok(());
                }
                self.log.take(edge, at, digest);
                let counter = format!("{edge}/{}", record.key);
                match self.by_asset.take(&counter, in_asset, 0) {
                    Arrival::InOrder => {}
                    Arrival::Late { .. } if resent => {
                        is_late = true;
                        self.verdict.late += 1;
                    }
                    Arrival::Late { after } => {
                        self.verdict.harm(Harm::Reordered, Side::Kafka, || format!("{place}: {counter} {in_asset} after {after}"))
                    }
                    Arrival::Again => self.verdict.harm(Harm::Duplicated, Side::Kafka, || {
                        format!("{place}: {counter} {in_asset} under another {}", headers::SEQUENCE)
                    }),
                }
            }
        }
        let asset = self.assets.entry(record.key.clone()).or_default();
        let partition = *asset.partition.get_or_insert(record.partition);
        if partition != record.partition {
            self.verdict.harm(Harm::Reordered, Side::Kafka, || format!("{place}: {} stands in partition {partition} too", record.key));
        }
        let event = Event::decode(&record.value)?;
        if event.id == "avail" && !is_late {
            asset.connections += 1;
        }
        let connections = asset.connections;
        if event.id == "gap" && event.kind == Kind::OpenFactory {
            let written = record.headers.get(headers::EDGE).map(String::as_str).zip(at);
            self.told.push(ToldGap::read(&record.key, written, &event)?);
        }
        if let Some(tag) = self.tags.get_mut(&record.key).and_then(|items| items.get_mut(&event.id)) {
            let order = if is_late { Order::Late } else { Order::Due(connections) };
            tag.heard(&event, order, place, &mut self.verdict)?;
        }
        Ok(())
    }

    fn repeated(&mut self, edge: &str, at: Position, digest: u64, resent: bool, place: &str) {
        if self.log.digest(edge, at) != Some(digest) {
            self.verdict.harm(Harm::Altered, Side::Kafka, || format!("{place}: {edge} {at} stands twice, with different contents"));
        } else if resent {
            self.verdict.resent += 1;
        } else {
            self.verdict.harm(Harm::Duplicated, Side::Kafka, || format!("{place}: {edge} {at} stood before"));
        }
    }

    /// States that Kafka was read up to this event of the edge. What NATS serves beyond it came into Kafka after that, e.g. a gap that is told
    /// seconds after its cause, and is not judged.
    pub fn kafka_ends(&mut self, edge: &str, at: Position) {
        self.ends.insert(edge.to_owned(), at);
    }

    /// Takes the next message of a subscriber; everything of Kafka must have been taken before.
    pub fn nats(&mut self, side: Side, message: &Message) {
        let arrivals = match side {
            Side::Plain => self.plain.get_or_insert_default(),
            _ => self.jetstream.get_or_insert_default(),
        };
        let plain_misses = side == Side::JetStream && self.away.iter().any(|(from, to)| (*from..=*to).contains(&message.at));
        let name = message.headers.get(headers::NATS_MESSAGE_ID).cloned().unwrap_or_default();
        let Some((asset, item)) = message.subject.split_once('.') else {
            self.verdict.harm(Harm::Altered, side, || format!("{}: the subject is not <asset>.<ID>", message.subject));
            return;
        };
        let found = position(&message.headers, headers::SEQUENCE);
        let expected = match (&found, message.headers.get(headers::EDGE)) {
            (Ok(Some(at)), Some(edge)) if self.ends.get(edge).is_some_and(|end| end.epoch == at.epoch && at.n > end.n) => return,
            (Ok(Some(at)), Some(edge)) => {
                if let Arrival::Again = arrivals.take(edge, *at, 0) {
                    self.verdict.harm(Harm::Duplicated, side, || format!("{} {edge} {at} came before", message.subject));
                    return;
                }
                if plain_misses {
                    self.unserved.take(edge, *at, 0);
                }
                if let Ok(Some(in_asset)) = position(&message.headers, headers::ASSET_SEQUENCE)
                    && let Arrival::Late { after } = arrivals.take(&format!("{edge}/{asset}"), in_asset, 0)
                    && ![headers::REPLAY, headers::RESENT].iter().any(|mark| message.headers.contains_key(*mark))
                {
                    self.verdict.harm(Harm::Reordered, side, || format!("{} {in_asset} after {after}", message.subject));
                }
                self.log.digest(edge, *at)
            }
            (Ok(None), _) => {
                if let Arrival::Again = arrivals.take_named(&name) {
                    self.verdict.harm(Harm::Duplicated, side, || format!("{} {name} came before", message.subject));
                    return;
                }
                if plain_misses {
                    self.unserved.take_named(&name);
                }
                self.foreign.get(&name).copied()
            }
            _ => None,
        };
        match (expected, served(&message.payload, item, asset)) {
            (None, _) => self.verdict.harm(Harm::Altered, side, || format!("{} {name} stands nowhere in Kafka", message.subject)),
            (Some(_), Err(problem)) => self.verdict.harm(Harm::Altered, side, || format!("{} {name}: {problem:#}", message.subject)),
            (Some(expected), Ok(digest)) if expected != digest => {
                let payload = String::from_utf8_lossy(&message.payload).into_owned();
                self.verdict.harm(Harm::Altered, side, || format!("{} {name} differs from its record: {payload}", message.subject));
            }
            _ => {}
        }
        match side {
            Side::Plain => self.verdict.plain += 1,
            _ => self.verdict.jetstream += 1,
        }
    }

    /// Tags whose last value has not come to Kafka yet: what a reader still has to wait for.
    pub fn outstanding(&self) -> usize {
        self.tags.values().flat_map(HashMap::values).filter(|tag| !tag.ended()).count()
    }

    /// How many of Kafka's records a subscriber has not got yet.
    pub fn unserved(&self, side: Side) -> usize {
        let got = match side {
            Side::Plain => &self.plain,
            _ => &self.jetstream,
        };
        let records = self.log.count() + self.foreign.len();
        records.saturating_sub(got.as_ref().map_or(0, Arrivals::count_of_logs))
    }

    /// The end: `durable` is what each edge says of its log (edge, epoch, last durable number).
    pub fn verdict(mut self, durable: &[(String, Position)]) -> Verdict {
        self.judge_sequences(durable);
        self.judge_values();
        let sides = [(Side::JetStream, self.jetstream.take()), (Side::Plain, self.plain.take())];
        for (side, arrivals) in sides {
            let Some(arrivals) = arrivals else { continue };
            let is_excused = |excused: bool| side == Side::Plain && excused;
            for (edge, position) in self.log.all().filter(|(edge, position)| !arrivals.is_there(edge, *position)) {
                if is_excused(self.unserved.is_there(edge, position)) {
                    self.verdict.away += 1;
                } else {
                    self.verdict.harm(Harm::Missing, side, || format!("{edge} {position} is in Kafka but was not served"));
                }
            }
            for name in self.foreign.keys().filter(|name| !arrivals.is_named(name)) {
                if is_excused(self.unserved.is_named(name)) {
                    self.verdict.away += 1;
                } else {
                    self.verdict.harm(Harm::Missing, side, || format!("{name} is in Kafka but was not served"));
                }
            }
        }
        self.verdict
    }

    /// Numbers that are not there, up to the highest that is there or that the edge calls durable.
    fn judge_sequences(&mut self, durable: &[(String, Position)]) {
        for (edge, at) in durable {
            self.log.extend(edge, *at);
            self.verdict.durable += at.n;
        }
        if durable.is_empty() {
            // Nobody told: what stands in Kafka was durable before.
            self.verdict.durable = self.log.highest();
        }
        for gap in &self.told {
            gap.check_count(&self.by_asset, &mut self.verdict);
        }
        let mut absent = 0;
        for (edge, position) in self.log.absent() {
            if self.told.iter().any(|gap| gap.tells_sequence(&edge, position)) {
                self.verdict.told += 1;
            } else {
                absent += 1;
                self.verdict.describe(Side::Kafka, || format!("{edge} {position} does not stand in Kafka, and no gap event tells it"));
            }
        }
        let mut absent_of_assets = 0;
        for (counter, position) in self.by_asset.absent() {
            if let Some(gap) = self.told.iter().find(|gap| gap.tells_asset_sequence(&counter, position)) {
                *self.told_numbers.entry(gap.asset.clone()).or_default() += 1;
            } else {
                absent_of_assets += 1;
                self.verdict.describe(Side::Kafka, || {
                    format!("{counter} {position} (of the asset) does not stand in Kafka, and no gap event tells it")
                });
            }
        }
        // Two counts of the same events.
        self.verdict.missing_numbers = absent.max(absent_of_assets);
    }

    /// Values that were said and do not stand in Kafka.
    fn judge_values(&mut self) {
        let (told, deaf) = (&self.told, &self.deaf);
        let mut credit: Vec<Option<u64>> = told.iter().map(|gap| gap.count).collect();
        let mut missing = Vec::new();
        for (asset, items) in &self.tags {
            for (item, tag) in items {
                self.verdict.observed += tag.said();
                missing.extend(tag.missing().map(|(value, said_at)| Missing { said_at, asset, item, value, slack: tag.slack() }));
            }
        }
        // Gaps may overlap in time. Each value is told by the gap that ends first, of those that can tell it and have not told all that they
        // count: in the order of time, that leaves no value untold that any other choice would tell.
        // What was said while nobody can have listened may have been heard all the same, and told: it takes what the others leave.
        let is_deaf = |at: i64| deaf.iter().any(|deaf| (deaf.from..=deaf.to).contains(&at));
        missing.sort_by_key(|missing| (is_deaf(missing.said_at), missing.said_at));
        for Missing { said_at, asset, item, value, slack } in missing {
            let tells = |gap: &ToldGap| gap.is_of_the_device() && gap.tells_value(asset, item, said_at, slack);
            let tellers = (0..told.len()).filter(|place| credit[*place] != Some(0) && tells(&told[*place]));
            if let Some(place) = tellers.min_by_key(|place| told[*place].ends()) {
                credit[place] = credit[place].map(|left| left - 1);
                self.verdict.told_values += 1;
                continue;
            }
            if is_deaf(said_at) {
                self.verdict.observed -= 1;
                self.verdict.unheard += 1;
                continue;
            }
            if let Some(left @ 1..) = self.told_numbers.get_mut(asset) {
                *left -= 1;
                self.verdict.told_values += 1;
                continue;
            }
            self.verdict.missing_values += 1;
            self.verdict.describe(Side::Kafka, || format!("{asset} {item} said {value} at {said_at}: not in Kafka"));
        }
        // A gateway that tells how many it lost must be right: what it told too much was not lost.
        for (gap, left) in told.iter().zip(credit) {
            // At a start, facts and last values that are stated again may be refused, too: nobody said them then.
            let is_of_a_start = deaf.iter().any(|deaf| gap.touches(deaf.from, deaf.to + START));
            let stated = |tags: &HashMap<String, TagState>| if is_of_a_start { tags.len() as u64 + FACTS } else { 0 };
            if let Some(left @ 1..) = left
                && gap.is_of_the_device()
                && self.tags.get(&gap.asset).is_some_and(|tags| left > stated(tags))
            {
                self.verdict
                    .harm(Harm::WrongGap, Side::Kafka, || format!("{}: a gap event counts {left} too many: {}", gap.asset, gap.text));
            }
        }
    }
}

fn position(headers: &BTreeMap<String, String>, name: &str) -> anyhow::Result<Option<Position>> {
    headers.get(name).map(|text| text.parse().with_context(|| format!("header {name}: {text:?}"))).transpose()
}

/// A record's contents as one number: the same for equal JSON, whatever the order of its fields.
fn digest(value: &[u8], key: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    match serde_json::from_slice::<Json>(value) {
        Ok(mut json) => {
            // Writers may spell it in lower case; a message has none, and gets this one back.
            if let Some(id) = json.as_object_mut().and_then(|fields| fields.remove("id")) {
                json["ID"] = id;
            }
            hash_json(&json, &mut hasher);
        }
        Err(_) => value.hash(&mut hasher),
    }
    hasher.finish()
}

fn hash_json(json: &Json, hasher: &mut std::hash::DefaultHasher) {
    use std::hash::Hash as _;
    match json {
        Json::Object(fields) => {
            let sorted: BTreeMap<&String, &Json> = fields.iter().collect();
            for (name, value) in sorted {
                name.hash(hasher);
                hash_json(value, hasher);
            }
        }
        Json::Array(values) => values.iter().for_each(|value| hash_json(value, hasher)),
        scalar => scalar.to_string().hash(hasher),
    }
}

/// The digest of the record that a message was made of: puts back the `ID` and takes away what the forwarder adds.
fn served(payload: &[u8], item: &str, asset: &str) -> anyhow::Result<u64> {
    // What a subject cannot carry, it carries escaped.
    let item = subject::unescape(item).and_then(|item| String::from_utf8(item).ok()).context("the subject's second token is no ID")?;
    let mut json: Json = serde_json::from_slice(payload).context("the payload is no JSON")?;
    let fields = json.as_object_mut().context("the payload is no JSON object")?;
    anyhow::ensure!(!fields.keys().any(|name| name.eq_ignore_ascii_case("ID")), "the payload still has its ID");
    fields.insert("ID".into(), item.into());
    let attributes = fields.get_mut("attributes").and_then(Json::as_object_mut).context("the payload has no attributes")?;
    for added in ["kafka_timestamp", "kafka_timestamp_type", "asset_forwarder_timestamp"] {
        attributes.remove(added).with_context(|| format!("the payload has no attributes.{added}"))?;
    }
    Ok(digest(&serde_json::to_vec(&json)?, asset))
}
