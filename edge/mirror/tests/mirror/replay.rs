//! What the log retains, sent again: a range, and what Kafka has lost.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use edge_buffer::{Cursor, Entry, Log, View};
use edge_mirror::replay::{self, Action, Job, Outcome, Phase, ReplayError, Selection, Step, Unfinished};
use edge_mirror::{Config, Mirror};
use rdkafka::admin::AdminOptions;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::support::{
    Bench, Record, admin, append, append_entries, block_on, config, create_topic, delete_topic, fresh, judge, kafka, open_log, read_all,
    wait_mirrored,
};

/// Events of the log, its own of the mirror not counted.
const EVENTS: u64 = 20_000;

struct Case {
    kafka: String,
    topic: String,
    bench: Bench,
    config: Config,
    folder: tempfile::TempDir,
}

impl Case {
    /// A log whose events stand in Kafka; `None` without a broker.
    fn mirrored(what: &str) -> Option<Self> {
        let kafka = kafka()?;
        let (bench, topic) = (open_log(), fresh(what));
        create_topic(&kafka, &topic, &[]);
        append(&bench.log, EVENTS as usize, 10);
        let config = config(&kafka, &topic);
        let case = Self { kafka, topic, bench, config, folder: tempfile::tempdir().expect("a directory") };
        case.mirror();
        Some(case)
    }

    fn mirror(&self) {
        let mirror = Mirror::start(self.config.clone(), self.bench.log.clone()).expect("starts");
        wait_mirrored(&mirror, &self.bench.log);
        let status = mirror.status();
        assert_eq!((status.repeats, status.holes, status.refused), (0, 0, 0), "{status:#?}");
        mirror.stop(Duration::from_secs(5));
    }

    fn job<'a>(&'a self, view: &'a View, selection: Selection) -> Job<'a> {
        let (folder, request) = (self.folder.path().join("replay"), format!("{selection:?}"));
        Job { config: &self.config, view, selection, folder, request, unfinished: Unfinished::Resume }
    }

    fn view(&self) -> View {
        View::open(self.bench.dir()).expect("a log")
    }

    fn reconcile(&self, action: Action) -> Outcome {
        let view = self.view();
        replay::reconcile(&self.job(&view, all()), action, &mut |_| ControlFlow::Continue(())).expect("Kafka is there")
    }

    fn records(&self) -> Vec<Record> {
        read_all(&self.kafka, &self.topic)
    }

    /// Deletes the first half of each partition's records.
    fn delete_half(&self) -> u64 {
        let mut list = TopicPartitionList::new();
        let mut deleted = 0;
        for partition in 0..4 {
            let half = self.records().iter().filter(|record| record.partition == partition).count() as i64 / 2;
            deleted += half as u64;
            list.add_partition_offset(&self.topic, partition, Offset::Offset(half)).expect("a place");
        }
        block_on(admin(&self.kafka).delete_records(&list, &AdminOptions::new())).expect("deleted");
        deleted
    }
}

fn all() -> Selection {
    Selection { times: 0..i64::MAX, assets: BTreeSet::new() }
}

