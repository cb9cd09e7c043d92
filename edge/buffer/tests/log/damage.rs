//! One test for each way in which files can be harmed. What must hold afterwards is the same for all, see [`Case::check`]:
//! the log opens; each entry that was durable is there unchanged or a loss speaks of it; no number is ever given out again; the log goes on;
//! once settled, a loss does not come back.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::inspect::unknown_damage;
use crate::sim::{Random, Sim};
use edge_buffer::{Appended, Config, Cursor, Entry, Error, Log, Loss, LossReason, Opened, Read, Recovery, open_on};

const HEADER: usize = 96;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    key: Arc<str>,
    key_sequence: u64,
    value: Vec<u8>,
}

/// A log of a few segments that was written, and is harmed now.
struct Case {
    config: Config,
    sim: Sim,
    /// By sequence.
    entries: BTreeMap<u64, Known>,
    epoch: u64,
}

/// A frame as it stands in a file.
#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: u8,
    at: usize,
    end: usize,
    first: u64,
    last: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Closed,
    Killed,
}

impl Case {
    /// Appends so many batches of 20 entries, each a block of its own, and ends.
    fn new(batches: usize, ending: Ending) -> Self {
        let config = Config {
            dir: PathBuf::from("/log"),
            segment_bytes: 8 << 10,
            max_bytes: 4 << 20,
            min_free: 0,
            block_events: 20,
            block_bytes: 2 << 10,
            linger: Duration::ZERO,
            ..Config::default()
        };
        let sim = Sim::new(7);
        let log = open_on(config.clone(), sim.storage()).expect("a new log").log;
        let mut case = Self { config, sim, entries: BTreeMap::new(), epoch: log.epoch() };
        let mut random = Random::new(3);
        for _ in 0..batches {
            case.append(&log, &mut random);
        }
        match ending {
            Ending::Closed => log.close().expect("closed"),
            // The process is gone before it can say that it closes.
            Ending::Killed => {
                case.sim = case.sim.kill();
                drop(log);
            }
        }
        case.sim = case.sim.kill();
        case
    }

