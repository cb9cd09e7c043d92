//! What becomes of a command: each step of its life is an event of the target asset.
//!
//! ```text
//!  requested ──▶ accepted ──▶ executing ──▶ succeeded
//!      │            │             ├───────▶ failed
//!      │            │             └───────▶ unknown
//!      │            ├──▶ expired
//!      │            └──▶ failed
//!      ├──▶ rejected
//!      └──▶ expired
//! ```
//!
//! `requested` is the command itself; all others are events whose `ID` is the command's and `.status`, `TAG` is `Method.Status`, and whose
//! `VALUE` is JSON text:
//!
//! ```
//! use asset_stream::Timestamp;
//! use asset_stream::command::status::{State, Status};
//!
//! let status = Status::new("HMI-7", "c-1", State::Succeeded, Timestamp::from_millis(0));
//! assert_eq!(status.encode(), r#"{"correlation_id":"c-1","sender_uuid":"HMI-7","state":"succeeded","time":"1970-01-01T00:00:00.000Z"}"#);
//! assert!(State::Executing.may_become(State::Unknown) && !State::Unknown.may_become(State::Executing));
//! ```

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{id, method_of};
use crate::{DataItem, Event, Kind, Sample, Timestamp};

/// The `TAG` of a command's status.
pub const TAG: &str = "Method.Status";

/// What the `ID` of a status has behind its command's.
const ENDING: &str = ".status";

/// How far a command is. What is not among them, `requested`, is the command itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The edge will execute it when its turn comes.
    Accepted,
    /// It is not executed: [`Status::reason`] says why.
    Rejected,
    /// The device is asked now.
    Executing,
    /// The device has done it.
    Succeeded,
    /// The device has not done it, or was not asked as its conditions were not met.
    Failed,
    /// It came too late, or waited too long, and is not executed.
    Expired,
    /// The device may have done it or not; nobody could tell. It is not tried again.
    Unknown,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Accepted, Self::Rejected, Self::Executing, Self::Succeeded, Self::Failed, Self::Expired, Self::Unknown];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
            Self::Executing => "executing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }

    /// Whether a command can begin its life with it.
    pub fn is_first(self) -> bool {
        matches!(self, Self::Accepted | Self::Rejected | Self::Expired)
    }

    /// Whether nothing comes after it.
    pub fn is_end(self) -> bool {
        !matches!(self, Self::Accepted | Self::Executing)
    }

    /// Whether `next` may come right after it.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Accepted => matches!(next, Self::Executing | Self::Failed | Self::Expired),
            Self::Executing => matches!(next, Self::Succeeded | Self::Failed | Self::Unknown),
            Self::Rejected | Self::Succeeded | Self::Failed | Self::Expired | Self::Unknown => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a command was not executed, or what went wrong: a word for programs. [`Status::detail`] says it to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is no command: [`super::NotACommand`].
    Malformed,
    /// The same sender used the same correlation id for another command.
    IdUsedTwice,
    /// Nobody serves this asset.
    UnknownAsset,
    /// The asset has no such method, and no writable variable of this name.
    UnknownMethod,
    /// The method takes no argument of this name.
    UnknownArgument,
    /// The method needs an argument that is not there.
    MissingArgument,
    /// An argument cannot be made a value of the type that the device declares.
    WrongType,
    /// An argument lies outside of what is allowed.
    OutOfRange,
    /// It has no signature, and needs one.
    Unsigned,
    /// Its signature is none of the sender's.
    Forged,
    /// The sender has no key here.
    UnknownSender,
    /// The policy does not allow it to this sender.
    NotAllowed,
    /// The sender asks more often than the policy allows.
    TooOften,
    /// More commands wait for the device than are kept.
    QueueFull,
    /// The edge does not trust its own clock, and so cannot know whether the deadline has passed.
    ClockUntrusted,
    /// The deadline had passed when it arrived.
    ArrivedLate,
    /// The deadline passed while it waited.
    WaitedTooLong,
    /// A value that it asks for was another one just before the action.
    Precondition,
    /// The device is not connected.
    DeviceAway,
    /// The device refused it; the detail has its own code.
    DeviceRefused,
    /// The device did not answer in time.
    NoAnswer,
    /// The edge ended between the action's begin and its answer.
    EdgeCrashed,
    /// The action was done, and the value that proves it did not come.
    NotConfirmed,
}

/// A step of a command's life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The command's.
    pub correlation_id: String,
    /// The command's; with the correlation id it names the command.
    #[serde(default)]
    pub sender_uuid: String,
    /// The step.
    pub state: State,
    /// When, by the edge's clock.
    #[serde(with = "as_text")]
    pub time: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for people, with what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What the device gave back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Json>,
    /// Its place in the edge's chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Link>,
}

