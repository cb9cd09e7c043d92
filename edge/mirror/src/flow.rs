//! While a producer lives: log in, Kafka out, reports back.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use asset_stream::Timestamp;
use edge_buffer::{Read, Reader, Stored};
use rdkafka::error::RDKafkaErrorCode as Code;
use service::error::chain;
use tracing::{debug, warn};

use crate::capacity::{CAUTIOUS, Capacity};
use crate::class::{self, Class, Failure};
use crate::fail_point;
use crate::pace::{Meter, Pace};
use crate::producer::{NotTaken, Producer, Report};
use crate::readback::{Standing, Verdict};
use crate::status::State;
use crate::window::{Failed, Passed};
use crate::worker::{self, Beyond, TopicFacts, Worker};

/// Events handed over between two looks at the reports.
const STRIDE: usize = 1000;
/// Events taken from the log at a time.
const BLOCK: usize = 500;
/// Before the disk is asked again for what it did not give.
const AGAIN: Duration = Duration::from_millis(10);
/// With nothing to send, the loop turns about so often.
const IDLE: Duration = Duration::from_millis(100);
/// Brokers that answered within this time will as a rule answer again soon.
const LATELY: Duration = Duration::from_secs(1);
/// While stopping, the reports of so long are taken at a time.
const NEAR: Duration = Duration::from_millis(20);
/// Without a report for so long, the brokers are called unreachable. On a thin link a batch takes nearly as long.
const SILENT: Duration = Duration::from_secs(10);
/// Without report and without complaint for so long, batches are too large for the link. Long: what the kernel has of them must have left.
const STUCK: Duration = Duration::from_secs(300);
/// What key, headers and framing add to a record, about.
const FRAMING: usize = 200;

/// What one producer's life needs beside the worker.
pub(crate) struct Flow {
    pub(crate) producer: Producer,
    reader: Reader,
    /// Read, and not yet handed over.
    ready: VecDeque<Read>,
    standing: Standing,
    /// The event that is under way alone, because Kafka may refuse it.
    pub(crate) alone: Option<Stored>,
    /// Largest batch; records above this size go alone.
    pub(crate) batch_bytes: usize,
    /// Brokers remember the producer for so long after the time of its last record.
    memory: Duration,
    pub(crate) reports: Vec<Report>,
    passed: Vec<Passed>,
    pub(crate) failures: Vec<Failed>,
    heard: Instant,
    capacity: Capacity,
    pace: Pace,
    meter: Meter,
    mirrored: u64,
}

/// What filling the window came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// Something was handed over or settled.
    Some,
    /// There is nothing new in the log.
    Empty,
    /// There is, but it has to wait for reports, or for the rate.
    Held,
}

impl Worker {
    /// Lets events flow until the producer's life ends. `Ok`: told to stop, or superseded.
    pub(crate) fn flow(&mut self, standing: Standing, found: &TopicFacts) -> Result<(), Failure> {
        self.heed_retention(found.limits.retention);
        let batch_bytes = self.batch_bytes.min(found.limits.max_message.saturating_sub(1024).max(1024));
        let producer = self.start_producer(batch_bytes)?;
        self.shared.begin_life();
        let now = Instant::now();
        let mut flow = Flow {
            producer,
            reader: self.log.reader(self.window.acknowledged()),
            ready: VecDeque::new(),
            standing,
            alone: None,
            batch_bytes,
            memory: self.config.producer_memory.min(found.limits.producer_expiration / 2),
            reports: Vec::new(),
            passed: Vec::new(),
            failures: Vec::new(),
            heard: now,
            capacity: Capacity::new(self.config.request_timeout * 3 / 4),
            pace: Pace::new(self.config.rate, now),
            meter: Meter::new(0, self.log.durable(), now),
            mirrored: 0,
        };
        self.shared.enter(State::Mirroring, "events flow into Kafka");
        let ended = self.turn_around(&mut flow);
        let ended = self.end(flow, ended);
        self.shared.end_life();
        ended
    }

    fn start_producer(&self, batch_bytes: usize) -> Result<Producer, Failure> {
        self.shared.update(|status| status.producers += 1);
        // A suspect has nobody to wait for.
        let linger = if self.suspects.is_empty() { self.config.linger } else { Duration::ZERO };
        Producer::start(&self.config, worker::ROLE, self.log.epoch(), batch_bytes, linger)
            .map_err(|e| Failure::new(Class::Transient, chain(&e)))
    }

