//! The last events that the log holds.

use edge_buffer::{Error, Log, Read, Stored};

/// Shows the events among the log's last `back` numbers, oldest first, up to what is durable now.
pub(crate) fn entries(log: &Log, back: u64, mut see: impl FnMut(Stored)) -> Result<(), Error> {
    let end = log.durable();
    let mut reader = log.reader(end.saturating_sub(back));
    while reader.position() < end {
        let block = reader.next_block(500)?;
        if block.is_empty() {
            break;
        }
        for read in block {
            if let Read::Entry(stored) = read {
                see(stored);
            }
        }
    }
    Ok(())
}