    fn append(&mut self, log: &Log, random: &mut Random) {
        let entry = |i: usize| {
            let key = match random.below(12) {
                0 => format!("rare-{}", random.below(500)),
                n => format!("asset-{}", n % 5),
            };
            let filling: String = (0..60).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
            Entry { key: key.into(), timestamp: 1000 + i as i64, value: filling.into_bytes() }
        };
        let batch: Vec<Entry> = (0..20).map(entry).collect();
        let outcome = log.append_durable(batch.clone()).expect("an open log");
        let Appended::Durable { first, last } = outcome else { panic!("refused: {outcome:?}") };
        assert_eq!(last - first, 19);
        assert!(self.entries.keys().next_back().is_none_or(|before| *before < first), "the number {first} was given out twice");
        let mut reader = log.reader(first - 1);
        let read = reader.next_block(20).expect("what was just written");
        for ((sequence, read), entry) in (first..).zip(read).zip(batch) {
            let Read::Entry(stored) = read else { panic!("lost: {read:?}") };
            assert_eq!((&stored.key, &stored.value[..]), (&entry.key, &entry.value[..]));
            let before = self.entries.values().filter(|known| known.key == stored.key).map(|known| known.key_sequence).max();
            assert!(stored.key_sequence > before.unwrap_or(0), "the number {} of {} was given out twice", stored.key_sequence, stored.key);
            self.entries.insert(sequence, Known { key: stored.key, key_sequence: stored.key_sequence, value: entry.value });
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        self.sim
            .files()
            .into_iter()
            .map(|(path, _)| path)
            .filter(|path| path.parent() == Some(Path::new("/log")) && path.extension().is_some_and(|ext| ext == "seg"))
            .collect()
    }

    fn newest(&self) -> PathBuf {
        self.segments().pop().expect("a segment")
    }

    fn frames(&self, path: &Path) -> Vec<Frame> {
        let bytes = self.sim.bytes(path);
        let number = |at: usize, len: usize| bytes[at..at + len].iter().rev().fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        let (mut frames, mut at) = (Vec::new(), 0);
        while at + HEADER <= bytes.len() && bytes[at] == 0x8f {
            let end = at + (HEADER + number(at + 84, 4) as usize + 4).next_multiple_of(16);
            frames.push(Frame { kind: bytes[at + 8], at, end, first: number(at + 48, 8), last: number(at + 56, 8) });
            at = end;
        }
        frames
    }

    /// The frames of entries in a segment.
    fn blocks(&self, path: &Path) -> Vec<Frame> {
        self.frames(path).into_iter().filter(|frame| frame.kind == 1).collect()
    }

    fn flip(&self, path: &Path, at: usize) {
        self.sim.edit(path, |bytes| bytes[at] ^= 0x10);
    }

    /// Opens the log, checks what must always hold, and says what was found.
    #[track_caller]
    fn check(&mut self) -> (Recovery, Vec<Loss>) {
        let found = unknown_damage(&self.sim).expect("a log that can be looked at");
        let Opened { log, recovery } = open_on(self.config.clone(), self.sim.storage()).expect("a log opens whatever it holds");
        assert_eq!(log.epoch(), self.epoch, "the epoch");
        let lost = self.compare(&log);
        let losses = log.losses();
        for (first, last) in &lost {
            for (sequence, _) in self.entries.range(first..=last) {
                let is_told = losses.iter().any(|loss| loss.first <= *sequence && sequence <= &loss.last);
                assert!(is_told, "{sequence} is lost and nothing says so");
            }
        }
        self.check_losses(&losses);
        for loss in &losses {
            let is_seen = found
                .iter()
                .any(|damage| damage.first > 0 && damage.first <= loss.first && damage.last.is_none_or(|last| loss.last <= last));
            assert!(is_seen, "{loss:?} was not seen beforehand, only {found:#?}");
        }
        assert!(losses.is_empty() || !recovery.is_new_epoch, "{recovery:?}");
        let mut random = Random::new(99);
        for _ in 0..12 {
            self.append(&log, &mut random);
        }
        self.compare(&log);
        for loss in &losses {
            log.told(loss, log.durable()).expect("noted");
        }
        assert_eq!(log.losses(), [], "all is told");
        log.close().expect("closed");
        self.sim = self.sim.kill();
        let again = open_on(self.config.clone(), self.sim.storage()).expect("the mended log");
        assert_eq!(again.recovery.losses, [], "a loss came back");
        self.compare(&again.log);
        assert_eq!(again.log.losses(), [], "a loss came back");
        drop(again);
        let left = unknown_damage(&self.sim).expect("a log that can be looked at");
        assert!(left.iter().all(|damage| damage.first == 0), "what was told is known: {left:#?}");
        self.sim = self.sim.kill();
        (recovery, losses)
    }

    /// Reads all; the ranges that are lost.
    #[track_caller]
    fn compare(&self, log: &Log) -> Vec<(u64, u64)> {
        let (mut reader, mut lost, mut expected) = (log.reader(0), Vec::new(), 1);
        loop {
            let block = reader.next_block(7).expect("a readable disk");
            if block.is_empty() {
                break;
            }
            for read in block {
                match read {
                    Read::Entry(stored) => {
                        assert_eq!(stored.sequence, expected, "the next sequence");
                        let seen = Known { key: stored.key, key_sequence: stored.key_sequence, value: stored.value.to_vec() };
                        assert_eq!(self.entries.get(&expected), Some(&seen), "the entry {expected}");
                        expected += 1;
                    }
                    Read::Lost { first, last } => {
                        assert_eq!(first, expected, "where the loss begins");
                        lost.push((first, last));
                        expected = last + 1;
                    }
                }
            }
        }
        assert_eq!(expected, log.durable() + 1, "where reading ends");
        lost
    }

    /// Losses name the numbers that are gone: exactly, or with a bound that holds. Of several, together: which of two holes took a key's
    /// entries cannot always be known.
    #[track_caller]
    fn check_losses(&self, losses: &[Loss]) {
        let mut gone: HashMap<&str, Vec<u64>> = HashMap::new();
        for loss in losses {
            assert_eq!(loss.reason, LossReason::Damaged);
            for known in self.entries.range(loss.first..=loss.last).map(|(_, known)| known) {
                gone.entry(&known.key).or_default().push(known.key_sequence);
            }
        }
        let keys = || losses.iter().flat_map(|loss| &loss.keys);
        for key in keys() {
            let Some(name) = key.key.as_deref() else { continue };
            let numbers = gone.entry(name).or_default();
            let before = numbers.len();
            numbers.retain(|number| !(key.first..=key.last).contains(number));
            if let Some(count) = key.count {
                assert_eq!((before - numbers.len()) as u64, count, "entries of {key:?}");
                assert_eq!(key.last - key.first + 1, count, "numbers of {key:?}");
            }
        }
        gone.retain(|_, numbers| !numbers.is_empty());
        let is_complete = keys().all(|key| key.key.is_some());
        assert!(!is_complete || gone.is_empty(), "numbers that no loss names: {gone:?}");
    }
}

/// The range of the only loss.
#[track_caller]
fn range(losses: &[Loss]) -> (u64, u64) {
    assert_eq!(losses.len(), 1, "{losses:#?}");
    (losses[0].first, losses[0].last)
}

#[track_caller]
fn is_exact(losses: &[Loss]) {
    let exact = |loss: &Loss| loss.count.is_some() && loss.keys.iter().all(|key| key.key.is_some() && key.count.is_some());
    assert!(losses.iter().all(exact), "not exact: {losses:#?}");
}

#[test]
fn a_flipped_bit_in_a_body_of_the_newest_segment_costs_that_block() {
    let mut case = Case::new(50, Ending::Closed);
    let block = case.blocks(&case.newest())[1];
    case.flip(&case.newest(), block.at + HEADER + 40);
    let (recovery, losses) = case.check();
    assert_eq!(range(&losses), (block.first, block.last));
    assert_eq!(recovery.quarantined.len(), 1);
}

#[test]
fn a_flipped_bit_in_a_header_of_the_newest_segment_costs_that_block() {
    let mut case = Case::new(50, Ending::Closed);
    let block = case.blocks(&case.newest())[1];
    case.flip(&case.newest(), block.at + 50);
    let (recovery, losses) = case.check();
    assert_eq!(range(&losses), (block.first, block.last));
    let kept = case.sim.bytes(&recovery.quarantined[0]);
    assert_eq!(kept.len(), block.end - block.at, "the damaged bytes are kept");
}

#[test]
fn a_flipped_bit_in_the_last_block_after_a_kill_is_damage_and_not_a_torn_tail() {
    let mut case = Case::new(50, Ending::Killed);
    let block = *case.blocks(&case.newest()).last().expect("a block");
    case.flip(&case.newest(), block.end - 40);
    let (recovery, losses) = case.check();
    assert_eq!(range(&losses), (block.first, block.last));
    assert_eq!(recovery.torn_bytes, 0);
}

#[test]
fn a_key_that_a_loss_did_not_touch_goes_on_counting_where_it_was() {
    let case = Case::new(0, Ending::Closed);
    let entries = |key: &str, count| vec![Entry { key: key.into(), timestamp: 1, value: b"value".to_vec() }; count];
    let log = open_on(case.config.clone(), case.sim.storage()).expect("a log").log;
    log.append_durable(entries("lost", 20)).expect("an open log");
    log.append_durable(entries("seen", 1)).expect("an open log");
    log.close().expect("closed");
    case.flip(&case.newest(), case.blocks(&case.newest())[0].at + HEADER);
    for expected in 2..5 {
        let log = open_on(case.config.clone(), case.sim.kill().storage()).expect("a log").log;
        let Ok(Appended::Durable { last, .. }) = log.append_durable(entries("seen", 1)) else { panic!("refused") };
        let read = log.reader(last - 1).next_block(1).expect("readable");
        assert!(matches!(&read[..], [Read::Entry(stored)] if stored.key_sequence == expected), "expected {expected}, found {read:?}");
        log.close().expect("closed");
    }
}

#[test]
fn a_flipped_bit_in_the_last_block_of_a_closed_log_costs_that_block() {
    for place in [50, HEADER + 40] {
        let mut case = Case::new(50, Ending::Closed);
        let block = *case.blocks(&case.newest()).last().expect("a block");
        case.flip(&case.newest(), block.at + place);
        let (_, losses) = case.check();
        assert_eq!(range(&losses), (block.first, block.last));
        assert_eq!(losses[0].count, Some(20));
    }
}

#[test]
fn a_flipped_bit_in_the_last_header_after_a_kill_skips_every_number_that_may_have_been_given_out() {
    let mut case = Case::new(50, Ending::Killed);
    let newest = case.newest();
    let block = *case.blocks(&newest).last().expect("a block");
    case.flip(&newest, block.at + 60);
    let (_, losses) = case.check();
    let (first, last) = range(&losses);
    assert_eq!(first, block.first);
    assert!(last > first + 1_000_000, "the bound of a segment, is {last}");
    assert_eq!(losses[0].count, None);
}

#[test]
fn half_a_block_that_was_never_synced_is_cut_and_its_numbers_are_used_again() {
    let mut case = Case::new(50, Ending::Killed);
    let newest = case.newest();
    let block = *case.blocks(&newest).last().expect("a block");
    // The second half never reached the disk.
    case.sim.edit(&newest, |bytes| bytes[(block.at + block.end) / 2..].fill(0));
    case.entries.split_off(&block.first);
    let (recovery, losses) = case.check();
    assert_eq!(losses, []);
    assert!(recovery.torn_bytes > 0, "{recovery:?}");
    assert_eq!(case.entries[&block.first].value.len(), 60, "the number was given out again");
}

#[test]
fn a_harmed_checkpoint_costs_nothing_while_the_segment_before_can_be_read() {
    for at in [20, HEADER + 10] {
        let mut case = Case::new(50, Ending::Killed);
        case.flip(&case.newest(), at);
        let (_, losses) = case.check();
        assert_eq!(losses, []);
    }
}

#[test]
fn harmed_checkpoints_everywhere_cost_nothing_while_the_log_is_whole() {
    for batches in [3, 50] {
        let mut case = Case::new(batches, Ending::Closed);
        for segment in case.segments() {
            case.flip(&segment, HEADER + 2);
        }
        let (_, losses) = case.check();
        assert_eq!(losses, []);
    }
}

#[test]
fn harmed_checkpoints_everywhere_in_a_log_that_was_shortened_begin_a_new_epoch() {
    let case = Case::new(50, Ending::Closed);
    let segments = case.segments();
    case.sim.delete(&segments[0]);
    for segment in &segments[1..] {
        case.flip(segment, HEADER + 2);
    }
    let Opened { log, recovery } = open_on(case.config.clone(), case.sim.storage()).expect("a new log");
    assert!(recovery.is_new_epoch && log.epoch() > case.epoch, "{recovery:?}");
    assert_eq!(recovery.quarantined.len(), segments.len() - 1, "nothing is thrown away");
    let losses = log.losses();
    assert_eq!((losses.len(), losses[0].epoch, losses[0].count), (1, case.epoch, None));
    assert_eq!(
        log.append_durable(vec![Entry { key: "a".into(), timestamp: 0, value: vec![] }]).expect("open"),
        Appended::Durable { first: 1, last: 1 }
    );
}

#[test]
fn a_newest_segment_that_was_cut_off_never_gives_its_numbers_again() {
    let mut case = Case::new(50, Ending::Killed);
    let newest = case.newest();
    let block = case.blocks(&newest)[2];
    case.sim.edit(&newest, |bytes| bytes.truncate(block.at + 30));
    let (_, losses) = case.check();
    assert_eq!(range(&losses).0, block.first);
}

#[test]
fn a_segment_cut_off_between_two_blocks_is_seen_too() {
    let mut case = Case::new(50, Ending::Killed);
    let newest = case.newest();
    let block = case.blocks(&newest)[2];
    case.sim.edit(&newest, |bytes| bytes.truncate(block.at));
    let (_, losses) = case.check();
    assert_eq!(range(&losses).0, block.first);
}

#[test]
fn zeros_in_the_middle_of_the_newest_segment_cost_the_blocks_they_touch() {
    let mut case = Case::new(50, Ending::Killed);
    let newest = case.newest();
    let blocks = case.blocks(&newest);
    case.sim.edit(&newest, |bytes| bytes[blocks[1].at + 30..blocks[2].at + 30].fill(0));
    let (_, losses) = case.check();
    assert_eq!(range(&losses), (blocks[1].first, blocks[2].last));
}

#[test]
fn damage_in_an_older_segment_is_told_exactly_when_a_reader_meets_it() {
    let spoils: [fn(&mut [u8]); 3] = [|frame| frame[50] ^= 1, |frame| frame[HEADER + 50] ^= 1, |frame| frame[..500].fill(0)];
    for spoil in spoils {
        let mut case = Case::new(50, Ending::Closed);
        let old = case.segments()[1].clone();
        let block = case.blocks(&old)[1];
        case.sim.edit(&old, |bytes| spoil(&mut bytes[block.at..block.end]));
        let (recovery, losses) = case.check();
        assert_eq!(recovery.losses, [], "a start does not read old segments");
        assert_eq!(range(&losses), (block.first, block.last));
        is_exact(&losses);
    }
}

#[test]
fn two_damages_in_one_segment_are_two_losses() {
    let mut case = Case::new(50, Ending::Closed);
    let old = case.segments()[1].clone();
    let blocks = case.blocks(&old);
    let last = blocks.len() - 1;
    case.flip(&old, blocks[1].at + HEADER + 9);
    case.flip(&old, blocks[last].at + HEADER + 9);
    let (_, losses) = case.check();
    let ranges: Vec<_> = losses.iter().map(|loss| (loss.first, loss.last)).collect();
    assert_eq!(ranges, [(blocks[1].first, blocks[1].last), (blocks[last].first, blocks[last].last)]);
    let total: u64 = losses.iter().flat_map(|loss| &loss.keys).filter_map(|key| key.count).sum();
    assert_eq!(total, 40, "{losses:#?}");
}

#[test]
fn a_missing_segment_in_the_middle_is_told_exactly() {
    let mut case = Case::new(50, Ending::Closed);
    let old = case.segments()[1].clone();
    let blocks = case.blocks(&old);
    case.sim.delete(&old);
    let (_, losses) = case.check();
    assert_eq!(range(&losses), (blocks[0].first, blocks[blocks.len() - 1].last));
    is_exact(&losses);
}

#[test]
fn a_missing_oldest_segment_is_told() {
    let mut case = Case::new(50, Ending::Closed);
    let old = case.segments()[0].clone();
    let last = case.blocks(&old).last().expect("a block").last;
    case.sim.delete(&old);
    let (_, losses) = case.check();
    assert_eq!(range(&losses), (1, last));
}

#[test]
fn a_missing_newest_segment_never_gives_its_numbers_again() {
    let mut case = Case::new(50, Ending::Killed);
    let newest = case.newest();
    let first = case.blocks(&newest)[0].first;
    case.sim.delete(&newest);
    let (_, losses) = case.check();
    assert_eq!(range(&losses).0, first);
}

#[test]
fn an_emptied_newest_segment_never_gives_its_numbers_again() {
    for content in [Vec::new(), vec![0; 8 << 10], vec![0x55; 8 << 10]] {
        let mut case = Case::new(50, Ending::Killed);
        let newest = case.newest();
        let first = case.blocks(&newest)[0].first;
        case.sim.put(&newest, content);
        let (_, losses) = case.check();
        assert_eq!(range(&losses).0, first);
    }
}

#[test]
fn a_copy_of_a_segment_under_another_name_is_put_aside() {
    let mut case = Case::new(50, Ending::Closed);
    let bytes = case.sim.bytes(&case.segments()[1]);
    case.sim.put(Path::new("/log/00000000000000999999.seg"), bytes);
    let (recovery, losses) = case.check();
    assert_eq!(losses, []);
    assert_eq!(recovery.quarantined.len(), 1, "{recovery:?}");
}

#[test]
fn a_newest_segment_under_another_name_gets_its_own_back() {
    for name in ["/log/00000000000000999999.seg", "/log/00000000000000000002.seg"] {
        let mut case = Case::new(50, Ending::Killed);
        let newest = case.newest();
        let bytes = case.sim.bytes(&newest);
        case.sim.put(Path::new(name), bytes);
        case.sim.delete(&newest);
        let (_, losses) = case.check();
        // Under an old name nobody finds it; then it counts as missing.
        assert_eq!(losses.len(), usize::from(name.ends_with("2.seg")), "{losses:#?}");
    }
}

#[test]
fn garbage_named_like_a_segment_is_put_aside_and_other_files_are_left_alone() {
    let mut case = Case::new(50, Ending::Closed);
    case.sim.put(Path::new("/log/00000000000000999999.seg"), b"not a segment".to_vec());
    case.sim.put(Path::new("/log/notes.txt"), b"keep me".to_vec());
    case.sim.put(Path::new("/log/5.seg"), b"keep me too".to_vec());
    let (recovery, losses) = case.check();
    assert_eq!(losses, []);
    assert_eq!(recovery.quarantined.len(), 1, "{recovery:?}");
    assert_eq!(case.sim.bytes(Path::new("/log/notes.txt")), b"keep me");
    assert_eq!(case.sim.bytes(Path::new("/log/5.seg")), b"keep me too");
}

#[test]
fn a_log_of_a_newer_version_is_refused_and_not_touched() {
    let case = Case::new(50, Ending::Closed);
    let newest = case.newest();
    case.sim.edit(&newest, |bytes| bytes[4..8].copy_from_slice(&[2, 0, !2, !0]));
    let before: Vec<_> = case.sim.files().iter().map(|(path, _)| (path.clone(), case.sim.bytes(path))).collect();
    let operations = case.sim.operations();
    match open_on(case.config.clone(), case.sim.storage()) {
        Err(Error::NewerVersion { path, found: 2, known: 1 }) => assert_eq!(path, newest),
        other => panic!("expected a refusal, seen {other:?}"),
    }
    assert_eq!(case.sim.operations(), operations, "nothing was changed");
    let after: Vec<_> = case.sim.files().iter().map(|(path, _)| (path.clone(), case.sim.bytes(path))).collect();
    assert_eq!(before, after);
}

#[test]
fn a_flipped_bit_in_the_version_is_damage_and_not_a_newer_version() {
    let mut case = Case::new(50, Ending::Killed);
    case.flip(&case.newest(), 4);
    let (_, losses) = case.check();
    assert_eq!(losses, []);
}

#[test]
fn without_its_small_files_the_log_goes_on_from_the_newest_checkpoint() {
    let mut case = Case::new(3, Ending::Closed);
    let log = open_on(case.config.clone(), case.sim.storage()).expect("the log").log;
    let cursor = Cursor { sequence: 20, note: b"offsets".to_vec() };
    log.keep_cursor("reader", cursor.clone()).expect("kept");
    let mut random = Random::new(5);
    (0..40).for_each(|_| case.append(&log, &mut random));
    drop(log);
    case.sim = case.sim.kill();
    for name in ["cursors.0", "cursors.1", "ledger.0", "ledger.1"] {
        case.sim.edit(&Path::new("/log").join(name), |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0xff));
    }
    let log = open_on(case.config.clone(), case.sim.storage()).expect("the log").log;
    assert_eq!(log.cursor("reader"), Some(cursor));
    drop(log);
    case.sim = case.sim.kill();
    let (_, losses) = case.check();
    assert_eq!(losses, []);
}

