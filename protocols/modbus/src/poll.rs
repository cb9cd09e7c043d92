//! One device: finding it, reading it on time, finding out what it refuses, telling what changed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use asset_stream::{DataItem, Gap, GapReason, Sample, Timestamp};
use gateway::{Backoff, Closed, DeviceLink, Outcome, Receipt, chain};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use crate::actions::Presence;
use crate::bus::{Answer, Member};
use crate::config::{Config, Group, Interval};
use crate::cycle::Cycle;
use crate::error::{Error, Exception, Remedy};
use crate::plan::{Block, plan};
use crate::schedule::{Next, Schedule};
use crate::told::Told;
use crate::types::Span;

/// The first wait after a device was lost.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// A device that answered this long is not blamed for its earlier failures.
const PROVEN: Duration = Duration::from_secs(10);

/// Before what is read once is read again because the log did not take it.
const AGAIN: Duration = Duration::from_secs(1);

/// How often a device is asked whether it is there when there is nothing else to ask for.
const ALIVE: Duration = Duration::from_secs(10);

/// Before a busy device is asked again.
const BUSY: Duration = Duration::from_millis(100);

/// One late cycle is an accident; so many are a device that is too slow.
const LATE_IN_A_ROW: u32 = 3;

/// How often it is said that a device is too slow.
const SAY_AGAIN: Duration = Duration::from_secs(600);

/// So many polls that fell out one after the other, and at least so long a time: what the device said meanwhile is told to be missing.
const HOLE_POLLS: u32 = 5;
const HOLE: Duration = Duration::from_secs(1);

/// The status of what a device never answers, while it answers everything else.
const NO_ANSWER: &str = "NoAnswer";

/// A device and everything that outlives its connections.
pub(crate) struct Device {
    config: Arc<Config>,
    link: DeviceLink,
    member: Member,
    presence: Presence,
    items: Vec<Arc<DataItem>>,
    /// For each group, the requests of a device that refuses nothing.
    plans: Vec<Vec<Arc<Block>>>,
    /// Something that it answered: asking for it again tells whether the device is there.
    heard: Option<Span>,
    /// When it last said anything.
    heard_at: Instant,
    /// Which variable it is looked for with next.
    turn: usize,
    said_slow: Option<Instant>,
}

/// How a session ended.
enum End {
    /// The device does not answer any more.
    Lost(Error),
    /// The edge takes no more samples.
    Closed(Closed),
}

impl From<Closed> for End {
    fn from(closed: Closed) -> Self {
        Self::Closed(closed)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Nobody asks it any more; also where the gateway failed.
        self.presence.go();
    }
}

impl Device {
    /// `presence`: where it says that it can be asked.
    pub(crate) fn new(config: Arc<Config>, link: DeviceLink, member: Member, presence: Presence) -> Self {
        let items = config.variables.iter().map(|v| link.item(v.id.clone(), v.tag.clone(), v.kind)).collect();
        let of_group = |group| config.variables.iter().enumerate().filter(move |(_, v)| v.group == group).map(|(i, v)| (i, v.span));
        let plans = (0..config.groups.len()).map(|group| plan(of_group(group), &config.limits).into_iter().map(Arc::new).collect());
        let plans = plans.collect();
        Self { config, link, member, presence, items, plans, heard: None, heard_at: Instant::now(), turn: 0, said_slow: None }
    }

    /// Reads the device until the link is closed or the connection's task has ended.
    pub(crate) async fn run(mut self) -> Result<(), Closed> {
        let mut backoff = Backoff::new(FIRST_WAIT, self.config.timing.max_reconnect_delay);
        let mut retries = self.config.timing.retries;
        loop {
            let lost = match self.find(retries).await {
                Ok(()) => {
                    self.presence.come(self.member.asker());
                    self.link.connected().await?;
                    let began = Instant::now();
                    let lost = match self.session().await {
                        End::Lost(error) => error,
                        End::Closed(closed) => return Err(closed),
                    };
                    if began.elapsed() > PROVEN {
                        backoff.reset();
                    }
                    lost
                }
                Err(error) => error,
            };
            self.presence.go();
            // It is known to be away: one question at a time is enough to find out when it is back.
            retries = 0;
            self.link.lost(reason(&lost)).await?;
            if self.member.is_stopped() {
                return Ok(());
            }
            self.wait(&lost, backoff.next_delay()).await;
        }
    }

    /// Waits before the next attempt; another device of the same connection may find out earlier that it can be opened again.
    async fn wait(&mut self, lost: &Error, delay: Duration) {
        self.member.forget_openings();
        tokio::select! {
            () = sleep(delay) => {}
            () = self.member.reopened(), if matches!(lost, Error::Connect { .. }) => {}
        }
    }