/// Stops as a kill would, as far as a file can tell: the place that was kept last is put back afterwards.
fn killed_after(case: &Case, job: &Job<'_>, events: u64) {
    let folder = case.folder.path().join("replay");
    let mut before = None;
    let stopped = replay::replay(job, &mut |step: Step| {
        if step.phase == Phase::Sending {
            before.get_or_insert_with(|| progress(&folder));
        }
        if step.phase == Phase::Sending && step.done >= events { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let outcome = stopped.expect("Kafka is there");
    assert!(!outcome.is_complete && outcome.sent >= events, "{outcome:?}");
    let (file, text) = before.expect("it had begun");
    std::fs::write(file, text).expect("written");
}

/// The one file of an unfinished run.
fn progress(folder: &Path) -> (std::path::PathBuf, Vec<u8>) {
    let files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let file = files.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "json")).expect("an unfinished run");
    let text = std::fs::read(&file).expect("readable");
    (file, text)
}

/// The first record of each event, and how many others there are, all of them marked.
fn without_repeats(records: Vec<Record>) -> (Vec<Record>, usize) {
    let (mut seen, mut repeats) = (BTreeSet::new(), 0);
    let first = records.into_iter().filter(|record| {
        let is_first = seen.insert(record.sequence);
        assert!(is_first || record.replay.is_some(), "a repeat without a mark: {record:?}");
        repeats += usize::from(!is_first);
        is_first
    });
    let first: Vec<Record> = first.collect();
    (first, repeats)
}

#[test]
fn a_range_is_sent_again_as_it_was_and_marked() {
    let Some(case) = Case::mirrored("replay") else { return };
    let (from, view) = (case.bench.log.durable() + 1, case.view());
    // A second stretch of time, an hour later.
    let later = 3_600_000 + case.records().iter().map(|record| record.timestamp).max().expect("records");
    let at = |n: u64| Entry { key: format!("ASSET-{:03}", n % 10).into(), timestamp: later + n as i64, value: n.to_string().into_bytes() };
    append_entries(&case.bench.log, (0..1_000).map(at).collect());
    drop(view);
    case.mirror();
    let view = case.view();
    let assets = ["ASSET-003".to_owned(), "ASSET-004".to_owned()].into();
    let selection = Selection { times: later + 100..later + 600, assets };
    let plan = replay::plan(&view, &selection, &mut |_| ControlFlow::Continue(())).expect("a plan");
    assert_eq!((plan.events, plan.assets.len(), plan.times), (100, 2, Some((later + 103, later + 594))), "{plan:?}");
    let before = case.records();
    let outcome = replay::replay(&case.job(&view, selection), &mut |_| ControlFlow::Continue(())).expect("Kafka is there");
    assert_eq!((outcome.sent, outcome.is_complete, outcome.is_resumed), (100, true, false), "{outcome:?}");
    let again: Vec<Record> = case.records().into_iter().filter(|record| record.replay.is_some()).collect();
    assert_eq!(again.len(), 100);
    let mut last = std::collections::HashMap::new();
    for record in again {
        assert_eq!(record.replay.as_ref(), Some(&outcome.id));
        assert!(last.insert(record.key.clone(), record.sequence).is_none_or(|last| last < record.sequence), "in order: {record:?}");
        let original = before.iter().find(|original| original.sequence == record.sequence).expect("it stood before");
        assert_eq!(Record { replay: None, ..record }, *original);
    }
    assert!(
        std::fs::read_dir(case.folder.path().join("replay")).expect("a folder").all(|file| file.expect("a file").file_name() == "lock")
    );
    // A mirror that starts now sees no doubt in it.
    append(&case.bench.log, 10, 10);
    case.mirror();
    let (records, repeats) = without_repeats(case.records());
    judge(&records, &case.bench.log, &[]);
    assert_eq!(repeats, 100);
    assert!(from > EVENTS);
}

#[test]
fn a_replay_that_was_killed_goes_on_and_sends_nothing_twice() {
    let Some(case) = Case::mirrored("killed") else { return };
    let view = case.view();
    let job = case.job(&view, all());
    killed_after(&case, &job, 5_000);
    let outcome = replay::replay(&job, &mut |_| ControlFlow::Continue(())).expect("Kafka is there");
    assert!(outcome.is_resumed && outcome.is_complete, "{outcome:?}");
    assert_eq!(outcome.sent, outcome.plan.events, "{outcome:?}");
    let again = case.records().into_iter().filter(|record| record.replay.as_ref() == Some(&outcome.id));
    let mut sequences: Vec<u64> = again.map(|record| record.sequence).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=case.bench.log.durable()).collect::<Vec<_>>(), "each event once under the id");
}

#[test]
fn an_unfinished_replay_can_be_begun_anew_and_two_at_a_time_are_refused() {
    let Some(case) = Case::mirrored("anew") else { return };
    let view = case.view();
    let job = case.job(&view, all());
    killed_after(&case, &job, 1_000);
    let (mut second, mut ids) = (None, BTreeSet::new());
    let job = Job { unfinished: Unfinished::Restart, ..case.job(&view, all()) };
    let outcome = replay::replay(&job, &mut |_| {
        let watch = &mut |_: Step| ControlFlow::Continue(());
        second.get_or_insert_with(|| replay::replay(&case.job(&view, all()), watch));
        ControlFlow::Continue(())
    });
    assert!(matches!(second, Some(Err(ReplayError::Busy(_)))), "{second:?}");
    let outcome = outcome.expect("Kafka is there");
    assert!(!outcome.is_resumed && outcome.sent == case.bench.log.durable(), "{outcome:?}");
    case.records().into_iter().for_each(|record| ids.extend(record.replay));
    assert_eq!(ids.len(), 2, "{ids:?}");
}

#[test]
fn what_kafka_deleted_is_sent_again_and_nothing_else() {
    let Some(case) = Case::mirrored("deleted-half") else { return };
    assert_eq!(case.reconcile(Action::Send).comparison.expect("compared").total().missing, 0);
    let deleted = case.delete_half();
    let found = case.reconcile(Action::Report).comparison.expect("compared").total();
    assert_eq!((found.missing, found.present), (deleted, EVENTS - deleted), "{found:?}");
    let outcome = case.reconcile(Action::Send);
    assert_eq!((outcome.sent, outcome.verified, outcome.is_complete), (deleted, Some(deleted), true), "{outcome:?}");
    let again = case.reconcile(Action::Send);
    let total = again.comparison.expect("compared").total();
    assert_eq!(
        (again.sent, total.missing, total.present, total.repeated, total.marked, total.altered),
        (0, 0, EVENTS, 0, 0, 0),
        "{total:?}"
    );
    let records = case.records();
    assert_eq!(records.iter().filter(|record| record.replay.is_some()).count() as u64, deleted);
    judge_set(&records, &case.bench.log);
    // The mirror goes on as if nothing had been.
    append(&case.bench.log, 100, 10);
    case.mirror();
    judge_set(&case.records(), &case.bench.log);
}