    /// The loop. Ends with `Ok` when told to, with an error when the producer can no longer be trusted.
    fn turn_around(&mut self, flow: &mut Flow) -> Result<(), Failure> {
        let mut wait = Duration::ZERO;
        while self.turn() {
            flow.producer.poll(wait, &mut flow.reports);
            self.take_reports(flow)?;
            let fatal = flow.producer.fatal();
            if fatal.is_some() {
                // It is told before the reports of the events that it is about, and these say what to do.
                let mut more = Vec::new();
                flow.producer.drain(Duration::from_secs(1), &mut more);
                flow.reports.append(&mut more);
                self.take_reports(flow)?;
            }
            if !flow.failures.is_empty() {
                self.look_at_failures(flow)?;
            } else if let Some((code, text)) = fatal {
                return Err(Failure::new(class::of(code), format!("the producer cannot go on: {text}")));
            }
            flow.capacity.look(&self.window, Instant::now());
            let filled = self.fill(flow)?;
            self.keep_in_time();
            self.look_at_the_clock(flow)?;
            wait = match filled {
                Filled::Some => Duration::ZERO,
                // Brokers that have been silent for a while will not be noticed later by that.
                Filled::Held if self.window.waiting() > 0 && flow.heard.elapsed() > LATELY => Duration::from_millis(20),
                Filled::Held => Duration::from_millis(1),
                Filled::Empty if self.window.waiting() == 0 => {
                    self.log.wait_durable(flow.reader.position(), IDLE);
                    Duration::ZERO
                }
                // Reports are not urgent, new events are.
                Filled::Empty => {
                    self.log.wait_durable(flow.reader.position(), Duration::from_millis(5));
                    Duration::ZERO
                }
            };
        }
        Ok(())
    }

    /// Another producer, while nothing is under way: no doubt.
    pub(crate) fn replace_producer(&self, flow: &mut Flow) -> Result<(), Failure> {
        let producer = self.start_producer(flow.batch_bytes)?;
        std::mem::replace(&mut flow.producer, producer).end(Duration::from_secs(1));
        Ok(())
    }

    /// Takes reports into the window and moves the acknowledged prefix on.
    pub(crate) fn take_reports(&mut self, flow: &mut Flow) -> Result<(), Failure> {
        if flow.reports.is_empty() && self.window.waiting() == self.window.len() {
            return Ok(());
        }
        let mut went_well = false;
        if !flow.reports.is_empty() {
            flow.heard = Instant::now();
        }
        for (handle, outcome) in flow.reports.drain(..) {
            went_well |= outcome.is_ok();
            flow.failures.extend(self.window.report(handle, outcome));
        }
        if went_well {
            self.things_went_well();
        }
        let Some(note) = &mut self.note else { return Ok(()) };
        self.window.advance(&mut flow.passed);
        let dropped = self.log.acknowledge(self.window.acknowledged());
        // Events in doubt that the cursor has not passed may stand before those that were sent again: the places stay until it has.
        let is_in_doubt = self.mark.as_ref().is_some_and(|(through, _)| *through > self.window.acknowledged());
        let (mut count, mut backwards) = (0, None);
        for Passed { sequence, key, key_sequence, place } in flow.passed.drain(..) {
            if sequence <= dropped {
                self.arrivals.note(&key, key_sequence);
            }
            let Some((partition, offset)) = place else { continue };
            count += 1;
            if !note.acknowledge(partition, offset, sequence) {
                backwards.get_or_insert((partition, offset));
            } else if !is_in_doubt || sequence <= note.unsure_through {
                note.advance_to(&[(partition, offset + 1)]);
            }
        }
        flow.mirrored += count;
        if count > 0 {
            self.fuse.reached(fail_point::REPORTED);
        }
        let (acknowledged, outstanding) = (self.window.acknowledged(), self.window.waiting() as u64);
        self.shared.update(|status| {
            status.mirrored += count;
            (status.acknowledged, status.outstanding) = (acknowledged, outstanding);
        });
        match backwards {
            None => Ok(()),
            Some((partition, offset)) => {
                let text = format!("the offsets of partition {partition} went backwards, to {offset}: was the topic made anew?");
                Err(Failure::new(Class::Transient, text))
            }
        }
    }

