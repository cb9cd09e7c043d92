//! While one producer of a run lives: the log's files in, Kafka out, reports back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use edge_buffer::{Read, Stored, ViewReader};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::run::{Run, Wanted};
use super::{Phase, ReplayError, Step, Watch};
use crate::capacity::Capacity;
use crate::class::{self, Class};
use crate::flow::since;
use crate::pace::Pace;
use crate::producer::{NotTaken, Producer, Report};
use crate::readback::{Standing, Verdict};
use crate::window::{Failed, Passed, Window};
use crate::worker;

/// Events handed over between two looks at the reports.
const STRIDE: usize = 1000;
/// How often the run's place is kept.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// Without a report for so long, a run gives up: it can go on at any time.
const SILENT: Duration = Duration::from_secs(60);
/// How long reports are waited for when a run is stopped.
const LAST_REPORTS: Duration = Duration::from_secs(5);
/// After a producer's first failure the reports of what else it had are near.
const NEAR: Duration = Duration::from_secs(1);
/// What key, headers and framing add to a record, about.
const FRAMING: usize = 250;
/// So many records are given up at most: then the topic is wrong, not the records.
const TOO_MANY_REFUSED: usize = 100;

/// How a producer's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Kafka has everything.
    Done,
    /// It was told to stop.
    Stopped,
    /// Something was learnt; another producer goes on.
    Again,
}

struct Flow<'v> {
    producer: Producer,
    reader: ViewReader<'v>,
    /// Read, and not yet handed over.
    ready: VecDeque<Stored>,
    window: Window,
    standing: Standing,
    pace: Pace,
    capacity: Capacity,
    /// What is under way must not get company.
    is_alone: bool,
    reports: Vec<Report>,
    passed: Vec<Passed>,
    failures: Vec<Failed>,
    heard: Instant,
    kept: Instant,
}

