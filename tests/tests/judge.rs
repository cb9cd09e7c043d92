//! The judge must be able to fail: each kind of harm, done to a run that was clean, must be found as what it is.

use std::collections::BTreeMap;

use asset_stream::Position;
use serde_json::json;
use system_tests::judge::{Journal, Judge, Message, Record, Side, Value, Verdict};

const ASSET: &str = "OPCUA-001";
const EDGE: &str = "edge-1";
const EPOCH: u64 = 1_769_528_223_871;
const START: i64 = 1_769_528_300_000;

/// A clean run: `avail`, then ten values of two tags, in Kafka and on NATS.
struct Run {
    journal: Vec<(&'static str, Value)>,
    records: Vec<Record>,
    jetstream: Vec<Message>,
    plain: Vec<Message>,
    /// When the plain subscriber had no connection.
    away: Option<(i64, i64)>,
    durable: u64,
}

fn at(n: i64) -> String {
    asset_stream::Timestamp::from_millis(START + n).to_string()
}

fn record(n: u64, id: &str, value: &serde_json::Value, kind: &str, millis: i64) -> Record {
    let json =
        json!({"ID": id, "VALUE": value, "TAG": "Counter", "TYPE": kind, "attributes": {"timestamp": at(millis), "quality": "Good"}});
    Record { partition: 2, offset: n as i64, key: ASSET.into(), headers: numbered(n, n), value: json.to_string().into_bytes() }
}

fn numbered(n: u64, in_asset: u64) -> BTreeMap<String, String> {
    let position = |n| Position { epoch: EPOCH, n }.to_string();
    [
        ("of-edge", EDGE.to_owned()),
        ("of-seq", position(n)),
        ("of-asset-seq", position(in_asset)),
        ("Nats-Msg-Id", format!("{EDGE}:{}", position(n))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn message(record: &Record) -> Message {
    let mut json: serde_json::Value = serde_json::from_slice(&record.value).expect("we made it");
    let id = json.as_object_mut().and_then(|fields| fields.remove("ID")).expect("records have an ID");
    for (name, text) in [("kafka_timestamp", at(0)), ("kafka_timestamp_type", "producer".into()), ("asset_forwarder_timestamp", at(9))] {
        json["attributes"][name] = text.into();
    }
    let subject = format!("{}.{}", record.key, id.as_str().expect("an ID is text"));
    Message { subject, headers: record.headers.clone(), payload: json.to_string().into_bytes(), at: START + record.offset }
}

impl Run {
    fn clean() -> Self {
        let mut journal = Vec::new();
        let mut records = vec![record(1, "avail", &json!("AVAILABLE"), "Events", 0)];
        for step in 0..10 {
            let tag = ["t0", "t1"][step % 2];
            let value = step as u64 / 2;
            journal.push((tag, Value { value, at: START + step as i64 }));
            records.push(record(step as u64 + 2, tag, &json!(value), "Samples", step as i64));
        }
        let messages: Vec<Message> = records.iter().map(message).collect();
        Self { journal, records, jetstream: messages.clone(), plain: messages, away: None, durable: 11 }
    }

    fn verdict(self) -> Verdict {
        let mut journal = Journal::default();
        for (tag, value) in self.journal {
            journal.say(ASSET, tag, value).expect("values go up");
        }
        let mut judge = Judge::new(journal, "assets");
        self.records.iter().for_each(|record| judge.kafka(record));
        for side in [Side::JetStream, Side::Plain] {
            judge.listens(side);
        }
        if let Some((from, to)) = self.away {
            judge.plain_was_away(from, to);
        }
        self.jetstream.iter().for_each(|message| judge.nats(Side::JetStream, message));
        self.plain.iter().for_each(|message| judge.nats(Side::Plain, message));
        judge.verdict(&[(EDGE.into(), Position { epoch: EPOCH, n: self.durable })])
    }

    /// Takes an event away everywhere behind the device.
    fn lose(mut self, n: usize) -> Self {
        self.records.remove(n);
        self.jetstream.remove(n);
        self.plain.remove(n);
        self
    }

    /// Adds a gap event as number 12.
    fn tell(mut self, gap: serde_json::Value) -> Self {
        let mut told = gap;
        for (name, millis) in [("from", 0), ("to", 100)] {
            if told.get(name).is_none() {
                told[name] = at(millis).into();
            }
        }
        let record = record(12, "gap", &json!(told.to_string()), "OpenFactory", 50);
        self.jetstream.push(message(&record));
        self.plain.push(message(&record));
        self.records.push(record);
        self.durable = 12;
        self
    }
}

/// missing, duplicated, reordered, altered, wrong gaps.
fn harms(verdict: &Verdict) -> [u64; 5] {
    [verdict.missing(), verdict.duplicated, verdict.reordered, verdict.altered, verdict.wrong_gaps]
}

#[track_caller]
fn finds(run: Run, expected: [u64; 5]) {
    let verdict = run.verdict();
    assert_eq!(harms(&verdict), expected, "[missing, duplicated, reordered, altered, wrong gaps] of {verdict}\n{:#?}", verdict.harms);
    assert_eq!(verdict.is_clean(), expected == [0; 5], "{verdict}");
    assert_eq!(verdict.harms.is_empty(), expected == [0; 5], "harms must be described: {:#?}", verdict.harms);
}

#[test]
fn a_clean_run_is_clean() {
    finds(Run::clean(), [0; 5]);
    let line = Run::clean().verdict().to_string();
    assert_eq!(line, "observed=10 durable=11 kafka=11 nats=11 missing=0 duplicated=0 reordered=0");
}

#[test]
fn an_empty_run_proves_nothing() {
    let run = Run { journal: Vec::new(), records: Vec::new(), jetstream: Vec::new(), plain: Vec::new(), away: None, durable: 0 };
    assert!(!run.verdict().is_clean());
}

#[test]
fn a_record_missing_in_kafka_is_found() {
    finds(Run::clean().lose(5), [1, 0, 0, 0, 0]);
}

#[test]
fn a_durable_event_missing_at_the_end_of_kafka_is_found() {
    finds(Run { durable: 12, ..Run::clean() }, [1, 0, 0, 0, 0]);
}

#[test]
fn a_fact_of_the_edge_missing_in_kafka_is_found() {
    finds(Run::clean().lose(0), [1, 0, 0, 0, 0]);
}

#[test]
fn a_value_that_never_reached_the_log_is_found() {
    let mut run = Run::clean();
    run.journal.push(("t0", Value { value: 5, at: START + 20 }));
    finds(run, [1, 0, 0, 0, 0]);
}

#[test]
fn a_record_standing_twice_is_found() {
    let mut run = Run::clean();
    run.records.insert(6, Record { offset: 100, ..run.records[4].clone() });
    finds(run, [0, 1, 0, 0, 0]);
}

#[test]
fn a_repeat_that_says_so_is_no_harm() {
    let mut run = Run::clean();
    let mut resent = Record { offset: 100, ..run.records[4].clone() };
    resent.headers.insert("of-resent".into(), "1".into());
    run.records.insert(6, resent);
    finds(run, [0; 5]);
}

#[test]
fn what_comes_late_and_says_so_stood_before_or_was_missing() {
    for mark in ["of-replay", "of-resent"] {
        let mut run = Run::clean();
        let marked = |record: &Record| {
            let mut record = Record { offset: 100, ..record.clone() };
            record.headers.insert(mark.into(), "1795669022304".into());
            record
        };
        let repeat = marked(&run.records[4]);
        let missing = marked(&run.records.remove(5));
        run.records.extend([repeat, missing]);
        finds(run, [0; 5]);
    }
    // The same without the mark.
    let mut run = Run::clean();
    let missing = run.records.remove(5);
    run.records.push(missing);
    finds(run, [0, 0, 2, 0, 0]);
}

#[test]
fn a_repeat_that_says_so_with_other_contents_is_found() {
    let mut run = Run::clean();
    let mut resent = Record { offset: 100, ..run.records[4].clone() };
    resent.headers.insert("of-resent".into(), "1".into());
    resent.value = run.records[5].value.clone();
    run.records.insert(6, resent);
    finds(run, [0, 0, 0, 1, 0]);
}

#[test]
fn a_value_told_twice_under_new_numbers_is_found() {
    let mut run = Run::clean();
    let again = record(12, "t1", &json!(4), "Samples", 9);
    run.jetstream.push(message(&again));
    run.plain.push(message(&again));
    run.records.push(again);
    run.durable = 12;
    finds(run, [0, 1, 0, 0, 0]);
}

#[test]
fn a_last_value_stated_again_after_a_reconnect_is_no_harm() {
    let mut run = Run::clean();
    for record in [record(12, "avail", &json!("AVAILABLE"), "Events", 20), record(13, "t1", &json!(4), "Samples", 9)] {
        run.jetstream.push(message(&record));
        run.plain.push(message(&record));
        run.records.push(record);
    }
    run.durable = 13;
    finds(run, [0; 5]);
}

#[test]
fn swapped_records_are_found() {
    let mut run = Run::clean();
    run.records.swap(3, 4);
    finds(run, [0, 0, 1, 0, 0]);
    let mut run = Run::clean();
    // The same tag: its numbers and its values are out of order.
    run.records.swap(3, 5);
    finds(run, [0, 0, 3, 0, 0]);
}

#[test]
fn an_asset_in_two_partitions_is_found() {
    let mut run = Run::clean();
    run.records[10].partition = 1;
    finds(run, [0, 0, 1, 0, 0]);
}

#[test]
fn an_invented_value_is_found() {
    let mut run = Run::clean();
    let invented = record(5, "t1", &json!(77), "Samples", 3);
    run.jetstream[4] = message(&invented);
    run.plain[4] = message(&invented);
    run.records[4] = invented;
    // The value that was replaced is missing.
    finds(run, [1, 0, 0, 1, 0]);
}

#[test]
fn a_wrong_timestamp_is_found() {
    let mut run = Run::clean();
    let shifted = record(5, "t1", &json!(1), "Samples", 4);
    run.jetstream[4] = message(&shifted);
    run.plain[4] = message(&shifted);
    run.records[4] = shifted;
    finds(run, [0, 0, 0, 1, 0]);
}

#[test]
fn a_message_that_nats_did_not_serve_is_found_on_either_side() {
    let mut run = Run::clean();
    run.jetstream.remove(5);
    finds(run, [1, 0, 0, 0, 0]);
    let mut run = Run::clean();
    run.plain.remove(0);
    finds(run, [1, 0, 0, 0, 0]);
}

#[test]
fn a_subscriber_who_got_nothing_at_all_is_found_on_either_side() {
    let mut run = Run::clean();
    run.jetstream.clear();
    finds(run, [11, 0, 0, 0, 0]);
    let mut run = Run::clean();
    run.plain.clear();
    finds(run, [11, 0, 0, 0, 0]);
}

#[test]
fn what_a_plain_subscriber_misses_without_a_connection_is_no_harm_and_nothing_else_is_excused() {
    let away = Some((START + 4, START + 6));
    let mut run = Run { away, ..Run::clean() };
    let of_records = |numbers: [usize; 2]| numbers.map(|n| run.plain[n].at - START);
    assert_eq!(of_records([3, 5]), [4, 6], "records 3 to 5 were served while it was away");
    run.plain.drain(3..6);
    finds(run, [0; 5]);
    let mut run = Run { away, ..Run::clean() };
    run.plain.drain(2..7);
    finds(run, [2, 0, 0, 0, 0]);
    let mut run = Run { away, ..Run::clean() };
    run.jetstream.drain(3..6);
    finds(run, [3, 0, 0, 0, 0]);
}

#[test]
fn a_message_served_twice_is_found_on_either_side() {
    let mut run = Run::clean();
    run.jetstream.insert(7, run.jetstream[5].clone());
    finds(run, [0, 1, 0, 0, 0]);
    let mut run = Run::clean();
    run.plain.push(run.plain[10].clone());
    finds(run, [0, 1, 0, 0, 0]);
}

#[test]
fn swapped_messages_are_found_on_either_side() {
    let mut run = Run::clean();
    run.jetstream.swap(2, 3);
    finds(run, [0, 0, 1, 0, 0]);
    let mut run = Run::clean();
    run.plain.swap(8, 9);
    finds(run, [0, 0, 1, 0, 0]);
}

#[test]
fn an_altered_message_is_found_on_either_side() {
    let change = |message: &mut Message| {
        message.payload = String::from_utf8_lossy(&message.payload).replace("\"Counter\"", "\"Zähler\"").into_bytes();
    };
    let mut run = Run::clean();
    change(&mut run.jetstream[4]);
    finds(run, [0, 0, 0, 1, 0]);
    let mut run = Run::clean();
    change(&mut run.plain[4]);
    finds(run, [0, 0, 0, 1, 0]);
}

#[test]
fn a_message_under_a_wrong_subject_or_from_nowhere_is_found() {
    let mut run = Run::clean();
    run.jetstream[4].subject = format!("{ASSET}.t7");
    finds(run, [0, 0, 0, 1, 0]);
    let mut run = Run::clean();
    let mut stray = run.plain[10].clone();
    stray.headers = numbered(99, 99);
    run.plain.push(stray);
    finds(run, [0, 0, 0, 1, 0]);
}

#[test]
fn a_loss_behind_the_log_that_is_told_rightly_is_no_harm() {
    let gap = json!({"reason": "damaged", "count": 1, "sequences": [6, 6], "asset_sequences": [6, 6]});
    let verdict = Run::clean().lose(5).tell(gap.clone()).verdict();
    assert_eq!((verdict.told, verdict.told_values), (1, 1), "{verdict}\n{:#?}", verdict.harms);
    finds(Run::clean().lose(5).tell(gap), [0; 5]);
}

#[test]
fn a_gap_event_tells_the_numbers_of_its_epoch_only() {
    let gap = |epoch: u64| json!({"reason": "damaged", "count": 1, "sequences": [6, 6], "asset_sequences": [6, 6], "epoch": epoch});
    finds(Run::clean().lose(5).tell(gap(EPOCH)), [0; 5]);
    finds(Run::clean().lose(5).tell(gap(EPOCH - 1)), [1, 0, 0, 0, 0]);
}

#[test]
fn a_gap_event_with_a_wrong_count_is_found() {
    finds(
        Run::clean().lose(5).tell(json!({"reason": "damaged", "count": 2, "sequences": [6, 7], "asset_sequences": [6, 7]})),
        [0, 0, 0, 0, 1],
    );
    // Another number than the one that is missing.
    finds(
        Run::clean().lose(5).tell(json!({"reason": "damaged", "count": 1, "sequences": [7, 7], "asset_sequences": [7, 7]})),
        [1, 0, 0, 0, 1],
    );
}

#[test]
fn a_loss_before_the_log_is_told_by_time_and_item() {
    let lost = || {
        let mut run = Run::clean();
        run.journal.push(("t0", Value { value: 5, at: START + 20 }));
        run
    };
    finds(lost().tell(json!({"reason": "connection_lost"})), [0; 5]);
    finds(lost().tell(json!({"reason": "device_queue_overflow", "item": "t0", "count": 1})), [0; 5]);
    finds(lost().tell(json!({"reason": "device_queue_overflow", "item": "t1"})), [1, 0, 0, 0, 0]);
    finds(lost().tell(json!({"reason": "connection_lost", "from": at(30)})), [1, 0, 0, 0, 0]);
    finds(lost().tell(json!({"reason": "connection_lost", "count": 3})), [0, 0, 0, 0, 1]);
}

#[test]
fn records_of_other_writers_are_compared_by_their_place() {
    let foreign = |offset: i64| {
        let value = json!({"id": "x", "value": 1, "type": "Samples", "attributes": {"timestamp": at(0)}}).to_string().into_bytes();
        Record { partition: 2, offset, key: "OTHER".into(), headers: BTreeMap::new(), value }
    };
    let served = |offset: i64| {
        let value = json!({"value": 1, "type": "Samples", "attributes": {
            "timestamp": at(0), "kafka_timestamp": at(0), "kafka_timestamp_type": "producer", "asset_forwarder_timestamp": at(1)}});
        let headers = [("Nats-Msg-Id".to_owned(), format!("assets:2:{offset}"))].into();
        Message { subject: "OTHER.x".into(), headers, payload: value.to_string().into_bytes(), at: START }
    };
    let mut run = Run::clean();
    run.records.push(foreign(100));
    run.jetstream.push(served(100));
    run.plain.push(served(100));
    finds(run, [0; 5]);
    let mut run = Run::clean();
    run.records.push(foreign(100));
    run.jetstream.extend([served(100), served(100)]);
    finds(run, [1, 1, 0, 0, 0]);
}

#[test]
fn a_journal_of_runs_means_every_value_of_them() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("journal");
    // Value 0, then 1 to 4, as the records of tag t0 have them; t1 value by value.
    let mut text = format!("{ASSET}\tt0\t0\t0\t{START}\t{START}\n{ASSET}\tt0\t1\t4\t{START}\t{}\n", START + 8);
    for value in 0..5 {
        text.push_str(&format!("{ASSET}\tt1\t{value}\t{}\n", START + 2 * value + 1));
    }
    std::fs::write(&file, text)?;
    assert_eq!(Journal::read(&[&file])?.said(), 10);
    let judged = |run: Run| -> anyhow::Result<Verdict> {
        let mut judge = Judge::new(Journal::read(&[&file])?, "assets");
        run.records.iter().for_each(|record| judge.kafka(record));
        Ok(judge.verdict(&[(EDGE.into(), Position { epoch: EPOCH, n: run.durable })]))
    };
    assert_eq!(harms(&judged(Run::clean())?), [0; 5]);
    assert_eq!(harms(&judged(Run::clean().lose(3))?), [1, 0, 0, 0, 0]);
    assert_eq!(harms(&judged(Run::clean().lose(4))?), [1, 0, 0, 0, 0]);
    Ok(())
}
