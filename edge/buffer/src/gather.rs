//! Gathering entries into blocks: numbers are given here, on a thread of its own, while other threads compress the blocks before.
//!
//! Numbers are given out before their entries are durable. When the committer must refuse entries that have numbers, it makes the
//! generation grow: what was numbered under an older one is refused too, and numbering goes on from what is durable.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;

use crate::Entry;
use crate::block::Builder;
use crate::format::Frame;
use crate::pack::Packer;
use crate::queue::{Batch, Done, Next};
use crate::shared::Shared;

/// Blocks on their way to the committer, at most. With the queue's limit this bounds the log's memory.
pub(crate) const UNDER_WAY: usize = 16;

/// What the committer gets, in order.
pub(crate) enum Job {
    Block(Block),
    /// Batches whose numbers are void.
    Void(Vec<Waiting>),
    /// Nothing comes any more.
    End,
}

/// A block that is being compressed.
pub(crate) struct Block {
    pub(crate) generation: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Gives the frame when it is ready.
    pub(crate) frame: Receiver<Frame>,
    /// Keys by index, and how many entries each has here.
    pub(crate) keys: Vec<(u32, u32)>,
    /// Batches whose last entry is here.
    pub(crate) waiting: Vec<Waiting>,
}

/// A batch whose fate is not known yet.
pub(crate) struct Waiting {
    /// The sequence of its first entry.
    pub(crate) first: u64,
    pub(crate) len: usize,
    pub(crate) done: Done,
}

/// The gathering thread's state.
pub(crate) struct Gatherer {
    shared: Arc<Shared>,
    packer: Packer,
    jobs: SyncSender<Job>,
    generation: u64,
    /// The last sequence given out.
    sequence: u64,
    indexes: HashMap<Arc<str>, u32>,
    /// By key: the last number given out, and its place in the block that is open.
    keys: Vec<KeyState>,
    block: Builder,
    block_keys: Vec<(u32, u32)>,
    waiting: Vec<Waiting>,
    /// Counts blocks, to know whether a key's place belongs to the open one.
    turn: u64,
    opened: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct KeyState {
    number: u64,
    turn: u64,
    place: u32,
}

impl Gatherer {
    pub(crate) fn new(shared: Arc<Shared>, packer: Packer, jobs: SyncSender<Job>) -> Self {
        let mut gatherer = Self {
            shared,
            packer,
            jobs,
            generation: 0,
            sequence: 0,
            indexes: HashMap::new(),
            keys: Vec::new(),
            block: Builder::default(),
            block_keys: Vec::new(),
            waiting: Vec::new(),
            turn: 1,
            opened: None,
        };
        let names = gatherer.shared.counts.lock().names.clone();
        gatherer.indexes = names.into_iter().zip(0..).collect();
        gatherer.renumber();
        gatherer
    }

    /// Gathers until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        loop {
            let deadline = self.opened.map(|opened| opened + self.shared.config.linger);
            // A block that is due goes even if there is always something in the queue.
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.close_block();
            }
            match self.shared.queue.pop(deadline) {
                Next::Batch(batch) => self.take(batch),
                Next::Nothing => self.close_block(),
                Next::Closed => break,
            }
        }
        self.close_block();
        self.send(Job::End);
    }

    fn take(&mut self, batch: Batch) {
        let Batch { entries, done } = batch;
        self.check_generation();
        let mut waiting = Some(Waiting { first: self.sequence + 1, len: entries.len(), done });
        let mut left = entries.len();
        for entry in &entries {
            let size = self.block.size() + entry.value.len() + entry.key.len();
            let config = &self.shared.config;
            if !self.block.is_empty() && (self.block.count() >= config.block_events || size > config.block_bytes) {
                self.close_block();
                if self.check_generation() {
                    // The entries before were refused, so these are too: a batch keeps its order.
                    self.send(Job::Void(waiting.take().into_iter().collect()));
                    return;
                }
            }
            self.add(entry);
            left -= 1;
            if left == 0 {
                self.waiting.extend(waiting.take());
            }
        }
        if self.block.count() >= self.shared.config.block_events {
            self.close_block();
        }
    }

    fn add(&mut self, entry: &Entry) {
        let index = match self.indexes.get(&entry.key) {
            Some(&index) => index,
            None => self.new_key(entry.key.clone()),
        };
        let key = &mut self.keys[index as usize];
        key.number += 1;
        if key.turn != self.turn {
            key.turn = self.turn;
            key.place = self.block.add_key(entry.key.clone(), key.number);
            self.block_keys.push((index, 0));
        }
        self.block_keys[key.place as usize].1 += 1;
        self.block.add(key.place, entry.timestamp, &entry.value);
        self.sequence += 1;
        if self.opened.is_none() {
            self.opened = Some(Instant::now());
        }
    }

    fn new_key(&mut self, key: Arc<str>) -> u32 {
        let index = self.keys.len() as u32;
        let mut counts = self.shared.counts.lock();
        counts.names.push(key.clone());
        self.keys.push(KeyState { number: counts.floor, turn: 0, place: 0 });
        self.indexes.insert(key, index);
        index
    }

    /// Sends the open block on its way.
    fn close_block(&mut self) {
        self.opened = None;
        if self.block.is_empty() {
            return;
        }
        let first = self.sequence + 1 - self.block.count() as u64;
        let mut body = self.packer.body();
        let header = self.block.finish(self.shared.epoch, first, &mut body);
        self.turn += 1;
        let block = Block {
            generation: self.generation,
            first,
            last: self.sequence,
            frame: self.packer.pack(header, body),
            keys: std::mem::take(&mut self.block_keys),
            waiting: std::mem::take(&mut self.waiting),
        };
        self.send(Job::Block(block));
    }

    /// Whether numbers that were given out have become void; then the open block is too, and numbering begins anew.
    fn check_generation(&mut self) -> bool {
        if self.shared.generation.load(Ordering::Acquire) == self.generation {
            return false;
        }
        self.block = Builder::default();
        self.block_keys.clear();
        self.opened = None;
        let void = std::mem::take(&mut self.waiting);
        self.send(Job::Void(void));
        self.renumber();
        true
    }

    /// Goes on numbering from what is durable.
    fn renumber(&mut self) {
        // The generation first: if it grows again meanwhile, this is done again.
        self.generation = self.shared.generation.load(Ordering::Acquire);
        let counts = self.shared.counts.lock();
        self.sequence = counts.sequence;
        self.turn += 1;
        let number = |key: usize| counts.counts.get(key).copied().unwrap_or(counts.floor);
        self.keys = (0..counts.names.len()).map(|key| KeyState { number: number(key), turn: 0, place: 0 }).collect();
    }

    fn send(&mut self, job: Job) {
        // The committer takes jobs until it got the last one. If it is gone (it panicked), the batches' callbacks are dropped with the job,
        // and those who wait for them see that.
        drop(self.jobs.send(job));
    }
}