    /// Hands over what the window, the rate and the log give.
    fn fill(&mut self, flow: &mut Flow) -> Result<Filled, Failure> {
        if let Some(event) = &flow.alone {
            if self.window.waiting() > 0 {
                return Ok(Filled::Held);
            }
            let was_suspect = self.suspects.remove(&event.sequence);
            flow.alone = None;
            if was_suspect && self.suspects.is_empty() {
                // All is acknowledged and nobody is suspected any more: back to a producer that fills its batches.
                self.replace_producer(flow)?;
            }
        }
        let room = self.config.window.saturating_sub(self.window.len()).min(STRIDE);
        let allowed = flow.pace.allowed(room, Instant::now());
        let bytes = self.config.window_bytes.min(flow.capacity.bytes());
        let (mut sent, mut taken) = (0, 0);
        let mut filled = Filled::Held;
        while sent < allowed && taken < STRIDE && self.window.bytes() < bytes {
            let Some(read) = next(flow)? else {
                filled = Filled::Empty;
                break;
            };
            let event = match read {
                Read::Lost { last, .. } => {
                    // What stands of it is not lost.
                    self.tell_arrived(flow.standing.arrivals())?;
                    self.window.pass_over(last, None);
                    taken += 1;
                    continue;
                }
                Read::Entry(event) => event,
            };
            let verdict = flow.standing.verdict(event.sequence, &event.key, event.key_sequence);
            if verdict == Verdict::Stands {
                self.window.stands(&event);
                taken += 1;
                continue;
            }
            let size = event.value.len() + event.key.len() + FRAMING;
            if size > self.config.max_record_bytes {
                self.refuse(&event, Code::MessageSizeTooLarge)?;
                self.window.pass_over(event.sequence, Some(event.timestamp));
                taken += 1;
                continue;
            }
            let is_alone = size > flow.batch_bytes || self.suspects.contains(&event.sequence);
            if is_alone && self.window.waiting() > 0 {
                flow.ready.push_front(Read::Entry(event));
                break;
            }
            let is_marked = verdict == Verdict::SendMarked;
            if is_marked && let Some(note) = &mut self.note {
                // From now on the partition's place may move past copies of later events in doubt.
                note.unsure_through = note.unsure_through.max(flow.standing.through());
            }
            let handle = self.window.next_handle();
            let at = self.times.record_time(event.timestamp);
            let sent_now = if is_marked { flow.producer.send_marked(&event, at, handle) } else { flow.producer.send(&event, at, handle) };
            match sent_now {
                Ok(()) => {}
                Err(NotTaken::Full) => {
                    flow.ready.push_front(Read::Entry(event));
                    break;
                }
                Err(NotTaken::Refused(code)) if class::of(code) == Class::Record => {
                    self.refuse(&event, code)?;
                    self.window.pass_over(event.sequence, Some(event.timestamp));
                    taken += 1;
                    continue;
                }
                Err(NotTaken::Refused(code)) => {
                    let text = flow.producer.fatal().map_or_else(|| code.to_string(), |(_, text)| text);
                    return Err(Failure::new(class::of(code), format!("the producer cannot go on: {text}")));
                }
            }
            if self.window.waiting() == 0 {
                flow.heard = Instant::now();
            }
            self.window.hand_over(&event, size);
            if is_marked {
                self.shared.update(|status| status.resent += 1);
            }
            sent += 1;
            if is_alone {
                flow.alone = Some(event);
                filled = Filled::Held;
                break;
            }
        }
        if sent + taken > 0 {
            flow.pace.took(sent);
            if sent > 0 {
                self.fuse.reached(fail_point::SENT);
            }
            self.leave_doubt_behind(flow);
            if flow.alone.is_none() && filled == Filled::Held {
                filled = Filled::Some;
            }
        }
        Ok(filled)
    }

    /// Once every event in doubt was looked up, what was found is not needed any more.
    fn leave_doubt_behind(&self, flow: &mut Flow) {
        let through = flow.standing.through();
        if flow.standing.is_forgotten() || self.window.through() < through {
            return;
        }
        let holes = flow.standing.holes();
        if holes > 0 {
            warn!(holes, "events were missing in Kafka behind later ones of their asset; they were sent, marked of-resent");
            self.shared.update(|status| status.holes += holes);
        }
        flow.standing.forget();
    }

    /// A log that does not keep the cursor is no reason to stop: a later doubt has more to look up, that is all.
    fn keep_in_time(&mut self) {
        let (sequence, at) = self.kept;
        if self.window.acknowledged() > sequence && at.elapsed() >= self.config.keep_every {
            self.try_to_keep();
        }
    }

    pub(crate) fn try_to_keep(&mut self) {
        match self.keep(Beyond::Maybe) {
            Ok(()) => self.fuse.reached(fail_point::CURSOR_KEPT),
            Err(failure) => {
                debug!("{}", failure.text);
                self.shared.failed(failure.text);
            }
        }
    }

