//! The log against a list in memory, while the power goes at any operation, syncs and writes fail, and the disk fills up.
//!
//! What holds after each restart is checked by [`Run::check`]: every entry that was reported durable is there, unchanged and in its place,
//! or a loss says that it was dropped because the log was full; sequences have no gaps, neither the log's nor a key's; cursors stand where
//! they were kept; the log opens. Without damage there is never a loss for damage.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::sim::{Random, Sim};
use edge_buffer::{Appended, Config, Cursor, Entry, Log, Loss, LossReason, Opened, Read, Refusal, WhenFull, open_on};
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Batches of so many entries, all handed over before the first is waited for.
    Append(Vec<usize>),
    /// The mirror's cursor goes on by so many per cent of what it has not seen.
    Acknowledge(u64),
    Keep(u8, u64),
    Read(u64, usize),
    /// So many entries are noted as refused.
    Refuse(u64),
    Tell,
    Close,
    Kill,
    /// The power goes, and again at these operations of the starts that follow.
    Cut(Vec<u64>),
    /// The power goes at the nth operation from now.
    Fuse(u64),
    FailSyncs(u64),
    FailDirSyncs(u64),
    FailWrites(u64),
    /// A place in a segment that is not written any more cannot be read from now on.
    FailReads(u64),
    /// So many bytes are left on the disk.
    Fill(u64),
    Empty,
}

pub(crate) fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        10 => prop::collection::vec(1_usize..40, 1..4).prop_map(Action::Append),
        3 => (0_u64..=100).prop_map(Action::Acknowledge),
        1 => (0_u8..3, 0_u64..=100).prop_map(|(name, part)| Action::Keep(name, part)),
        2 => (0_u64..=100, 1_usize..20).prop_map(|(from, max)| Action::Read(from, max)),
        1 => (1_u64..50).prop_map(Action::Refuse),
        1 => Just(Action::Tell),
        1 => Just(Action::Close),
        1 => Just(Action::Kill),
        2 => prop::collection::vec(0_u64..15, 0..4).prop_map(Action::Cut),
        6 => (0_u64..25).prop_map(Action::Fuse),
        1 => (1_u64..3).prop_map(Action::FailSyncs),
        1 => (1_u64..3).prop_map(Action::FailDirSyncs),
        1 => (1_u64..3).prop_map(Action::FailWrites),
        1 => (0_u64..100).prop_map(Action::FailReads),
        1 => (0_u64..40_000).prop_map(Action::Fill),
        1 => Just(Action::Empty),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    key: Arc<str>,
    key_sequence: u64,
    timestamp: i64,
    value: Vec<u8>,
}

/// Entries with their sequences.
type Numbered = Vec<(u64, Known)>;

/// What must be there.
#[derive(Clone, Debug, Default)]
struct Model {
    epoch: u64,
    /// By sequence - 1.
    entries: Vec<Known>,
    /// Chains of entries that may stand behind them after a crash: handed over and not told, or told that the disk failed.
    doubtful: Vec<Vec<Entry>>,
    cursors: BTreeMap<String, Cursor>,
    /// Values that were to be kept when the power went.
    doubtful_cursors: BTreeMap<String, Vec<Cursor>>,
    /// Losses that were told, or may have been, and the entry that told them.
    told: Vec<(Loss, u64)>,
    /// How many entries were noted as refused, surely and perhaps, and how many of them were told, perhaps.
    refused: (u64, u64, u64),
    /// How many entries of a key were durable.
    counts: HashMap<Arc<str>, u64>,
    /// Old blocks may be damaged.
    is_damaged: bool,
    made: u64,
}

pub(crate) struct Run {
    config: Config,
    pub(crate) sim: Sim,
    random: Random,
    model: Model,
    log: Option<Log>,
    /// At which operations of the next starts the power goes.
    cuts_to_come: Vec<u64>,
    /// How often the power went.
    pub(crate) cuts: u64,
}

impl Run {
    pub(crate) fn new(seed: u64, when_full: WhenFull, retain: u64) -> Self {
        let config = Config {
            dir: PathBuf::from("/log"),
            segment_bytes: 8 << 10,
            max_bytes: 300 << 10,
            retain_age: None,
            retain_bytes: retain,
            when_full,
            min_free: 0,
            block_events: 8,
            block_bytes: 1 << 10,
            linger: Duration::ZERO,
            queue_bytes: 1 << 20,
        };
        let sim = Sim::new(seed);
        let mut run =
            Self { config, sim, random: Random::new(seed ^ 1), model: Model::default(), log: None, cuts_to_come: Vec::new(), cuts: 0 };
        run.open();
        run
    }

