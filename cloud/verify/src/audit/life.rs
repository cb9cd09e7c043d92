//! Commands with what became of them.

use std::collections::{BTreeMap, BTreeSet};

use asset_stream::command::status::{Reason, State, Status};
use asset_stream::command::{Command, NotACommand, method_of};
use asset_stream::{Timestamp, headers};
use serde::Serialize;
use serde_json::Value as Json;

use super::{Record, Request};

/// So long after its deadline, in ms, a command must have an end; without a deadline after it was given.
const GRACE: i64 = 60_000;

/// What is wrong with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// Its deadline is long past, and nobody told an end.
    NoEnd,
    /// It has more than one end.
    TwoEnds,
    /// A step came that may not follow the one before.
    WrongStep,
    /// There is a status, and no command.
    NoCommand,
    /// A status of it cannot be read.
    Unreadable,
}

/// A command.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// When it was given, by the sender's clock if it tells it.
    pub time: String,
    /// The asset that is asked.
    pub asset: String,
    /// The method or variable.
    pub method: String,
    /// Names and values.
    pub arguments: Vec<(String, String)>,
    /// Who asked.
    pub sender_uuid: String,
    /// With the sender it names the command; empty if it cannot be read.
    pub correlation_id: String,
    /// Whether it bears a signature; whether that is good is for the edge to say.
    pub signed: bool,
    /// From when on it must not be executed.
    pub expires_at: Option<String>,
    /// How often it was given again.
    pub repeats: u64,
    /// Why it is no command.
    pub malformed: Option<String>,
    /// What became of it.
    pub steps: Vec<StepRow>,
    /// Its end.
    pub end: Option<State>,
    /// What is wrong with it.
    pub flags: BTreeSet<Flag>,
}

/// A step of its life.
#[derive(Clone, Debug, Serialize)]
pub struct StepRow {
    /// The step.
    pub state: State,
    /// When, by the edge's clock.
    pub time: String,
    /// Milliseconds since the step before, or since the command was given: less than 0 where clocks differ.
    pub after_ms: i64,
    /// Who told it.
    pub edge: Option<String>,
    /// Why.
    pub reason: Option<Reason>,
    /// The same for people.
    pub detail: Option<String>,
    /// What the device gave back.
    pub result: Option<Json>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    asset: String,
    sender: String,
    id: String,
}

struct Asked {
    time: i64,
    method: String,
    command: Command,
}

#[derive(Default)]
struct Life {
    asked: Vec<Asked>,
    told: Vec<(Status, Option<String>)>,
    /// Where it stands, and the method of its first status.
    place: Option<(i32, String)>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Lives {
    lives: BTreeMap<Name, Life>,
    malformed: Vec<(i64, Row)>,
    /// Records that stand there again are told once.
    seen: BTreeSet<(String, headers::Position)>,
}

impl Lives {
    pub(super) fn take(&mut self, record: Record) {
        if let (Some(edge), Some(position)) = (&record.edge, record.position)
            && !self.seen.insert((edge.clone(), position))
        {
            return;
        }
        match Status::from_event(&record.event) {
            Some((method, status)) => {
                let method = method.to_owned();
                self.told(record, method, status);
            }
            None if method_of(&record.event.id).is_some() => self.asked(record),
            None => {}
        }
    }

    fn asked(&mut self, record: Record) {
        match Command::from_event(&record.event) {
            Ok((method, command)) => {
                let header = &command.header;
                let name = Name { asset: record.asset, sender: header.sender_uuid.clone(), id: header.correlation_id.clone() };
                let life = self.lives.entry(name).or_default();
                life.place.get_or_insert((record.partition, method.clone()));
                life.asked.push(Asked { time: record.time, method, command });
            }
            Err(NotACommand::Announcement) => {}
            // What is of another type is a variable that somebody named so.
            Err(_) if record.event.kind != asset_stream::Kind::OpenFactory => {}
            Err(problem) => {
                let method = method_of(&record.event.id).unwrap_or_default();
                let mut row = Row::new(&record.asset, method, Timestamp::from_millis(record.time).to_string());
                row.malformed = Some(service::error::chain(&problem));
                self.malformed.push((record.time, row));
            }
        }
    }

