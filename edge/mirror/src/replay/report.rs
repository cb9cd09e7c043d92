//! What a run found and did.

use super::Plan;
use super::progress::Progress;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The value of `of-replay` of what it sent.
    pub id: String,
    /// It went on with an unfinished run.
    pub is_resumed: bool,
    /// It came to its end; otherwise the same call goes on with it.
    pub is_complete: bool,
    /// What the log retains of the selection.
    pub plan: Plan,
    /// What stood in Kafka; of [`super::reconcile`] alone, and only once everything was compared.
    pub comparison: Option<Comparison>,
    /// Events that were sent, by earlier parts of the run too.
    pub sent: u64,
    /// Of these, found in Kafka by reading it once more; of [`super::reconcile`] alone.
    pub verified: Option<u64>,
    /// Events that Kafka refused.
    pub refused: u64,
}

impl Outcome {
    pub(super) fn new(progress: &Progress, is_resumed: bool, plan: Plan) -> Self {
        Self { id: progress.id.clone(), is_resumed, is_complete: false, plan, comparison: None, sent: 0, verified: None, refused: 0 }
    }
}

/// What of the selection stands in Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Records that were read.
    pub records: u64,
    /// The topic's retention, ms; `None`: unlimited, or we may not know.
    pub retention: Option<i64>,
    /// By stretch of sequences, in order. Neighbours of which everything stands are one.
    pub stretches: Vec<Stretch>,
    /// Where contents differ: first and last sequence of up to 64 events among which some do. The first ones only.
    pub altered: Vec<(u64, u64)>,
}

impl Comparison {
    /// All stretches together.
    pub fn total(&self) -> Stretch {
        self.stretches.iter().copied().reduce(Stretch::joined).unwrap_or_default()
    }
}

/// How the events of a stretch of sequences fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Its first sequence.
    pub first: u64,
    /// Its last one.
    pub last: u64,
    /// First and last record time of the selected events, Unix ms.
    pub times: Option<(i64, i64)>,
    /// Events that stand in Kafka.
    pub present: u64,
    /// Events that do not, and are to be sent.
    pub missing: u64,
    /// Events that do not, and are older than what the topic retains: sent, they would be deleted at once.
    pub expired: u64,
    /// Events that do not, because Kafka refused them; gap events tell it.
    pub refused: u64,
    /// Sequences that cannot be read from the log, and do not stand in Kafka either.
    pub unreadable: u64,
    /// Further records of events that stand, without a mark that tells readers to drop them.
    pub repeated: u64,
    /// Further records of events that stand, marked `of-resent` or `of-replay`.
    pub marked: u64,
    /// Groups of up to 64 events among which some have other contents in Kafka than in the log.
    pub altered: u64,
}

impl Stretch {
    pub(super) fn joined(self, other: Self) -> Self {
        let times = match (self.times, other.times) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, None) | (None, one) => one,
        };
        Self {
            first: self.first,
            last: other.last,
            times,
            present: self.present + other.present,
            missing: self.missing + other.missing,
            expired: self.expired + other.expired,
            refused: self.refused + other.refused,
            unreadable: self.unreadable + other.unreadable,
            repeated: self.repeated + other.repeated,
            marked: self.marked + other.marked,
            altered: self.altered + other.altered,
        }
    }

    /// Whether each of its events stands once, and as it was.
    pub(super) fn is_whole(&self) -> bool {
        [self.missing, self.expired, self.refused, self.unreadable, self.repeated, self.marked, self.altered]
            .iter()
            .all(|count| *count == 0)
    }
}