    /// The same history on a copy of the disk as it is now; nobody has it open.
    pub(crate) fn fork(&self, seed: u64) -> Self {
        Self {
            config: self.config.clone(),
            sim: self.sim.fork(seed),
            random: Random::new(seed ^ 1),
            model: self.model.clone(),
            log: None,
            cuts_to_come: Vec::new(),
            cuts: 0,
        }
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("the log is open")
    }

    pub(crate) fn run(&mut self, action: &Action) {
        self.act(action);
        if self.sim.is_dead() {
            self.restart(true);
        }
    }

    /// As [`Self::run`], and stays off if the power goes.
    pub(crate) fn act(&mut self, action: &Action) {
        match action {
            Action::Append(sizes) => self.append(sizes),
            Action::Acknowledge(part) => {
                let at = self.model.cursors.get(Cursor::MIRROR).map_or(0, |cursor| cursor.sequence);
                let to = at + (self.log().durable().saturating_sub(at)) * part / 100;
                self.keep(Cursor::MIRROR, to);
            }
            Action::Keep(name, part) => self.keep(&format!("reader-{name}"), self.log().durable() * part / 100),
            Action::Read(part, max) => {
                let after = self.log().durable() * part / 100;
                self.check_reading(after, *max);
            }
            Action::Refuse(count) => {
                let counts = vec![("asset-1".into(), *count)];
                let (surely, perhaps, _) = &mut self.model.refused;
                let noted = self.log.as_ref().map(|log| log.note_refused(counts, 0, 1, "full".into()));
                *(if matches!(noted, Some(Ok(()))) { surely } else { perhaps }) += count;
            }
            Action::Tell => {
                for loss in self.log().losses() {
                    // As if the last entry told it. A note that failed may have reached the disk all the same.
                    let at = self.log().durable();
                    drop(self.log().told(&loss, at));
                    if loss.reason == LossReason::Refused {
                        self.model.refused.2 += loss.count.unwrap_or(0);
                    }
                    self.model.told.push((loss, at));
                }
            }
            Action::Close => {
                let log = self.log.take().expect("the log is open");
                let closed = log.close();
                if closed.is_ok() && !self.sim.is_dead() {
                    self.sim = self.sim.kill();
                    self.open();
                    return;
                }
                self.restart(false);
            }
            Action::Kill => self.restart(false),
            Action::Cut(again) => {
                self.cuts_to_come.clone_from(again);
                self.restart(true);
            }
            Action::Fuse(n) => self.sim.light_fuse(*n),
            Action::FailSyncs(n) => self.sim.fail_syncs(*n),
            Action::FailDirSyncs(n) => self.sim.fail_dir_syncs(*n),
            Action::FailWrites(n) => self.sim.fail_writes(*n),
            Action::FailReads(part) => self.fail_reads(*part),
            Action::Fill(left) => self.sim.set_capacity(self.sim.used() + left),
            Action::Empty => {
                self.sim.set_capacity(u64::MAX / 2);
                self.sim.no_faults();
            }
        }
    }

    /// Not of the last two segments: they may be the end of the log yet.
    fn fail_reads(&mut self, part: u64) {
        let is_segment = |path: &Path| path.extension().is_some_and(|extension| extension == "seg");
        let mut segments: Vec<_> = self.sim.files().into_iter().filter(|(path, _)| is_segment(path)).collect();
        segments.truncate(segments.len().saturating_sub(2));
        if segments.is_empty() {
            return;
        }
        let (path, bytes) = &segments[segments.len() * part as usize / 100];
        let at = self.random.below(*bytes as u64);
        self.sim.fail_reads(path, at, at + 1);
        self.model.is_damaged = true;
    }