#[test]
fn one_harmed_slot_of_a_small_file_costs_at_most_its_last_change() {
    let mut case = Case::new(3, Ending::Closed);
    let log = open_on(case.config.clone(), case.sim.storage()).expect("the log").log;
    for sequence in [10, 20, 30] {
        log.keep_cursor("mirror", Cursor { sequence, note: vec![] }).expect("kept");
    }
    drop(log);
    case.sim = case.sim.kill();
    for name in ["cursors.0", "cursors.1"] {
        let case_sim = case.sim.clone();
        let path = Path::new("/log").join(name);
        let whole = case_sim.bytes(&path);
        case_sim.edit(&path, |bytes| bytes[20] ^= 1);
        let log = open_on(case.config.clone(), case_sim.storage()).expect("the log").log;
        let seen = log.cursor("mirror").expect("a cursor").sequence;
        assert!(seen >= 20, "{name}: the cursor stands at {seen}");
        drop(log);
        case.sim = case.sim.kill();
        case.sim.put(&path, whole);
    }
    let (_, losses) = case.check();
    assert_eq!(losses, []);
}

#[test]
fn a_cursor_beyond_the_end_proves_that_the_end_is_missing() {
    let mut case = Case::new(50, Ending::Killed);
    let log = open_on(case.config.clone(), case.sim.storage()).expect("the log").log;
    log.keep_cursor("reader", Cursor { sequence: 1000, note: vec![] }).expect("kept");
    case.sim = case.sim.kill();
    drop(log);
    let newest = case.newest();
    let block = *case.blocks(&newest).last().expect("a block");
    // A disk that lied: the last block was synced, and is not there.
    case.sim.edit(&newest, |bytes| bytes[block.at..].fill(0));
    let (_, losses) = case.check();
    assert_eq!(range(&losses).0, block.first);
}

