//! JetStream: what a stream holds, and which ids it drops.

use std::collections::BTreeSet;

use crate::events::{Header, Record, Sequence, event};

/// An event on its way to the stream, or in it. The event's number is its `Nats-Msg-Id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Message {
    pub(crate) sequence: Sequence,
    /// The highest id of the subject; what `of-newest` says, else its own.
    pub(crate) newest: Sequence,
}

impl Message {
    /// Whether, as the last one of its subject, it proves that the event stands.
    pub(crate) fn proves(&self, record: Record) -> bool {
        match record.header {
            Header::Resent => self.sequence == record.sequence,
            Header::None => self.newest >= record.sequence,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Stream {
    pub(crate) messages: Vec<Message>,
    /// Ids of the last `duplicate_window`.
    remembered: BTreeSet<Sequence>,
}

impl Stream {
    pub(crate) fn take(&mut self, message: Message) {
        if self.remembered.insert(message.sequence) {
            self.messages.push(message);
        }
    }

    /// The last message on the event's subject.
    pub(crate) fn last_message(&self, sequence: Sequence) -> Option<Message> {
        let subject = |sequence| (event(sequence).asset, event(sequence).item);
        self.messages.iter().rfind(|message| subject(message.sequence) == subject(sequence)).copied()
    }

    /// `duplicate_window` has passed.
    pub(crate) fn forget(&mut self) {
        self.remembered.clear();
    }

    pub(crate) fn remembers(&self) -> bool {
        !self.remembered.is_empty()
    }

    pub(crate) fn holds(&self, sequence: Sequence) -> bool {
        self.messages.iter().any(|message| message.sequence == sequence)
    }
}