#[test]
fn a_topic_made_anew_is_filled_by_reconciling_also_if_that_is_killed() {
    let Some(case) = Case::mirrored("made-anew") else { return };
    delete_topic(&case.kafka, &case.topic);
    create_topic(&case.kafka, &case.topic, &[]);
    append(&case.bench.log, 100, 10);
    case.mirror();
    let view = case.view();
    let job = case.job(&view, all());
    let folder = case.folder.path().join("replay");
    let mut kept = None;
    let stopped = replay::reconcile(&job, Action::Send, &mut |step: Step| {
        if step.phase == Phase::Sending {
            kept.get_or_insert_with(|| progress(&folder));
        }
        if step.phase == Phase::Sending && step.done > 3_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(!stopped.expect("Kafka is there").is_complete);
    let (file, text) = kept.expect("it had begun");
    std::fs::write(file, text).expect("written");
    let outcome = case.reconcile(Action::Send);
    assert!(outcome.is_resumed && outcome.is_complete && outcome.sent <= EVENTS - 3_000, "{outcome:?}");
    judge_set(&case.records(), &case.bench.log);
    assert_eq!(case.reconcile(Action::Send).sent, 0);
}

#[test]
fn what_the_topic_would_delete_at_once_is_told_and_not_sent() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("expired"));
    create_topic(&kafka, &topic, &[("retention.ms", "86400000")]);
    let now = fresh_millis();
    let event = |n: i64, at: i64| Entry { key: "ASSET-001".into(), timestamp: at + n, value: n.to_string().into_bytes() };
    append_entries(&bench.log, (0..100).map(|n| event(n, now - 3 * 86_400_000)).chain((0..50).map(|n| event(n, now))).collect());
    let config = config(&kafka, &topic);
    // As if an earlier topic had taken everything.
    let case = Case { kafka, topic, bench, config, folder: tempfile::tempdir().expect("a directory") };
    case.bench.log.keep_cursor(Cursor::MIRROR, Cursor { sequence: 150, note: Vec::new() }).expect("kept");
    let outcome = case.reconcile(Action::Send);
    let total = outcome.comparison.clone().expect("compared").total();
    assert_eq!((total.expired, total.missing, outcome.sent), (100, 50, 50), "{outcome:?}");
    assert_eq!(case.records().len(), 50);
}

#[test]
fn what_kafka_refused_once_stays_a_gap() {
    let Some(kafka) = kafka() else { return };
    let (bench, topic) = (open_log(), fresh("refused"));
    create_topic(&kafka, &topic, &[("max.message.bytes", "100000")]);
    append(&bench.log, 100, 1);
    // What does not compress.
    let noise = (0..300_000_u64).map(|n| (n.wrapping_mul(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    append_entries(&bench.log, vec![Entry { key: "ASSET-000".into(), timestamp: fresh_millis(), value: noise }]);
    append(&bench.log, 100, 1);
    let config = config(&kafka, &topic);
    let case = Case { kafka, topic, bench, config, folder: tempfile::tempdir().expect("a directory") };
    let mirror = Mirror::start(case.config.clone(), case.bench.log.clone()).expect("starts");
    wait_mirrored(&mirror, &case.bench.log);
    mirror.stop(Duration::from_secs(5));
    delete_topic(&case.kafka, &case.topic);
    create_topic(&case.kafka, &case.topic, &[("max.message.bytes", "100000")]);
    let outcome = case.reconcile(Action::Send);
    let total = outcome.comparison.clone().expect("compared").total();
    assert_eq!((total.refused, total.missing, outcome.sent, outcome.refused), (1, 201, 201, 0), "{outcome:?}");
    let view = case.view();
    let selection = Selection { times: 0..i64::MAX, assets: ["ASSET-000".to_owned()].into() };
    let outcome = replay::replay(&case.job(&view, selection), &mut |_| ControlFlow::Continue(())).expect("Kafka is there");
    assert_eq!((outcome.plan.refused, outcome.is_complete), (1, true), "{outcome:?}");
}

/// As [`judge`], whatever the order: what was missing stands behind what came later.
fn judge_set(records: &[Record], log: &Log) {
    let mut records = records.to_vec();
    records.sort_by_key(|record| record.sequence);
    judge(&records, log, &[]);
}

fn fresh_millis() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis() as i64
}
