//! The idempotent producer: a queue for each partition, and what is under way.

use crate::broker::{Answer, Life, Request};
use crate::events::Record;

/// A batch that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) request: Request,
    pub(crate) answer: Option<Answer>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Queue {
    /// The number of the next record.
    next: u8,
    /// Connections to the partition's leader that were given up.
    connection: u8,
    waiting: Vec<Record>,
    under_way: Vec<Attempt>,
}

/// One life of the producer. A batch that fails ends it, so a later one is never sent after it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Producer {
    pub(crate) life: Life,
    queues: Vec<Queue>,
}

impl Producer {
    pub(crate) fn start(life: Life, partitions: usize) -> Self {
        Self { life, queues: vec![Queue::default(); partitions] }
    }

    pub(crate) fn hand_over(&mut self, partition: usize, record: Record) {
        self.queues[partition].waiting.push(record);
    }

    pub(crate) fn may_send(&self, partition: usize, max_in_flight: usize) -> bool {
        let queue = &self.queues[partition];
        !queue.waiting.is_empty() && queue.under_way.len() < max_in_flight
    }

    /// Makes a batch of what waits.
    pub(crate) fn send(&mut self, partition: usize) -> Request {
        let queue = &mut self.queues[partition];
        let records = std::mem::take(&mut queue.waiting);
        let request = Request { partition, life: self.life, first: queue.next, records };
        queue.next += request.records.len() as u8;
        queue.under_way.push(Attempt { request: request.clone(), answer: None });
        request
    }

    /// What waits for its answer, oldest first.
    pub(crate) fn under_way(&self, partition: usize) -> &[Attempt] {
        &self.queues[partition].under_way
    }

    /// The answer to a request is on its way back.
    pub(crate) fn answer(&mut self, request: &Request, answer: Answer) {
        let mut under_way = self.queues[request.partition].under_way.iter_mut();
        if let Some(attempt) = under_way.find(|attempt| attempt.request == *request) {
            attempt.answer = Some(answer);
        }
    }

    /// Gives up the connection to the partition's leader, and every answer with it: all is sent again.
    pub(crate) fn send_again(&mut self, partition: usize) -> Vec<Request> {
        let again = |attempt: &mut Attempt| {
            attempt.answer = None;
            attempt.request.clone()
        };
        let queue = &mut self.queues[partition];
        queue.connection += 1;
        queue.under_way.iter_mut().map(again).collect()
    }

    /// The connection to the partition's leader.
    pub(crate) fn connection(&self, partition: usize) -> u8 {
        self.queues[partition].connection
    }

    /// Takes the oldest answer out.
    pub(crate) fn report(&mut self, partition: usize) -> Attempt {
        self.queues[partition].under_way.remove(0)
    }
}