    fn told(&mut self, record: Record, method: String, status: Result<Status, serde_json::Error>) {
        let status = match status {
            Ok(status) => status,
            Err(error) => {
                let mut row = Row::new(&record.asset, &method, Timestamp::from_millis(record.time).to_string());
                row.malformed = Some(format!("the status cannot be read: {error}"));
                row.flags.insert(Flag::Unreadable);
                self.malformed.push((record.time, row));
                return;
            }
        };
        // An edge's answer to what could not be read names no command.
        if status.correlation_id.is_empty() {
            return;
        }
        let name = Name { asset: record.asset, sender: status.sender_uuid.clone(), id: status.correlation_id.clone() };
        let life = self.lives.entry(name).or_default();
        life.place.get_or_insert((record.partition, method));
        life.told.push((status, record.edge));
    }

    /// What was asked for, by time, and how many lives are not judged as they began before what was read.
    pub(super) fn rows(self, request: &Request, is_cut: impl Fn(i32) -> bool, now: Timestamp) -> (Vec<Row>, u64) {
        let is_wanted = |asset: &str, sender: Option<&str>, time: i64| {
            request.asset.as_ref().is_none_or(|wanted| wanted == asset)
                && request.sender.as_ref().is_none_or(|wanted| sender == Some(wanted.as_str()))
                && request.from.is_none_or(|from| time >= from.millis())
                && request.to.is_none_or(|to| time < to.millis())
        };
        let mut rows: Vec<(i64, Row)> = self.malformed.into_iter().filter(|(time, row)| is_wanted(&row.asset, None, *time)).collect();
        let mut earlier = 0;
        for (name, life) in self.lives {
            let first = life.told.first().map(|(status, _)| status.time.millis());
            let Some(time) = life.asked.first().map(|asked| asked.time).or(first) else { continue };
            if !is_wanted(&name.asset, Some(&name.sender), time) {
                continue;
            }
            if life.asked.is_empty() && life.place.as_ref().is_some_and(|(partition, _)| is_cut(*partition)) {
                earlier += 1;
                continue;
            }
            rows.push((time, life.row(&name, time, now)));
        }
        rows.sort_by_key(|(time, _)| *time);
        (rows.into_iter().map(|(_, row)| row).collect(), earlier)
    }
}

impl Life {
    fn row(self, name: &Name, time: i64, now: Timestamp) -> Row {
        let method = self.place.map_or_else(String::new, |(_, method)| method);
        let mut row = Row::new(&name.asset, &method, Timestamp::from_millis(time).to_string());
        (row.sender_uuid, row.correlation_id) = (name.sender.clone(), name.id.clone());
        let mut since = time;
        let mut deadline = time;
        if let Some(asked) = self.asked.first() {
            let header = &asked.command.header;
            since = header.time().map_or(time, Timestamp::millis);
            row.time = Timestamp::from_millis(since).to_string();
            row.method.clone_from(&asked.method);
            row.arguments.clone_from(&asked.command.arguments);
            row.signed = header.signature.is_some();
            row.expires_at.clone_from(&header.expires_at);
            deadline = header.deadline().ok().flatten().map_or(time, Timestamp::millis);
        } else {
            row.flags.insert(Flag::NoCommand);
        }
        row.repeats = (self.asked.len() as u64).saturating_sub(1);
        let mut last: Option<State> = None;
        for (status, edge) in self.told {
            // The answer to another command that was given with this one's id.
            let is_of_another = status.reason == Some(Reason::IdUsedTwice) && row.repeats > 0;
            if !is_of_another {
                row.judge(last, status.state);
                last = Some(status.state);
            }
            let after_ms = status.time.millis() - since;
            since = status.time.millis();
            let Status { state, time, reason, detail, result, .. } = status;
            row.steps.push(StepRow { state, time: time.to_string(), after_ms, edge, reason, detail, result });
        }
        if row.end.is_none() && now.millis() > deadline.max(time) + GRACE && !row.flags.contains(&Flag::NoCommand) {
            row.flags.insert(Flag::NoEnd);
        }
        row
    }
}

impl Row {
    fn new(asset: &str, method: &str, time: String) -> Self {
        Self {
            time,
            asset: asset.to_owned(),
            method: method.to_owned(),
            arguments: Vec::new(),
            sender_uuid: String::new(),
            correlation_id: String::new(),
            signed: false,
            expires_at: None,
            repeats: 0,
            malformed: None,
            steps: Vec::new(),
            end: None,
            flags: BTreeSet::new(),
        }
    }

    fn judge(&mut self, last: Option<State>, state: State) {
        if state.is_end() && self.end.is_some() {
            self.flags.insert(Flag::TwoEnds);
        } else if !last.map_or(state.is_first(), |last| last.may_become(state)) {
            self.flags.insert(Flag::WrongStep);
        }
        if state.is_end() {
            self.end.get_or_insert(state);
        }
    }
}