/// The place of a status in the chain of all that an edge has told about commands: one that is missing or altered shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Counts the edge's statuses, from 1 on.
    pub n: u64,
    /// SHA-256, in lower-case hexadecimal, of the `VALUE` text of number n - 1; empty for the first.
    pub previous: String,
}

impl Status {
    /// A step without reason, result and chain.
    pub fn new(sender_uuid: impl Into<String>, correlation_id: impl Into<String>, state: State, time: Timestamp) -> Self {
        let (correlation_id, sender_uuid) = (correlation_id.into(), sender_uuid.into());
        Self { correlation_id, sender_uuid, state, time, reason: None, detail: None, result: None, chain: None }
    }

    /// The JSON text that is the event's value.
    pub fn encode(&self) -> String {
        // Texts, numbers and JSON always become JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The event of the target asset. `method` is the command's safe name.
    pub fn to_sample(&self, target: impl Into<Arc<str>>, method: &str) -> Sample {
        let item = DataItem::new(target.into(), format!("{}{ENDING}", id(method)), TAG, Kind::OpenFactory);
        Sample::good(Arc::new(item), self.encode(), self.time, self.time)
    }

    /// The method and the status of an event; `None` if it is none of a status.
    pub fn from_event(event: &Event) -> Option<(&str, Result<Self, serde_json::Error>)> {
        let method = method_of(event.id.strip_suffix(ENDING)?)?;
        let text = event.value.as_str()?;
        Some((method, serde_json::from_str(text)))
    }
}

/// A time as the contract writes it.
mod as_text {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::Timestamp;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no time")))
    }
}

#[cfg(test)]
mod tests {
    use super::{Reason, State, Status};
    use crate::{Event, Timestamp};

    /// From `state`, everything that can follow, with the ends that are reached.
    fn walk(state: State, way: &mut Vec<State>, ends: &mut Vec<Vec<State>>) {
        way.push(state);
        assert!(way.len() <= State::ALL.len(), "a way that comes back to itself: {way:?}");
        let next: Vec<State> = State::ALL.into_iter().filter(|next| state.may_become(*next)).collect();
        assert_eq!(next.is_empty(), state.is_end(), "{state} has {next:?} behind it");
        if next.is_empty() {
            ends.push(way.clone());
        }
        for next in next {
            walk(next, way, ends);
        }
        way.pop();
    }

    #[test]
    fn every_way_through_a_commands_life_ends_once_and_asks_the_device_at_most_once() {
        let mut ends = Vec::new();
        for first in State::ALL.into_iter().filter(|state| state.is_first()) {
            walk(first, &mut Vec::new(), &mut ends);
        }
        let written: Vec<String> = ends.iter().map(|way| way.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "accepted executing succeeded",
            "accepted executing failed",
            "accepted executing unknown",
            "accepted failed",
            "accepted expired",
            "rejected",
            "expired",
        ];
        assert_eq!(written, expected);
        // Without having told it, nobody asks the device; what it has done or may have done is told only then.
        for way in ends {
            let asked = way.contains(&State::Executing);
            assert_eq!(way.contains(&State::Succeeded) || way.contains(&State::Unknown), asked && !way.contains(&State::Failed));
        }
    }

    #[test]
    fn a_status_is_an_event_of_its_target_and_is_read_back() {
        let status = Status {
            reason: Some(Reason::DeviceRefused),
            detail: Some("the server answered BadOutOfRange".into()),
            result: Some(serde_json::json!([1, "x"])),
            chain: Some(super::Link { n: 2, previous: "ab".into() }),
            ..Status::new("HMI-7", "c-1", State::Failed, Timestamp::from_millis(1_771_675_200_000))
        };
        let mut json = Vec::new();
        status.to_sample("CNC-1", "Move_Axis").encode(&mut json);
        let event = Event::decode(&json).expect("an event");
        assert_eq!((&*event.id, &*event.tag, event.kind.as_str()), ("Move_Axis_CMD.status", "Method.Status", "OpenFactory"));
        let (method, read) = Status::from_event(&event).expect("a status");
        assert_eq!((method, read.expect("valid")), ("Move_Axis", status));
        for other in ["Move_Axis_CMD", "Move_Axis.status", "_CMD.status", ".status"] {
            assert!(Status::from_event(&Event { id: other.into(), ..event.clone() }).is_none(), "{other}");
        }
    }
}