#[test]
fn what_was_acknowledged_is_no_loss_when_it_is_damaged() {
    let case = Case::new(50, Ending::Closed);
    let log = open_on(case.config.clone(), case.sim.storage()).expect("the log").log;
    let old = case.segments()[1].clone();
    let blocks = case.blocks(&old);
    log.keep_cursor("mirror", Cursor { sequence: blocks[1].first + 4, note: vec![] }).expect("kept");
    case.flip(&old, blocks[0].at + HEADER + 9);
    case.flip(&old, blocks[1].at + HEADER + 9);
    let lost = case.compare(&log);
    assert_eq!(lost, [(blocks[0].first, blocks[1].last)]);
    assert_eq!(range(&log.losses()), (blocks[1].first + 5, blocks[1].last));
}

#[test]
fn a_disk_that_does_not_give_a_sector_is_asked_again_before_its_block_counts_as_lost() {
    let case = Case::new(50, Ending::Closed);
    let log = open_on(case.config.clone(), case.sim.storage()).expect("the log").log;
    let old = case.segments()[1].clone();
    let blocks = case.blocks(&old);
    let hit: Vec<Frame> = blocks.iter().copied().filter(|block| block.at < 8192 && block.end > 4096 && block.at + HEADER < 8192).collect();
    let (first, last) = (hit[0].first, hit[hit.len() - 1].last);
    let mut reader = log.reader(first - 1);
    case.sim.fail_reads(&old, 4096, 4097);
    let error = reader.next_block(100).expect_err("an unreadable page");
    assert!(error.is_transient(), "{error:?}");
    case.sim.no_faults();
    assert_eq!(reader.next_block(100).expect("readable again").len(), 20);

    case.sim.fail_reads(&old, 4096, 4097);
    // Also if each attempt is another reader's, as the mirror's are.
    let mut reader = log.reader(first - 1);
    let read = (0..10).find_map(|_| {
        reader = log.reader(first - 1);
        reader.next_block(100).ok()
    });
    let read = read.expect("lost in the end");
    let [Read::Lost { first: from, last: to }] = read[..] else { panic!("expected a loss, seen {read:?}") };
    assert_eq!((from, to), (first, last), "the entries on that page");
    assert_eq!(range(&log.losses()), (from, to));
    assert_eq!(reader.next_block(100).expect("behind it").len(), 20);
}

