//! Settling doubt: which events beyond the cursor must be sent, given what was found standing in Kafka. Pure; no I/O.
//!
//! What is known, per partition, within one producer's life: the idempotent producer appends in the order of hand-over, with one request under
//! way at a time, and stops for good at the first batch that fails (`enable.gapless.guarantee`). So what stands of a partition's events
//! in doubt is a prefix of them; and because an asset's events share a partition, what stands of an asset's events is a prefix too. Sending
//! the missing ones in the log's order therefore keeps each asset's order.
//!
//! Reality may disagree (a topic that grew partitions, an unclean election, somebody deleting records): an event is missing, and a later one of its asset
//! stands. It is sent all the same, marked `of-resent` (it is late), and counted, so that it is said aloud.

use edge_buffer::Arrivals;

/// What to do with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It stands in Kafka: nothing to do.
    Stands,
    /// Send it.
    Send,
    /// Send it with the header `of-resent`: it may stand already, or comes after later ones of its asset.
    SendMarked,
}

/// What was found in Kafka of the events in doubt.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Events up to here are acknowledged.
    after: u64,
    /// Events beyond were never handed over.
    through: u64,
    /// One bit for each sequence from `after` + 1; grows up to the last one found.
    bits: Vec<u64>,
    count: u64,
    /// The events found, by their assets' sequences.
    arrivals: Arrivals,
    /// Up to here, what was not found may stand all the same.
    unsure_through: u64,
    complete: bool,
    repeats: u64,
    strangers: u64,
    holes: u64,
}

impl Standing {
    /// Doubt about the sequences `after` + 1 to `through`, nothing found yet.
    pub(crate) fn doubt(after: u64, through: u64) -> Self {
        let through = through.max(after);
        Self {
            after,
            through,
            bits: Vec::new(),
            count: 0,
            arrivals: Arrivals::default(),
            unsure_through: 0,
            complete: true,
            repeats: 0,
            strangers: 0,
            holes: 0,
        }
    }

    /// No doubt: everything beyond `after` is to be sent.
    pub(crate) fn clear(after: u64) -> Self {
        Self::doubt(after, after)
    }

    /// Takes in one record that stands in Kafka, by its headers. Records of other edges and epochs must not come here.
    pub(crate) fn found(&mut self, sequence: u64, key: &str, key_sequence: u64) {
        if sequence <= self.after {
            return;
        }
        if sequence > self.through {
            self.strangers += 1;
            return;
        }
        let (word, bit) = Self::place(sequence - self.after - 1);
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        if self.bits[word] & bit != 0 {
            self.repeats += 1;
            return;
        }
        self.bits[word] |= bit;
        self.count += 1;
        self.arrivals.note(key, key_sequence);
    }

    /// Not everything was read: what was not found may stand all the same.
    pub(crate) fn give_up(&mut self) {
        self.complete = false;
        self.unsure_through = self.through;
    }

    /// Of events up to this one, copies may stand where nobody has looked ([`crate::note::Note::unsure_through`]).
    pub(crate) fn unsure_through(&mut self, sequence: u64) {
        self.unsure_through = self.unsure_through.max(sequence);
    }

    /// What to do with an event of the log.
    pub(crate) fn verdict(&mut self, sequence: u64, key: &str, key_sequence: u64) -> Verdict {
        if sequence <= self.after {
            return Verdict::Stands;
        }
        if sequence > self.through {
            return Verdict::Send;
        }
        if self.is_found(sequence) {
            return Verdict::Stands;
        }
        if sequence <= self.unsure_through {
            return Verdict::SendMarked;
        }
        if self.arrivals.last(key).is_some_and(|last| last > key_sequence) {
            self.holes += 1;
            return Verdict::SendMarked;
        }
        Verdict::Send
    }

    /// Whether an event in doubt was found.
    pub(crate) fn is_found(&self, sequence: u64) -> bool {
        let Some(index) = sequence.checked_sub(self.after + 1) else { return false };
        let (word, bit) = Self::place(index);
        self.bits.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// True if nothing is in doubt any more, whatever else might still arrive in Kafka.
    pub(crate) fn is_settled(&self) -> bool {
        self.count == self.through - self.after
    }

    /// The last sequence in doubt.
    pub(crate) fn through(&self) -> u64 {
        self.through
    }

    /// The events in doubt that were found, by their keys' numbers; empty after [`Self::forget`].
    pub(crate) fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// How many events in doubt were found.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Whether everything was read.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Events found more than once: somebody broke the promise, e.g. another process with our id and log.
    pub(crate) fn repeats(&self) -> u64 {
        self.repeats
    }

    /// Events found that this log has not handed over: another process writes under our id and epoch.
    pub(crate) fn strangers(&self) -> u64 {
        self.strangers
    }

    /// Missing events that later ones of their asset had overtaken, as far as [`Self::verdict`] was asked.
    pub(crate) fn holes(&self) -> u64 {
        self.holes
    }

    /// Frees what is not needed once everything in doubt was asked for.
    pub(crate) fn forget(&mut self) {
        (self.bits, self.arrivals) = (Vec::new(), Arrivals::default());
        self.after = self.through;
        self.count = 0;
    }

    /// True if nothing is in doubt, or nothing any more since [`Self::forget`].
    pub(crate) fn is_forgotten(&self) -> bool {
        self.after == self.through
    }

    fn place(index: u64) -> (usize, u64) {
        ((index / 64) as usize, 1 << (index % 64))
    }
}

#[cfg(test)]
mod tests;