    /// What depends on time: figures, the state's word, and the brokers' memory.
    fn look_at_the_clock(&mut self, flow: &mut Flow) -> Result<(), Failure> {
        let now = Instant::now();
        let durable = self.log.durable();
        if !flow.meter.step(flow.mirrored, durable, now) {
            return Ok(());
        }
        self.tell_untold();
        self.take_over_ends();
        self.times.let_go(now);
        let backlog = durable.saturating_sub(self.window.acknowledged());
        self.shared.update(|status| {
            status.rate = flow.meter.rate();
            status.eta = flow.meter.eta(backlog);
        });
        let silent = if self.window.waiting() > 0 { flow.heard.elapsed() } else { Duration::ZERO };
        // They reckon by record times: who sends an old backlog is forgotten when they look next. The client sends again what timed out.
        let age = self.window.oldest().map_or(silent, |oldest| silent.max(since(oldest)));
        if age > flow.memory && silent > self.config.request_timeout * 4 / 5 {
            let text = format!("no broker has answered for {} s: they may have forgotten the producer", silent.as_secs());
            return Err(Failure::new(Class::Transient, text));
        }
        if silent < SILENT {
            let text = match flow.meter.eta(backlog) {
                Some(eta) if backlog > self.config.window as u64 => {
                    format!("catching up: {backlog} events at {:.0} a second, about {} s left", flow.meter.rate(), eta.as_secs())
                }
                _ => "events flow into Kafka".to_owned(),
            };
            self.shared.enter(State::Mirroring, text);
            return Ok(());
        }
        // A request that takes too long is no complaint; a connection that cannot be made is one, told every 30 s.
        let unheard = flow.producer.last_error().at().map_or(silent, |at| silent.min(at.elapsed()));
        if unheard > STUCK && flow.capacity.bytes() > CAUTIOUS {
            let text = format!(
                "brokers can be reached, but for {} s no batch has come through in time: smaller ones are tried",
                unheard.as_secs()
            );
            return Err(Failure::new(Class::Transient, text));
        }
        let (class, why) = flow.producer.last_error().get().unwrap_or((Class::Transient, "no answer".into()));
        let state = if class == Class::Denied { State::Denied } else { State::Unreachable };
        self.shared.failed(&why);
        self.shared.enter(state, format!("no broker takes events: {why}; events are kept on disk and tried for ever"));
        Ok(())
    }

    /// The end of a producer's life, in whichever way.
    fn end(&mut self, mut flow: Flow, ended: Result<(), Failure>) -> Result<(), Failure> {
        if self.shared.is_abandoned() {
            flow.producer.end(Duration::ZERO);
            return Ok(());
        }
        let asked_through = if flow.standing.is_forgotten() { 0 } else { flow.standing.through() };
        if ended.is_ok()
            && let Some(deadline) = self.shared.stop_deadline()
        {
            // Stopping in order: reports that are near are waited for, the network is not.
            loop {
                flow.producer.drain(NEAR, &mut flow.reports);
                self.take_reports(&mut flow).unwrap_or_else(|e| debug!("while stopping: {}", e.text));
                if self.window.waiting() == 0 || flow.heard.elapsed() >= LATELY || Instant::now() >= deadline {
                    break;
                }
            }
            let is_clean = self.window.is_empty() && asked_through <= self.window.acknowledged();
            self.keep(if is_clean { Beyond::Nothing } else { Beyond::Maybe })?;
            self.measure();
            flow.producer.end(Duration::ZERO);
            return Ok(());
        }
        flow.producer.poll(Duration::ZERO, &mut flow.reports);
        self.take_reports(&mut flow).unwrap_or_else(|e| debug!("while ending: {}", e.text));
        flow.producer.end(Duration::from_secs(5));
        self.begin_doubt(asked_through);
        self.try_to_keep();
        ended
    }
}

/// How long ago an event was, by its time in Unix ms.
pub(crate) fn since(event: i64) -> Duration {
    Duration::from_millis(Timestamp::now().millis().saturating_sub(event).try_into().unwrap_or_default())
}

/// The next thing to hand over.
fn next(flow: &mut Flow) -> Result<Option<Read>, Failure> {
    if let Some(read) = flow.ready.pop_front() {
        return Ok(Some(read));
    }
    let mut attempts = 1;
    let reads = loop {
        match flow.reader.next_block(BLOCK) {
            // No reason to doubt what Kafka holds. What the disk never gives is told as lost after so many attempts.
            Err(error) if attempts < Reader::ATTEMPTS => debug!("the log cannot be read, attempt {attempts}: {}", chain(&error)),
            reads => break reads,
        }
        attempts += 1;
        thread::sleep(AGAIN);
    };
    flow.ready = reads.map_err(|e| Failure::new(Class::Transient, format!("the log cannot be read: {}", chain(&e))))?.into();
    Ok(flow.ready.pop_front())
}