    fn append(&mut self, sizes: &[usize]) {
        let mut batches = Vec::new();
        for &size in sizes {
            let batch: Vec<Entry> = (0..size).map(|_| self.entry()).collect();
            let (tell, told) = sync_channel(1);
            let refused = self.log().append(batch.clone(), move |outcome| drop(tell.send(outcome))).is_err();
            assert!(!refused, "an open log takes batches");
            batches.push((batch, told));
        }
        // What was not taken, batch by batch. Any run of them may stand behind the durable entries after a crash: those that were numbered
        // together did so in this order.
        let mut open: Vec<Vec<Entry>> = Vec::new();
        let mut is_told = true;
        for (batch, told) in batches {
            // Once the power is off and somebody does not know, nobody behind knows either.
            match if is_told { self.wait(&told) } else { None } {
                Some(Appended::Durable { first, last }) => {
                    open.clear();
                    assert_eq!((first, last), (self.model.next(), self.model.next() + batch.len() as u64 - 1), "numbers of a batch");
                    self.model.durable(&batch);
                }
                Some(Appended::Refused { reason, durable }) => {
                    assert!(reason != Refusal::Closed, "refused as closed by an open log");
                    if durable > 0 {
                        open.clear();
                        self.model.durable(&batch[..durable]);
                    }
                    open.push(batch[durable..].to_vec());
                }
                None => {
                    is_told = false;
                    open.push(batch);
                }
            }
        }
        self.model.doubtful.extend((0..open.len()).map(|from| open[from..].concat()));
    }

