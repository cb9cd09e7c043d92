//! What waits for its turn on a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use crate::bus::Answer;
use crate::config::Timing;
use crate::error::Error;
use crate::types::Span;
use crate::write::Write;

/// What is read, of whom.
#[derive(Clone, Copy)]
pub(crate) struct Question {
    pub(crate) member: u64,
    pub(crate) unit: u8,
    pub(crate) span: Span,
    pub(crate) timing: Timing,
}

/// Something that waits for its turn.
pub(crate) struct Ask {
    /// Before a write: what is read if something has to be.
    pub(crate) question: Question,
    pub(crate) errand: Errand,
}

/// What is done when it is its turn, and where the answer goes.
pub(crate) enum Errand {
    Read(oneshot::Sender<Result<Answer, Error>>),
    Write(Write, Turn, oneshot::Sender<Result<(), Unwritten>>),
}

/// Whoever takes it first decides: the bus that a write is begun, or the one who waits that it never will be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turn(Arc<AtomicBool>);

impl Turn {
    /// Whether nobody has taken it yet.
    pub(crate) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// What became of a write that was not confirmed.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// Nothing that writes has left.
    NotSent(Error),
    /// It has left, or a part of it may have.
    Sent(Error),
}

impl Ask {
    /// Nobody waits for it any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        match &self.errand {
            Errand::Read(reply) => reply.is_closed(),
            Errand::Write(.., reply) => reply.is_closed(),
        }
    }
}

impl Question {
    /// Bytes that are under way for it, both ways.
    pub(crate) fn bytes(&self) -> u32 {
        let count = u32::from(self.span.count());
        8 + 5 + if self.span.table().holds_bits() { count.div_ceil(8) } else { count * 2 }
    }
}
