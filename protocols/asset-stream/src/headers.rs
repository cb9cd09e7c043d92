//! The Kafka and NATS headers that we add beside the contract's JSON.

use std::fmt;
use std::str::FromStr;

/// Id of the edge that wrote the record.
pub const EDGE: &str = "of-edge";
/// [`Position`] in that edge's log.
pub const SEQUENCE: &str = "of-seq";
/// [`Position`] among that edge's records of the asset.
pub const ASSET_SEQUENCE: &str = "of-asset-seq";
/// Present on a record that may stand in Kafka twice, because reading back could not settle it: readers drop repeats by sequence.
pub const RESENT: &str = "of-resent";
/// Present on a record that its edge sent again on request (`replay`, `reconcile`): the replay's id. Readers drop what they had by sequence.
pub const REPLAY: &str = "of-replay";
/// Of a copy: `<topic>:<partition>:<offset>` of the record that it is a copy of.
pub const SOURCE: &str = "of-source";
/// NATS: JetStream drops messages whose id it has seen.
pub const NATS_MESSAGE_ID: &str = "Nats-Msg-Id";

/// `<epoch>:<n>`: a place in a gapless count that starts anew, at 1, with each epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// When the log was created, in Unix milliseconds: a wiped log starts a new one.
    pub epoch: u64,
    /// The number within the epoch, from 1.
    pub n: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.n)
    }
}

/// The text is not `<epoch>:<n>`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position: expected <epoch>:<n>, two numbers")]
pub struct NotAPosition;

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let (epoch, n) = text.split_once(':').ok_or(NotAPosition)?;
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit()).then(|| t.parse().ok()).flatten().ok_or(NotAPosition);
        Ok(Self { epoch: digits(epoch)?, n: digits(n)? })
    }
}

#[cfg(test)]
mod tests {
    use super::{NotAPosition, Position};

    #[test]
    fn a_position_reads_back_as_written() {
        let position = Position { epoch: 1_769_528_223_871, n: u64::MAX };
        assert_eq!(position.to_string().parse(), Ok(position));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", ":", "1:", ":1", "1:+2", "1:2:3", "1:-2", "1:18446744073709551616"] {
            assert_eq!(text.parse::<Position>(), Err(NotAPosition), "{text}");
        }
    }
}