impl Run<'_> {
    /// Sends what is wanted and does not stand already, from the run's place on.
    pub(super) fn flow(&mut self, standing: Standing, wanted: Wanted<'_>, watch: Watch<'_>) -> Result<Ended, ReplayError> {
        let (config, view) = (self.job.config, self.job.view);
        let linger = if self.suspects.is_empty() { config.linger } else { Duration::ZERO };
        let producer = Producer::start(config, "replay", view.epoch(), self.batch_bytes(), linger).map_err(ReplayError::Config)?;
        let (now, after) = (Instant::now(), self.progress.sequence);
        let mut flow = Flow {
            producer,
            reader: view.read(after, self.progress.through, self.progress.from..self.progress.to),
            ready: VecDeque::new(),
            window: Window::new(after),
            standing,
            pace: Pace::new(config.rate, now),
            capacity: Capacity::new(config.request_timeout * 3 / 4),
            is_alone: false,
            reports: Vec::new(),
            passed: Vec::new(),
            failures: Vec::new(),
            heard: now,
            kept: now,
        };
        let ended = self.turn_around(&mut flow, wanted, watch);
        if matches!(ended, Ok(Ended::Stopped)) {
            flow.producer.drain(LAST_REPORTS, &mut flow.reports);
            self.take_reports(&mut flow)?;
        }
        // What was not reported may still be under way when another producer starts.
        let is_quiet = flow.window.waiting() == 0;
        self.quiet_at = if is_quiet { Instant::now() } else { Instant::now() + config.request_timeout };
        self.progress.note.clean = flow.window.is_empty() && flow.failures.is_empty();
        flow.producer.end(Duration::from_secs(5));
        ended
    }

    fn turn_around(&mut self, flow: &mut Flow<'_>, wanted: Wanted<'_>, watch: Watch<'_>) -> Result<Ended, ReplayError> {
        let mut wait = Duration::ZERO;
        loop {
            flow.producer.poll(wait, &mut flow.reports);
            self.take_reports(flow)?;
            if !flow.failures.is_empty() || flow.producer.fatal().is_some() {
                flow.producer.drain(NEAR, &mut flow.reports);
                self.take_reports(flow)?;
                return self.failed(flow);
            }
            if watch(Step { phase: Phase::Sending, done: self.progress.sent, total: Some(self.total) }).is_break() {
                return Ok(Ended::Stopped);
            }
            if flow.kept.elapsed() >= KEEP_EVERY {
                self.progress.keep()?;
                flow.kept = Instant::now();
            }
            flow.capacity.look(&flow.window, Instant::now());
            if self.fill(flow, wanted)? {
                wait = Duration::ZERO;
                continue;
            }
            if flow.ready.is_empty() && flow.window.is_empty() && flow.reader.position() >= self.progress.through {
                return Ok(Ended::Done);
            }
            if flow.window.waiting() > 0 && flow.heard.elapsed() > SILENT {
                let why = flow.producer.last_error().get().map_or_else(|| "no answer".into(), |(_, why)| why);
                return Err(ReplayError::Kafka(format!("no broker took events for {} s: {why}", SILENT.as_secs())));
            }
            if self.may_be_forgotten(flow) {
                return Ok(Ended::Again);
            }
            wait = Duration::from_millis(5);
        }
    }

    /// Whether brokers that have not answered for a while may have forgotten the producer: then a request that is sent again could stand twice.
    /// They reckon by record times, and those of a replay are old.
    fn may_be_forgotten(&self, flow: &Flow<'_>) -> bool {
        let silent = if flow.window.waiting() > 0 { flow.heard.elapsed() } else { Duration::ZERO };
        let memory = self.job.config.producer_memory.min(self.limits.producer_expiration / 2);
        let age = flow.window.oldest().map_or(silent, |oldest| silent.max(since(oldest)));
        age > memory && silent > self.job.config.request_timeout * 4 / 5
    }

    fn take_reports(&mut self, flow: &mut Flow<'_>) -> Result<(), ReplayError> {
        for (handle, outcome) in flow.reports.drain(..) {
            flow.heard = Instant::now();
            flow.failures.extend(flow.window.report(handle, outcome));
        }
        flow.window.advance(&mut flow.passed);
        self.progress.sequence = flow.window.acknowledged();
        for Passed { sequence, place, .. } in flow.passed.drain(..) {
            self.progress.sent += 1;
            if let Some((partition, offset)) = place
                && !self.progress.note.acknowledge(partition, offset, sequence)
            {
                let text = format!("the offsets of partition {partition} went backwards, to {offset}: was the topic made anew?");
                return Err(ReplayError::Kafka(text));
            }
        }
        Ok(())
    }

    /// Hands over what the window, the rate and the log give; false if that was nothing.
    fn fill(&mut self, flow: &mut Flow<'_>, wanted: Wanted<'_>) -> Result<bool, ReplayError> {
        let config = self.job.config;
        if flow.window.waiting() == 0 {
            (flow.is_alone, flow.heard) = (false, Instant::now());
        }
        let room = config.window.saturating_sub(flow.window.len()).min(STRIDE);
        let allowed = flow.pace.allowed(room, Instant::now());
        let bytes = config.window_bytes.min(flow.capacity.bytes());
        let (mut sent, mut moved) = (0, false);
        while sent < allowed && !flow.is_alone && flow.window.bytes() < bytes {
            let Some(event) = flow.ready.pop_front() else {
                if !self.refill(flow, wanted)? {
                    break;
                }
                moved = true;
                continue;
            };
            let size = event.value.len() + event.key.len() + FRAMING;
            let wants_room = size > self.batch_bytes() || self.suspects.contains(&event.sequence);
            if wants_room && flow.window.waiting() > 0 {
                flow.ready.push_front(event);
                break;
            }
            if flow.standing.verdict(event.sequence, &event.key, event.key_sequence) == Verdict::Stands {
                flow.window.stands(&event);
                moved = true;
                continue;
            }
            let (handle, at) = (flow.window.next_handle(), self.times.record_time(event.timestamp));
            match flow.producer.send_again(&event, at, handle, &self.progress.id) {
                Ok(()) => {
                    flow.window.hand_over(&event, size);
                    flow.is_alone = wants_room;
                    sent += 1;
                }
                Err(NotTaken::Full) => {
                    flow.ready.push_front(event);
                    break;
                }
                Err(NotTaken::Refused(code)) if class::of(code) == Class::Record => {
                    self.refuse(event.sequence, code)?;
                    flow.window.pass_over(event.sequence, Some(event.timestamp));
                }
                Err(NotTaken::Refused(code)) => return Err(ReplayError::Kafka(format!("the producer cannot go on: {code}"))),
            }
        }
        flow.pace.took(sent);
        Ok(moved || sent > 0)
    }

    /// Reads on to the next block with something that is wanted; false at the end of the log.
    fn refill(&mut self, flow: &mut Flow<'_>, wanted: Wanted<'_>) -> Result<bool, ReplayError> {
        let before = flow.reader.position();
        let reads = flow.reader.next_block()?;
        for read in reads {
            match read {
                Read::Entry(event) if wanted(&event) && !self.refused.contains(&event.sequence) => flow.ready.push_back(event),
                Read::Entry(_) | Read::Lost { .. } => {}
            }
        }
        let position = flow.reader.position();
        if flow.ready.is_empty() && position > before {
            flow.window.pass_over(position, None);
        }
        Ok(position > before)
    }

    /// What a failed life teaches: the next one leaves out a record, tries some alone, or sends with other times.
    fn failed(&mut self, flow: &Flow<'_>) -> Result<Ended, ReplayError> {
        let of = |class: Class| flow.failures.iter().filter(move |failed| class::of(failed.code) == class);
        let refused: Vec<&Failed> = of(Class::Record).collect();
        if let [Failed { sequence, code, .. }] = refused[..] {
            self.refuse(*sequence, *code)?;
            return Ok(Ended::Again);
        }
        if !refused.is_empty() {
            self.suspects.extend(refused.iter().map(|failed| failed.sequence));
            return Ok(Ended::Again);
        }
        if of(Class::Time).next().is_some() {
            self.times.learn(of(Class::Time).map(|failed| failed.timestamp));
            // Whoever was suspected was so for this, or will be again.
            self.suspects.clear();
            return Ok(Ended::Again);
        }
        let fatal = flow.producer.fatal().map(|(_, text)| text);
        let code = flow.failures.first().map_or_else(String::new, |failed| failed.code.to_string());
        Err(ReplayError::Kafka(format!("Kafka takes no more events: {}", fatal.unwrap_or(code))))
    }

    fn refuse(&mut self, sequence: u64, code: Code) -> Result<(), ReplayError> {
        self.refused.insert(sequence);
        self.suspects.remove(&sequence);
        if self.refused.len() > TOO_MANY_REFUSED {
            return Err(ReplayError::Kafka(format!("Kafka refused {TOO_MANY_REFUSED} records ({code}): is the topic right?")));
        }
        Ok(())
    }

    fn batch_bytes(&self) -> usize {
        worker::BATCH.min(self.limits.max_message.saturating_sub(1024).max(1024))
    }
}
