//! Compressing blocks on threads of their own: while one block is being written, the next ones are being compressed.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::format::{Frame, Header};
use crate::locked::Locked;

/// Buffers kept for the next blocks, at most.
const SPARE: usize = 8;

/// Buffers to be used again.
#[derive(Debug, Default)]
pub(crate) struct Spares {
    bodies: Locked<Vec<Vec<u8>>>,
    frames: Locked<Vec<Vec<u8>>>,
}

impl Spares {
    /// Gives a written frame's buffer back.
    pub(crate) fn give_frame(&self, frame: Frame) {
        give(&self.frames, frame.into_bytes());
    }
}

fn give(to: &Locked<Vec<Vec<u8>>>, buffer: Vec<u8>) {
    let mut spares = to.lock();
    // One huge entry must not leave its buffer behind for ever.
    if spares.len() < SPARE && buffer.capacity() <= 1 << 20 {
        spares.push(buffer);
    }
}

fn take(from: &Locked<Vec<Vec<u8>>>) -> Vec<u8> {
    from.lock().pop().unwrap_or_default()
}

struct Work {
    header: Header,
    body: Vec<u8>,
    ready: SyncSender<Frame>,
}

/// The compressing threads. They end when this is dropped.
pub(crate) struct Packer {
    work: SyncSender<Work>,
    spares: Arc<Spares>,
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Packer")
    }
}

impl Packer {
    /// Starts `threads` threads.
    pub(crate) fn start(threads: usize, under_way: usize) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (work, queue) = sync_channel::<Work>(under_way);
        let queue = Arc::new(Locked::new(queue));
        let spares = Arc::new(Spares::default());
        let mut handles = Vec::with_capacity(threads);
        for _ in 0..threads {
            let (queue, spares) = (queue.clone(), spares.clone());
            let mut zstd = zstd::bulk::Compressor::new(1)?;
            let run = move || {
                loop {
                    // The lock is held while waiting: the threads take turns.
                    let next = queue.lock().recv();
                    let Ok(Work { header, body, ready }) = next else { return };
                    let frame = Frame::make(header, &body, &mut zstd, take(&spares.frames));
                    give(&spares.bodies, body);
                    drop(ready.send(frame));
                }
            };
            handles.push(std::thread::Builder::new().name("log-pack".into()).spawn(run)?);
        }
        Ok((Self { work, spares }, handles))
    }

    /// A buffer for a body.
    pub(crate) fn body(&self) -> Vec<u8> {
        take(&self.spares.bodies)
    }

    pub(crate) fn spares(&self) -> Arc<Spares> {
        self.spares.clone()
    }

    /// Makes a frame of a body; it comes out of the returned channel.
    pub(crate) fn pack(&self, header: Header, body: Vec<u8>) -> Receiver<Frame> {
        let (ready, frame) = sync_channel(1);
        drop(self.work.send(Work { header, body, ready }));
        frame
    }
}
