//! The asset topic's ends, asked for now and then, so that a later reading back has less to read.

use tracing::{debug, warn};

use crate::shared::Shared;
use crate::topic_client::TopicClient;
use crate::worker::Worker;

/// Log ends that become the note's places once everything up to the sequence is acknowledged. What lies beyond it lands at or beyond them.
pub(crate) type Mark = (u64, Vec<(i32, i64)>);

/// Asks for the asset topic's ends and leaves them to the mirror's own thread.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Partitions of the topic when they were last counted; 0: never.
    partitions: usize,
}

impl Ends {
    pub(crate) fn ask(&mut self, topic: &str, client: &TopicClient, shared: &Shared) {
        let life = shared.life();
        match client.partitions(topic).and_then(|partitions| client.ends(topic, &partitions)) {
            Ok(ends) => {
                let before = std::mem::replace(&mut self.partitions, ends.len());
                if before != 0 && ends.len() > before {
                    let now = ends.len();
                    let text = format!("the topic {topic} has grown from {before} to {now} partitions: assets change their partition");
                    warn!("{text}; the order of an asset's events across the two is not defined");
                    shared.failed(text);
                }
                shared.put_ends(life, ends);
            }
            Err(failure) => debug!("the asset topic's ends: {}", failure.text),
        }
    }
}

impl Worker {
    /// Moves the note's places on to ends that were asked for, as soon as nothing in doubt can stand before them.
    pub(crate) fn take_over_ends(&mut self) {
        let Some(note) = &mut self.note else { return };
        if let Some((_, ends)) = self.mark.take_if(|(through, _)| *through <= self.window.acknowledged()) {
            note.advance_to(&ends);
            // Kept at once: with nothing to send, nothing else would keep them.
            self.try_to_keep();
        }
        if self.mark.is_none() {
            // Where the window ended when they were asked for is not known. What is handed over from now on lands at or beyond them.
            let through = self.window.through();
            self.mark = self.shared.take_ends().map(|ends| (through, ends));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use edge_buffer::{Cursor, Entry, Log, Read};

    use crate::Config;
    use crate::note::Note;
    use crate::shared::Shared;
    use crate::worker::Worker;

    /// A mirror with that many events in its log; the partition is asked for by the test instead of by a client.
    fn worker(events: usize) -> (Worker, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("a folder");
        let config = edge_buffer::Config { dir: dir.path().join("log"), min_free: 0, segment_bytes: 1 << 20, ..Default::default() };
        let log = edge_buffer::open(config).expect("the log opens").log;
        let entry = Entry { key: "PRESS-1".into(), timestamp: 1, value: b"{}".to_vec() };
        log.append_durable(vec![entry; events]).expect("durable");
        let config = Config::new(service::kafka::Config::plain("kafka:9092"), "EDGE-1");
        let mut worker = Worker::new(Arc::new(config), log.clone(), Arc::new(Shared::new(log)));
        worker.note = Some(Note::new("cluster".into(), "topic".into()));
        worker.shared.begin_life();
        (worker, dir)
    }

    fn hand_over(worker: &mut Worker, log: &Log, through: u64) {
        let reads = log.reader(worker.window.through()).next_block(1000).expect("the log can be read");
        for read in reads {
            if let Read::Entry(event) = read
                && event.sequence <= through
            {
                worker.window.hand_over(&event, 1);
            }
        }
    }

    /// Kafka reports the events through this one, each at the offset before its sequence.
    fn acknowledge(worker: &mut Worker, through: u64) {
        for sequence in worker.window.acknowledged() + 1..=through {
            worker.window.report(sequence as usize - 1, Ok((0, sequence as i64 - 1)));
        }
        worker.window.advance(&mut Vec::new());
    }

    fn kept(log: &Log) -> (u64, Option<i64>) {
        let cursor = log.cursor(Cursor::MIRROR).unwrap_or_default();
        let note = Note::decode(&cursor.note);
        (cursor.sequence, note.and_then(|note| Some(note.partitions.get(&0)?.from)))
    }

    #[test]
    fn events_that_are_handed_over_while_the_ends_are_asked_for_are_read_back_after_a_crash() {
        let (mut worker, _dir) = worker(9);
        let log = worker.log.clone();
        hand_over(&mut worker, &log, 5);
        let life = worker.shared.life();
        // On the way to Kafka the question is overtaken by four more events.
        hand_over(&mut worker, &log, 9);
        worker.shared.put_ends(life, vec![(0, 9)]);
        worker.take_over_ends();
        for acknowledged in 5..9 {
            acknowledge(&mut worker, acknowledged);
            worker.take_over_ends();
            worker.try_to_keep();
            assert_eq!(kept(&log), (acknowledged, None), "the events beyond the cursor stand before the end");
        }
        acknowledge(&mut worker, 9);
        worker.take_over_ends();
        assert_eq!(kept(&log), (9, Some(9)), "and it is kept at once");
    }

    #[test]
    fn ends_that_were_asked_for_in_another_producers_life_are_not_taken_over() {
        let (mut worker, _dir) = worker(1);
        let log = worker.log.clone();
        let before = worker.shared.life();
        worker.shared.begin_life();
        worker.shared.put_ends(before, vec![(0, 9)]);
        worker.take_over_ends();
        worker.take_over_ends();
        assert_eq!(kept(&log), (0, None));
        worker.shared.put_ends(worker.shared.life(), vec![(0, 7)]);
        worker.take_over_ends();
        worker.take_over_ends();
        assert_eq!(kept(&log), (0, Some(7)), "with nothing under way they are taken over by themselves");
    }
}
