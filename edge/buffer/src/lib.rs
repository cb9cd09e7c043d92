//! The edge's durable log: append, read, acknowledge, retain, recover. It knows keys and bytes, not events.
//!
//! What a caller appends is on disk, in order and numbered, when it is told so; it can be read from any place by any number of readers;
//! and where something is gone all the same, the log says what, as data. No tokio, no network, no knowledge of what the bytes mean.
//!
//! ```
//! use edge_buffer::{Appended, Config, Cursor, Entry, Read, open};
//! # let dir = tempfile::tempdir()?;
//! # let config = Config { dir: dir.path().join("log"), min_free: 0, ..Config::default() };
//! let log = open(config)?.log;
//! let entry = Entry { key: "OPCUA-SENSOR-001".into(), timestamp: 1_769_528_223_871, value: b"{}".to_vec() };
//! assert_eq!(log.append_durable(vec![entry])?, Appended::Durable { first: 1, last: 1 });
//! let mut reader = log.reader(0);
//! for read in reader.next_block(100)? {
//!     if let Read::Entry(stored) = read {
//!         assert_eq!((stored.sequence, stored.key_sequence), (1, 1));
//!     }
//! }
//! log.keep_cursor(Cursor::MIRROR, Cursor { sequence: reader.position(), note: Vec::new() })?;
//! log.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What always holds
//!
//! 1. **Durable means synced.** An entry is reported durable, shown to a reader and counted by [`Log::durable`] only after an fdatasync of
//!    its bytes returned `Ok`, and that fdatasync was not a second try after one that failed.
//! 2. **Durable means there.** An entry that was reported durable is read back unchanged, under its numbers, after any sequence of crashes,
//!    power cuts, full disks and failed syncs, until it is acknowledged and no longer retained. Otherwise a [`Loss`] speaks of it.
//! 3. **Losses come first.** A loss is durable before the file that held the entries is removed, and before any reader is told
//!    ([`Read::Lost`]). It is listed until entries that tell it are durable, and again if these are lost before they are acknowledged. Power
//!    cuts alone never cause one.
//! 4. **Numbers are used once.** The log's sequence and each key's own count go 1, 2, 3 …; a number that anybody may have seen is never
//!    given to another entry in the same epoch. A hole in them is always covered by a loss. A new epoch begins only with an empty
//!    directory, or when nothing can be read.
//! 5. **Cursors do not lie.** A cursor is durable when [`Log::keep_cursor`] returns, never ahead of what is durable, and after a restart it
//!    has the last value that was kept (or one that was being kept).
//! 6. **Bounded.** Disk: `max_bytes`, and `min_free` of the file system stays free. Memory: the queue (`queue_bytes`), 16 blocks under way,
//!    the counts of the keys, one block a reader. Opening reads one segment, whatever the backlog.
//! 7. **It opens.** No content of any file keeps the log from opening, with one exception: files of a newer version are left untouched and
//!    refused. Damaged bytes are kept in `quarantine/`, never deleted by the log.
//!
//! What is relied on stands in [`storage`]: an fdatasync that says so is true, renames are atomic, a sector that the power cut off is old or
//! new. A disk that lies about its syncs can lose what was durable; then evidence (below) keeps invariant 4, and losses are told.
//!
//! # Files
//!
//! ```text
//! 00000000000000000001.seg   segments, named by their first sequence
//! 00000000000000184512.seg   … the last is the one being written
//! cursors.0 cursors.1        the named cursors, and how far the log was durable: two slots, written in turn
//! ledger.0 ledger.1          losses, what was removed on purpose, the newest segment's name: likewise
//! lock                       held while the log is open (flock), with the process's id for people
//! quarantine/                damaged bytes (<segment>-<offset>.bin) and files that are no segments of this log
//! *.tmp                      being made; removed at the next start
//! ```
//!
//! A **segment** is a row of frames, each at a multiple of 16 bytes, then zeros up to the reserved length. A **frame** is a header of 96
//! bytes with a CRC-32C of its own, a body with another, an end mark. Byte for byte: `format.rs` (frames), `block.rs` (entries), `checkpoint.rs`
//! and `ledger.rs` (their bodies), `slots.rs` (the small files). Kinds of frames: **entries** (a *block*: the unit of durability, of
//! reading and of loss), **checkpoint** (the head of each segment: how far each key has counted, cursors, ledger), **end** (the log was closed
//! in order). Bodies are compressed with zstd, level 1, where that makes them shorter.
//!
//! Space is reserved with `fallocate`, the length included (not `KEEP_SIZE`): the length is then durable before anything is written, so a
//! sync need not write it, and a file that is shorter than its checkpoint says was cut by somebody. Reserved space is not written with zeros
//! beforehand: that would make a sync a third faster here and every byte cost the flash twice. Unwritten space reads as zeros all the same.
//!
//! # Writing
//!
//! [`Log::append`] puts a batch into a queue that is bounded in bytes. One thread gives out numbers and fills blocks (until `block_events`,
//! `block_bytes`, or `linger` after the first entry); two threads compress them; one thread commits: it takes all blocks that are ready,
//! writes them with one `pwrite`, calls one fdatasync, tells who waits, in order. While it waits for the disk, the next blocks are made; so
//! the slower the disk, the larger the groups. The next group is not written before the one before is synced. Therefore each frame can
//! carry **`synced`**: everything before this place in this file was durable before this frame was written. Recovery rests on that.
//!
//! A **new segment** is begun when a block does not fit, or after 2²² numbers (which bounds what a segment that cannot be read may have
//! held). It is made whole under another name: reserved, checkpoint and first group written, synced; then renamed, the directory synced, and
//! the ledger told its name. So a segment that has its name holds at least what it began with (its frames say `synced` = 0), and a segment
//! that the ledger names existed.
//!
//! **When a write or an fdatasync fails**, the segment is abandoned from its last durable frame on. The same blocks are written to a new
//! segment, whose first sequence is that of the first of them. Whatever stands in the older file at or beyond that sequence is ignored, by
//! readers and by recovery: it was never durable there. The failed descriptor is not synced again: the kernel may have dropped the pages and
//! would say all is well. If the new segment fails too, the entries are refused, their numbers are void (nobody has seen them), and the next
//! group tries again after a pause of 10 ms to 5 s, while the full queue makes callers wait.
//!
//! # Opening
//!
//! The newest segment with a readable checkpoint is replayed, and those behind it, if their heads are harmed. If no checkpoint can be read at
//! all but the log begins with sequence 1, it is replayed from there; otherwise all is put into quarantine and a new epoch begins.
//!
//! **A torn tail and damage look alike**, at the end of the newest segment; but numbers of a torn tail must be used again (or power cuts
//! would make holes) and numbers of damaged entries must not (Kafka may have them). At the first place without a whole frame, this decides,
//! in this order:
//! - Zeros up to the end, and the file is as long as its checkpoint says: the end of the log.
//! - A whole frame behind it with `synced` beyond this place, or `synced` = 0 in this or a later frame: this place was durable. Damage.
//! - Some sector of the place is all zeros, or its end is: the write that should have filled it was cut off. Since the groups are synced one
//!   after the other, only the last one can be in this state, and it was never reported durable. Torn: cut, numbers are used again. The format
//!   sees to it that no sector of a written frame is all zeros (magic, end mark, CRCs at the header's end, compressed bodies).
//! - Anything else was written and then changed. Damage; also where bytes cannot be read.
//!
//! In doubt it is damage: a loss that was none is a sentence too much, a number used twice is an event that Kafka never gets. One case stays
//! open: the last group, synced, reported, and then overwritten with zeros before a start without an orderly close. Then evidence decides:
//! - **Evidence.** The cursors' file says how far the log was durable when a cursor was last kept, and the ledger names the newest segment. If
//!   the log ends before that, its end is missing, and a loss says so. The mirror keeps its cursor after each acknowledgement from Kafka; so
//!   numbers that left this machine are covered but for the last fraction of a second, on a disk that lies.
//!
//! **What damage costs.** If the harmed frame's header or its neighbours can be read, exactly its entries; which keys they had follows from
//! the keys' counts before and behind it. If nobody knows how many numbers were given out (the end is missing), all that the segment may
//! have given out are skipped: up to 2²², and for each key not seen behind the damage as many as may have been its own. Skipped
//! numbers belong to the loss, with `count` unknown. A new segment is begun whenever something was harmed or cut, so that its checkpoint
//! carries the skip.
//!
//! **What was read is made durable.** After a process was killed, the last group may be in the page cache only, and if a sync had failed
//! before, reading it back or syncing again proves nothing. So frames that no later frame proves (by `synced`) are written again in
//! place, byte for byte, through a new descriptor, and synced; the small files likewise.
//!
//! Damage elsewhere is found when a reader comes to it: what is lost is worked out from the checkpoints on both sides, the bytes are copied
//! to the quarantine, the loss is made durable, then the reader is told. A place that gives read errors is tried five times first.
//!
//! # Cursors, ledger, limits
//!
//! Cursors have a file of their own instead of records in the segments: they are evidence about the segments, so they must not share their
//! fate; and a cursor costs one small write and sync beside the commit thread, not a place in its order. Two slots written in turn need no rename
//! and no sync of the directory. Each checkpoint repeats cursors and ledger, for the day when the small files are harmed.
//!
//! A segment goes when all of it is acknowledged (the cursor [`Cursor::MIRROR`]) and more than `retain_bytes` of such segments or older than
//! `retain_age` are there. When there is no room for the next segment, acknowledged ones go first, then, with [`WhenFull::DropOldest`], the oldest
//! one whatever its state, with a loss that names for each key which numbers went: the difference of two checkpoints. What is dropped may
//! be on its way all the same, in the memory of whoever sends it: so a drop grows with those that follow, and is final only when the cursor
//! [`Cursor::MIRROR`] has passed it, without what arrived ([`Log::acknowledge`], [`Log::arrived`]). With
//! [`WhenFull::RefuseNew`], entries are refused instead. In both cases the ledger is durable first, then the file is emptied and its name
//! removed; a start finishes what a crash interrupted. The ledger's files have space of their own, so that a loss can be said on a full disk.
//!
//! # Looking without opening
//!
//! [`inspect()`] takes no lock and opens every file to be read only: it shows a log whose daemon runs, or one on a disk that must not be
//! touched. [`Inspection::read`] checks all of it by the same rules as a start, and shows each block; what only looks harmed because it is
//! being written is looked at again. [`repair`] is a start without an end: it lets readers come across all damage, and removes nothing.
//!
//! # What it does not do
//!
//! No transactions (a batch may be cut by a crash), no search by key, no removal of single entries, no replication, no encryption. One
//! process at a time. No key is ever forgotten (each checkpoint counts them all): keys are assets, not values.

mod arrivals;
mod block;
mod census;
mod checkpoint;
mod commit;
mod config;
mod damage;
mod entry;
mod error;
mod format;
mod gather;
mod inspect;
mod kept;
mod ledger;
mod locate;
mod locked;
mod log;
mod loss;
mod pack;
mod quarantine;
mod queue;
mod reader;
mod recovery;
mod repair;
mod retention;
mod scan;
mod segment;
mod shared;
mod slots;
mod stats;
pub mod storage;
mod sweep;
mod view;
mod walk;
mod wire;

pub use arrivals::Arrivals;
pub use config::{Config, WhenFull};
pub use entry::{Appended, Cursor, Entry, Read, Refusal, Stored};
pub use error::Error;
pub use inspect::{Inspection, Segment, inspect, inspect_on};
pub use log::{Log, Opened, open, open_on};
pub use loss::{KeyLoss, Loss, LossReason};
pub use reader::Reader;
pub use recovery::Recovery;
pub use repair::{repair, repair_on};
pub use stats::{Health, Stats};
pub use sweep::{Block, Damage, Seen, Totals};
pub use view::{View, ViewReader};
