//! Events as JSON, one a line: what `tail --json` prints, with epoch and time.

use std::io::{self, BufWriter, Write};

use asset_stream::Timestamp;
use edge_buffer::Stored;
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
struct Line<'a> {
    asset: &'a str,
    seq: u64,
    asset_seq: u64,
    epoch: u64,
    time: String,
    event: Event<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Event<'a> {
    /// As it stands in the log.
    Json(&'a RawValue),
    /// No event of ours: its text.
    Text(String),
}

pub(crate) struct JsonLines<W: Write> {
    out: BufWriter<W>,
    epoch: u64,
}

impl<W: Write> JsonLines<W> {
    pub(crate) fn new(out: W, epoch: u64) -> Self {
        Self { out: BufWriter::with_capacity(1 << 16, out), epoch }
    }

    pub(crate) fn write(&mut self, stored: &Stored) -> io::Result<()> {
        let event = serde_json::from_slice(&stored.value).map(Event::Json);
        let line = Line {
            asset: &stored.key,
            seq: stored.sequence,
            asset_seq: stored.key_sequence,
            epoch: self.epoch,
            time: Timestamp::from_millis(stored.timestamp).to_string(),
            event: event.unwrap_or_else(|_| Event::Text(String::from_utf8_lossy(&stored.value).into_owned())),
        };
        serde_json::to_writer(&mut self.out, &line)?;
        self.out.write_all(b"\n")
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}
