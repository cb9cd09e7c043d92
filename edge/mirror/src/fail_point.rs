//! Named places at which a test can let the process die. They exist in builds with debug assertions only, never in what is shipped.
//!
//! `OPENFACTORY_FAIL_POINT=mirror.sent:3` ends the process when it reaches that place for the third time, as SIGKILL would: nothing is
//! closed, flushed or said.

use std::cell::Cell;

use tracing::warn;

const VARIABLE: &str = "OPENFACTORY_FAIL_POINT";

/// Where a process may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailPoint {
    /// Events were handed to the producer; nothing is known of them.
    Sent,
    /// Kafka has reported them, and the log has heard of it; the cursor does not know.
    Reported,
    /// The cursor is kept.
    CursorKept,
    /// What stands in Kafka was read once; nothing was decided.
    ReadingBack,
}

impl FailPoint {
    const ALL: [Self; 4] = [Self::Sent, Self::Reported, Self::CursorKept, Self::ReadingBack];

    fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "mirror.sent",
            Self::Reported => "mirror.reported",
            Self::CursorKept => "mirror.cursor_kept",
            Self::ReadingBack => "mirror.reading_back",
        }
    }

    fn parse(text: &str) -> Option<(Self, u32)> {
        let (name, times) = text.split_once(':').unwrap_or((text, "1"));
        let point = Self::ALL.into_iter().find(|point| point.as_str() == name)?;
        Some((point, times.parse().ok()?))
    }
}

/// The place at which this process is to die, if a test chose one, and how many times it has to be reached until then.
#[derive(Debug)]
pub(crate) struct Fuse(Option<(FailPoint, Cell<u32>)>);

impl Fuse {
    pub(crate) fn from_environment() -> Self {
        if !cfg!(debug_assertions) {
            return Self(None);
        }
        let Ok(text) = std::env::var(VARIABLE) else { return Self(None) };
        let parsed = FailPoint::parse(&text);
        match parsed {
            Some(_) => warn!("{VARIABLE}={text}: this process will die there"),
            None => warn!(
                "{VARIABLE}={text} names no fail point; it is one of {:?}, then :N for the Nth time",
                FailPoint::ALL.map(FailPoint::as_str)
            ),
        }
        Self(parsed.map(|(point, times)| (point, Cell::new(times))))
    }

    /// Dies here if a test wants it.
    pub(crate) fn reached(&self, place: FailPoint) {
        let Some((point, left)) = &self.0 else { return };
        if *point != place {
            return;
        }
        left.set(left.get().saturating_sub(1));
        if left.get() == 0 {
            std::process::abort();
        }
    }
}
