//! Who executes a command: of several edges that serve its asset, the first whose claim stands behind it.
//!
//! Claims stand in the topic of commands, in the partition of their command, where every edge reads them in the same order. So all of them know
//! the same winner, also those that come later, and one that lost its log does not execute a second time what it had claimed before.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{id, method_of};
use crate::{DataItem, Event, Kind, Sample, Timestamp};

/// Behind a command's `ID`, it makes that of its claims.
pub const ENDING: &str = ".claim";
/// The `TAG` of a claim.
pub const TAG: &str = "Method.Claim";

/// An edge wants to execute a command. It does so only if no other claim of the command stands before its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The command's; empty for a record whose envelope cannot be read.
    pub correlation_id: String,
    /// The command's.
    #[serde(default)]
    pub sender_uuid: String,
    /// The offset of the command's record.
    pub offset: i64,
    /// The edge.
    pub edge: String,
    /// The epoch of its log, where the command's life is kept.
    pub epoch: u64,
    /// When this life of the edge began, Unix ms: a claim of an earlier life may have been followed already.
    pub since: i64,
}

impl Claim {
    /// The record's value. `method` is the command's safe name.
    pub fn to_sample(&self, target: impl Into<Arc<str>>, method: &str, now: Timestamp) -> Sample {
        let item = DataItem::new(target.into(), format!("{}{ENDING}", id(method)), TAG, Kind::OpenFactory);
        // Texts and numbers always become JSON.
        Sample::good(Arc::new(item), serde_json::to_string(self).unwrap_or_default(), now, now)
    }

    /// The claim of an event; `None` if it is none.
    pub fn from_event(event: &Event) -> Option<Result<Self, serde_json::Error>> {
        method_of(event.id.strip_suffix(ENDING)?)?;
        Some(serde_json::from_str(event.value.as_str()?))
    }
}

#[cfg(test)]
mod tests {
    use super::Claim;
    use crate::{Event, Timestamp};

    #[test]
    fn a_claim_is_read_back_as_written_and_is_no_command() {
        let claim =
            Claim { correlation_id: "c-1".into(), sender_uuid: "HMI-7".into(), offset: 17, edge: "box-1".into(), epoch: 5, since: 9 };
        let mut json = Vec::new();
        claim.to_sample("CNC-1", "Move", Timestamp::from_millis(0)).encode(&mut json);
        let event = Event::decode(&json).expect("an event");
        assert_eq!(&*event.id, "Move_CMD.claim");
        assert_eq!(Claim::from_event(&event).expect("a claim").expect("valid"), claim);
        assert!(super::super::method_of(&event.id).is_none() && super::super::status::Status::from_event(&event).is_none());
    }
}