#[test]
fn what_one_reader_has_already_is_a_loss_too_when_the_oldest_segment_goes_bad() {
    let case = Case::new(50, Ending::Closed);
    let log = open_on(case.config.clone(), case.sim.storage()).expect("the log").log;
    let mut reader = log.reader(0);
    let had = reader.next_block(1000).expect("readable").len() as u64;
    case.sim.edit(&case.segments()[0], |bytes| bytes.fill(0xee));
    let read = reader.next_block(1000).expect("a loss");
    let [Read::Lost { first, last }] = read[..] else { panic!("expected a loss, seen {read:?}") };
    assert_eq!(first, had + 1, "for this reader");
    assert_eq!(range(&log.losses()), (1, last), "for everybody");
}

#[test]
fn what_lies_before_a_place_that_cannot_be_read_is_still_read() {
    let case = Case::new(50, Ending::Closed);
    let log = open_on(case.config.clone(), case.sim.storage()).expect("the log").log;
    let old = case.segments()[1].clone();
    let (before, hit) = case.blocks(&old).into_iter().partition::<Vec<_>, _>(|block| block.end <= 4096);
    case.sim.fail_reads(&old, 4096, 4097);
    let mut reader = log.reader(before[0].first - 1);
    for block in &before {
        let read = reader.next_block(100).expect("a readable place");
        assert!(matches!(&read[..], [Read::Entry(stored), ..] if stored.sequence == block.first), "expected {block:?}, seen {read:?}");
    }
    assert_eq!(reader.position(), hit[0].first - 1);
    reader.next_block(100).expect_err("the unreadable place");
}

#[test]
fn a_sector_that_cannot_be_read_at_the_start_costs_its_block() {
    let case = Case::new(50, Ending::Killed);
    let newest = case.newest();
    let block = case.blocks(&newest)[1];
    case.sim.fail_reads(&newest, block.at as u64 + 600, block.at as u64 + 601);
    let Opened { log, recovery } = open_on(case.config.clone(), case.sim.storage()).expect("a log opens whatever it holds");
    let lost = range(&recovery.losses);
    assert!(lost.0 <= block.first && block.last <= lost.1, "{lost:?} of {block:?}");
    assert!(log.durable() >= 1000);
}