    fn wait(&self, told: &mpsc::Receiver<Appended>) -> Option<Appended> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match told.recv_timeout(Duration::from_millis(5)) {
                Ok(outcome) => return Some(outcome),
                Err(_) if self.sim.is_dead() => return None,
                Err(_) => assert!(Instant::now() < deadline, "nobody told what became of a batch"),
            }
        }
    }

    fn entry(&mut self) -> Entry {
        self.model.made += 1;
        // Few keys that come often, and some that come once.
        let key = match self.random.below(10) {
            0 => format!("rare-{}", self.random.below(1000)),
            n => format!("asset-{}", n % 4),
        };
        let filling: String = (0..self.random.below(60)).map(|_| char::from(b'a' + self.random.below(26) as u8)).collect();
        Entry {
            key: key.into(),
            timestamp: self.random.below(1000) as i64 - 500,
            value: format!("{} {filling}", self.model.made).into_bytes(),
        }
    }

    fn keep(&mut self, name: &str, sequence: u64) {
        let note = vec![7; self.random.below(900) as usize];
        let cursor = Cursor { sequence, note };
        match self.log().keep_cursor(name, cursor.clone()) {
            Ok(()) => {
                self.model.cursors.insert(name.to_owned(), cursor);
                self.model.doubtful_cursors.remove(name);
            }
            Err(_) => self.model.doubtful_cursors.entry(name.to_owned()).or_default().push(cursor),
        }
    }

    pub(crate) fn restart(&mut self, is_power_cut: bool) {
        let next = if is_power_cut { self.power_cut() } else { self.sim.kill() };
        // The old process is still there, and harmless: its descriptors are dead.
        drop(self.log.take());
        self.sim = next;
        self.open();
    }

    fn power_cut(&mut self) -> Sim {
        self.cuts += 1;
        self.sim.power_cut()
    }

    /// Opens the log while the power goes at operation `at` of the start, then without disturbance; whether the start came that far.
    pub(crate) fn open_with_cut(&mut self, at: u64) -> bool {
        self.cuts_to_come = vec![at];
        self.sim = self.power_cut();
        let before = self.cuts;
        self.open();
        self.cuts > before
    }

    fn open(&mut self) {
        // What a start finds is compared to the entry; starts on sectors that cannot be read are in damage.rs.
        self.sim.mend();
        self.check_untouched();
        for at in std::mem::take(&mut self.cuts_to_come) {
            self.sim.light_fuse(at);
            let opened = open_on(self.config.clone(), self.sim.storage());
            if !self.sim.is_dead() {
                // The fuse may burn on.
                if let Ok(opened) = opened {
                    return self.opened(opened);
                }
            }
            self.sim = self.power_cut();
        }
        // A start on a disk that is full or failing may fail; on a good one it must not.
        if let Ok(opened) = open_on(self.config.clone(), self.sim.storage()) {
            return self.opened(opened);
        }
        self.sim = if self.sim.is_dead() { self.power_cut() } else { self.sim.kill() };
        self.sim.no_faults();
        self.sim.set_capacity(u64::MAX / 2);
        match open_on(self.config.clone(), self.sim.storage()) {
            Ok(opened) => self.opened(opened),
            Err(error) => panic!("the log does not open: {error:?}\n{}", self.sim.trace()),
        }
    }

    fn opened(&mut self, Opened { log, recovery }: Opened) {
        if recovery.is_new_epoch {
            assert!(self.model.entries.is_empty(), "a new epoch although entries were durable: {recovery:?}\n{}", self.sim.trace());
            self.model.epoch = log.epoch();
        }
        assert_eq!(log.epoch(), self.model.epoch, "the epoch changed");
        assert_eq!(recovery.losses, [], "a loss without damage: {recovery:?}\n{}", self.sim.trace());
        assert!(recovery.quarantined.is_empty(), "damage without damage: {recovery:?}\n{}", self.sim.trace());
        self.log = Some(log);
        self.adopt();
        self.check();
    }

    /// What was in doubt is decided now.
    fn adopt(&mut self) {
        let durable = self.log().durable();
        let kept = self.model.entries.len() as u64;
        assert!(durable >= kept, "{durable} entries are durable, {kept} were\n{}", self.sim.trace());
        let more = (durable - kept) as usize;
        let doubtful = std::mem::take(&mut self.model.doubtful);
        if more > 0 {
            let read = self.read(kept, 1000).0;
            assert_eq!(read.len(), more, "all that became durable can be read");
            let fits = |chain: &&Vec<Entry>| {
                let is_of = |(sequence, known): &(u64, Known)| known.value == chain[(sequence - kept - 1) as usize].value;
                chain.len() >= more && read.iter().all(is_of)
            };
            let chain =
                doubtful.iter().find(fits).unwrap_or_else(|| panic!("{more} entries stand in the log that nobody appended: {read:?}"));
            let chain = chain[..more].to_vec();
            self.model.durable(&chain);
        }
        for (name, values) in std::mem::take(&mut self.model.doubtful_cursors) {
            let now = self.log().cursor(&name);
            if let Some(cursor) = values.into_iter().find(|cursor| Some(cursor) == now.as_ref()) {
                self.model.cursors.insert(name, cursor);
            }
        }
    }

    fn check(&self) {
        for (name, cursor) in &self.model.cursors {
            assert_eq!(self.log().cursor(name).as_ref(), Some(cursor), "the cursor {name}\n{}", self.sim.trace());
            assert!(cursor.sequence <= self.log().durable(), "the cursor {name} is ahead of the log");
        }
        let listed =
            self.log().losses().iter().filter(|loss| loss.reason == LossReason::Refused).filter_map(|loss| loss.count).sum::<u64>();
        let (surely, perhaps, told) = self.model.refused;
        let possible = surely.saturating_sub(told)..=surely + perhaps;
        assert!(possible.contains(&listed), "{listed} refused entries are listed, {possible:?} are to be told\n{}", self.sim.trace());
        self.check_reading(0, 1000);
    }

    /// Whoever looks at the files without opening the log finds no damage either: a torn tail is none.
    fn check_untouched(&self) {
        if self.model.is_damaged {
            // Sectors that could not be read have cost something, which the next start may be the first to tell.
            return;
        }
        let found = crate::inspect::unknown_damage(&self.sim).unwrap_or_default();
        assert_eq!(found, [], "damage without damage\n{}", self.sim.trace());
    }

    /// Reads everything after a sequence and compares.
    fn check_reading(&self, after: u64, max: usize) {
        if self.sim.is_dead() {
            return;
        }
        let (read, lost) = self.read(after, max);
        if self.sim.is_dead() {
            return;
        }
        let acknowledged = self.model.cursors.get(Cursor::MIRROR).map_or(0, |cursor| cursor.sequence);
        let doubtful = self.model.doubtful_cursors.get(Cursor::MIRROR).into_iter().flatten().map(|cursor| cursor.sequence);
        let acknowledged = doubtful.fold(acknowledged, u64::max);
        let is_lost = |sequence: u64| lost.iter().any(|(first, last)| (*first..=*last).contains(&sequence));
        for (first, last) in &lost {
            let losses = self.log().losses();
            let is_told = |sequence: u64| {
                let is_possible = |reason| match reason {
                    LossReason::DroppedOldest => true,
                    LossReason::Damaged => self.model.is_damaged,
                    LossReason::Refused => false,
                };
                let tells = |loss: &Loss| loss.first <= sequence && sequence <= loss.last && is_possible(loss.reason);
                // An entry that was dropped itself, before anybody had it, tells nothing.
                let is_there = |at: u64| at <= acknowledged || !is_lost(at);
                sequence <= acknowledged
                    || losses.iter().any(tells)
                    || self.model.told.iter().any(|(loss, at)| tells(loss) && is_there(*at))
            };
            let untold = (*first..=*last).find(|sequence| !is_told(*sequence));
            assert_eq!(
                untold,
                None,
                "of {first}..={last} this is gone and nothing says so ({acknowledged} acknowledged); listed: {losses:?}; told: {:?}\n{}",
                self.model.told,
                self.sim.trace()
            );
        }
        for (sequence, known) in read {
            let expected = self.model.entries.get(sequence as usize - 1);
            assert_eq!(Some(&known), expected, "the entry {sequence}\n{}", self.sim.trace());
        }
    }

    fn read(&self, after: u64, max: usize) -> (Numbered, Vec<(u64, u64)>) {
        let mut reader = self.log().reader(after);
        let (mut entries, mut lost, mut expected) = (Vec::new(), Vec::new(), after + 1);
        let mut attempts = 0;
        loop {
            let block = match reader.next_block(max) {
                Ok(block) => {
                    attempts = 0;
                    block
                }
                Err(_) if self.sim.is_dead() => break,
                // A place that cannot be read is tried again before it counts as lost; and a disk without room may have none to note that.
                Err(_) if self.model.is_damaged && attempts < 20 => {
                    attempts += 1;
                    if attempts == 10 {
                        self.sim.set_capacity(u64::MAX / 2);
                    }
                    continue;
                }
                Err(error) => panic!("reading after {}: {error:?}", reader.position()),
            };
            if block.is_empty() {
                break;
            }
            for read in block {
                match read {
                    Read::Entry(stored) => {
                        assert_eq!(stored.sequence, expected, "the next entry's sequence");
                        expected += 1;
                        let (key, key_sequence, timestamp) = (stored.key, stored.key_sequence, stored.timestamp);
                        entries.push((stored.sequence, Known { key, key_sequence, timestamp, value: stored.value.to_vec() }));
                    }
                    Read::Lost { first, last } => {
                        assert_eq!(first, expected, "what is lost begins where the reader stands");
                        expected = last + 1;
                        lost.push((first, last));
                    }
                }
            }
        }
        (entries, lost)
    }

    /// Losses say exactly which numbers of which key went, where all of them could be read.
    pub(crate) fn check_losses(&self) {
        if self.model.is_damaged {
            return;
        }
        let losses = self.log().losses();
        let numbered = losses.iter().filter(|loss| loss.reason != LossReason::Refused);
        for loss in numbered.filter(|loss| loss.keys.iter().all(|key| key.key.is_some())) {
            let mut lost: HashMap<&str, Vec<u64>> = HashMap::new();
            for known in &self.model.entries[loss.first as usize - 1..loss.last as usize] {
                lost.entry(&known.key).or_default().push(known.key_sequence);
            }
            for key in &loss.keys {
                let name = key.key.as_deref().unwrap_or_default();
                let numbers = lost.remove(name).unwrap_or_default();
                let seen = (key.first, key.last, key.count);
                let expected = (numbers.first().copied().unwrap_or(0), numbers.last().copied().unwrap_or(0), Some(numbers.len() as u64));
                assert_eq!(seen, expected, "numbers of {name} in {loss:?}");
            }
            assert!(lost.is_empty(), "keys that the loss does not name: {lost:?}");
            assert_eq!(loss.count, Some(loss.last - loss.first + 1), "the count of {loss:?}");
        }
    }
}

impl Model {
    fn next(&self) -> u64 {
        self.entries.len() as u64 + 1
    }

    fn durable(&mut self, batch: &[Entry]) {
        for entry in batch {
            let key_sequence = self.counts.entry(entry.key.clone()).or_default();
            *key_sequence += 1;
            self.entries.push(Known {
                key: entry.key.clone(),
                key_sequence: *key_sequence,
                timestamp: entry.timestamp,
                value: entry.value.clone(),
            });
        }
        self.doubtful.clear();
    }
}

/// `PROPTEST_CASES`, or a number that takes seconds.
pub(crate) fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() }
}