    /// Asks for something small: what it answered before and each of its variables in turn, because it may not answer some at all.
    async fn find(&mut self, retries: u32) -> Result<(), Error> {
        let turn = self.turn;
        self.turn += 1;
        let variable = self.config.variables.get(turn / 2 % self.config.variables.len().max(1)).map(|v| v.span);
        let Some(span) = self.heard.filter(|_| turn.is_multiple_of(2)).or(variable) else { return Ok(()) };
        self.is_there(span, retries).await?;
        (self.heard, self.heard_at) = (Some(span), Instant::now());
        Ok(())
    }

    /// Whether the device itself says anything, a refusal included.
    async fn is_there(&self, span: Span, retries: u32) -> Result<(), Error> {
        match self.ask(span, retries).await {
            Err(Error::Refused { exception, .. }) if exception.remedy() != Remedy::Reconnect => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Asks until there is an answer; what cannot be helped by asking again is returned at once.
    async fn ask(&self, span: Span, retries: u32) -> Result<Answer, Error> {
        let (mut left, mut slow) = (retries, None);
        loop {
            let error = match self.member.ask(self.config.unit, span, &self.config.timing).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match &error {
                Error::Refused { exception, .. } if left > 0 && matches!(exception.remedy(), Remedy::Wait | Remedy::Reconnect) => {
                    sleep(BUSY).await;
                }
                Error::Timeout { .. } | Error::Disconnected { .. } | Error::Garbled { .. } if left > 0 => {}
                // That answers come, only too late, says more than that the last one did not come.
                Error::Timeout { .. } => return Err(slow.unwrap_or(error)),
                _ => return Err(error),
            }
            debug!(%error, left, "asking again");
            left -= 1;
            if matches!(error, Error::Timeout { late_bytes: 1.., .. }) {
                slow = Some(error);
            }
        }
    }

    /// Whether the device answers something other than this.
    async fn answers_otherwise(&self, block: &Block) -> bool {
        let others = self.config.variables.iter().map(|variable| variable.span);
        match self.heard.into_iter().chain(others).find(|span| *span != block.span) {
            Some(other) => self.is_there(other, 0).await.is_ok(),
            None => false,
        }
    }

    /// Reads a device that answers until it does not. Every value is told anew: while it was away nobody knew them.
    async fn session(&mut self) -> End {
        let mut session = Session::new(self);
        let polled = self.config.groups.iter().any(|group| group.interval != Interval::Once);
        loop {
            let now = Instant::now();
            session.settle(&self.config, now);
            match session.schedule.next(now) {
                Next::Ask(group) => {
                    if let Err(end) = self.step(&mut session, group).await {
                        return end;
                    }
                }
                Next::Wait(until) if polled => sleep_until(until).await,
                Next::Wait(until) => sleep_until(until.min(now + ALIVE)).await,
                Next::Idle => sleep(ALIVE).await,
            }
            // Nothing to ask for at all, or everything refused: that it is there has to be asked in its own right.
            if self.heard_at.elapsed() > ALIVE
                && session.is_quiet(&self.config)
                && let Err(lost) = self.find(self.config.timing.retries).await
            {
                return End::Lost(lost);
            }
        }
    }

    /// Sends the group's next request, and deals with its answer.
    async fn step(&mut self, session: &mut Session, group: usize) -> Result<(), End> {
        let cycle = &mut session.cycles[group];
        cycle.relearn(&self.plans[group], Instant::now());
        let Some(block) = cycle.current() else {
            return Ok(self.finish(session, group).await?);
        };
        let answer = self.ask(block.span, self.config.timing.retries).await;
        let cycle = &mut session.cycles[group];
        if answer.is_err() {
            cycle.trouble();
        }
        if matches!(answer, Ok(_) | Err(Error::Refused { .. })) {
            self.heard_at = Instant::now();
        }
        match answer {
            Ok(answer) => {
                cycle.answered();
                let samples = session.told.answered(&self.config, &self.items, &block, &answer);
                self.send(session, samples).await?;
            }
            Err(Error::Refused { exception, .. }) if exception.remedy() == Remedy::Wait => {
                cycle.skip();
                self.refused(session, &block, exception).await?;
            }
            Err(error @ Error::Refused { exception, .. }) => match exception.remedy() {
                Remedy::Reconnect => return Err(End::Lost(error)),
                Remedy::Split if cycle.split() => debug!(%error, "asking for less at once"),
                _ => {
                    cycle.suspend();
                    self.refused(session, &block, exception).await?;
                }
            },
            Err(error @ (Error::Timeout { .. } | Error::Disconnected { .. } | Error::Garbled { .. })) => {
                if !self.answers_otherwise(&block).await {
                    return Err(End::Lost(error));
                }
                // What was answered before may have been unlucky; what never was is taken apart.
                if cycle.forget_answer() {
                    self.bad(session, &block, NO_ANSWER, &chain(&error)).await?;
                } else if !cycle.split() {
                    cycle.suspend();
                    self.bad(session, &block, NO_ANSWER, &chain(&error)).await?;
                }
            }
            Err(error) => return Err(End::Lost(error)),
        }
        if session.cycles[group].current().is_none() {
            self.finish(session, group).await?;
        }
        Ok(())
    }

    async fn refused(&self, session: &mut Session, block: &Block, exception: Exception) -> Result<(), Closed> {
        self.bad(session, block, &exception.to_string(), exception.advice()).await
    }

    /// Tells that there is no value, and why; once.
    async fn bad(&self, session: &mut Session, block: &Block, status: &str, why: &str) -> Result<(), Closed> {
        let samples = session.told.refused(&self.items, block, status);
        if let Some(first) = samples.first() {
            let (span, more) = (block.span, samples.len() - 1);
            warn!(variable = %first.item.id, more, %span, status, why, "no value");
            self.link.status().set_error(format!("{} ({span}): {status}: {why}", first.item.id));
        }
        self.send(session, samples).await
    }

    async fn send(&self, session: &mut Session, samples: Vec<Sample>) -> Result<(), Closed> {
        if !samples.is_empty() {
            let receipt = self.link.send(samples).await?;
            session.sent.push_back((session.told.batch(), receipt));
        }
        Ok(())
    }

    async fn finish(&mut self, session: &mut Session, group: usize) -> Result<(), Closed> {
        let now = Instant::now();
        let skipped = session.schedule.finish(group, now);
        let cycle = &mut session.cycles[group];
        cycle.end(skipped);
        let Group { name, interval } = &self.config.groups[group];
        let late = cycle.late();
        let is_slow = late == LATE_IN_A_ROW && self.said_slow.is_none_or(|said| said + SAY_AGAIN < now);
        match (interval, cycle.relearn_at()) {
            (Interval::Once, Some(at)) => session.schedule.again(group, at),
            (Interval::Every(interval), _) if is_slow => {
                self.said_slow = Some(now);
                let slow =
                    format!("reading group `{name}` takes longer than its interval of {} ms: polls are skipped", interval.as_millis());
                warn!(skipped, "{slow}");
                self.link.status().set_error(slow);
            }
            // A device that is always too slow is not told of each time.
            (Interval::Every(interval), _) if skipped >= HOLE_POLLS && late < LATE_IN_A_ROW => {
                let hole = interval.saturating_mul(skipped);
                if hole >= HOLE {
                    let text = format!("group `{name}` was not polled for {} ms: {skipped} polls fell out", hole.as_millis());
                    warn!("{text}");
                    self.link.gap(&self.hole(hole, text)).await?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn hole(&self, length: Duration, detail: String) -> Gap {
        let to = Timestamp::now();
        // The last poll before was an interval earlier than the first that fell out, at most as long as all of them.
        let from = Timestamp::from_millis(to.millis().saturating_sub(2 * i64::try_from(length.as_millis()).unwrap_or(i64::MAX / 2)));
        Gap::before_log(self.link.asset().clone(), GapReason::NotPolled, from, to, detail)
    }
}

/// Why a device is lost. Which of its variables was asked for does not matter then: it is another each time.
fn reason(lost: &Error) -> String {
    match lost {
        Error::Refused { endpoint, unit, exception, .. } => format!("unit {unit} at {endpoint}: {exception}: {}", exception.advice()),
        other => chain(other),
    }
}

/// What is true for the life of a connection.
struct Session {
    schedule: Schedule,
    cycles: Vec<Cycle>,
    told: Told,
    /// Batches whose fate is not known yet; the channel to the log bounds how many there can be.
    sent: VecDeque<(u64, Receipt)>,
}

impl Session {
    fn new(device: &Device) -> Self {
        let intervals = device.config.groups.iter().map(|group| group.interval);
        Self {
            schedule: Schedule::new(intervals, Instant::now()),
            cycles: device.plans.iter().map(|plan| Cycle::new(plan, device.config.timing.retry_refused)).collect(),
            told: Told::nothing(device.config.variables.len()),
            sent: VecDeque::new(),
        }
    }

    /// What the log did not take was not told, so it is told at the next poll, changed or not; what is read once is read again.
    fn settle(&mut self, config: &Config, now: Instant) {
        let is_once = |group: usize| config.groups[group].interval == Interval::Once;
        if self.cycles.iter().enumerate().any(|(group, cycle)| is_once(group) && cycle.is_under_way()) {
            // The end of that cycle would forget that it is to be run again.
            return;
        }
        while let Some(outcome) = self.sent.front_mut().and_then(|(_, receipt)| receipt.known()) {
            let batch = self.sent.pop_front().map(|(batch, _)| batch);
            if outcome == Ok(Outcome::Durable) {
                continue;
            }
            let untold = batch.map(|batch| self.told.forget(batch)).unwrap_or_default();
            for (group, cycle) in self.cycles.iter_mut().enumerate() {
                if cycle.ask_again(&untold) && is_once(group) {
                    self.schedule.again(group, now + AGAIN);
                }
            }
        }
    }

    /// Whether no polled group has anything to ask for.
    fn is_quiet(&self, config: &Config) -> bool {
        let mut polled = self.cycles.iter().zip(&config.groups).filter(|(_, group)| group.interval != Interval::Once);
        polled.all(|(cycle, _)| cycle.is_suspended())
    }
}
