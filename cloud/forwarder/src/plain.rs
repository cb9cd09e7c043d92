//! A lane into plain NATS: published in order, confirmed by a round trip through the server.
//!
//! After each burst we send a message to ourselves; when it comes back, the server has handled everything before it. That proves that the
//! server took the events, not that anybody received them: plain NATS keeps nothing. After a broken connection, what was not confirmed is
//! published again, in order; a subscriber may then see a stretch of events twice, with the same `of-seq`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::lane::{Lane, Left, Outcome};
use crate::link::{Link, NotSent};
use crate::message::{Ids, Outgoing};
use crate::status::Counters;

/// Events between two round trips.
const BURST: usize = 256;

/// What a lane remembers between two connections: everything that is not confirmed.
pub(crate) struct Work {
    queue: Queue<Outgoing>,
    in_flight: usize,
    patience: Duration,
}

impl Work {
    pub(crate) fn new(lane: &Lane) -> Self {
        Self { queue: Queue::default(), in_flight: lane.in_flight, patience: lane.ack_timeout }
    }

    /// Publishes over this link until it breaks or the lane stops.
    pub(crate) async fn run(&mut self, lane: &mut Lane, link: &mut Link) -> Left {
        let mut deadline: Option<tokio::time::Instant> = None;
        // When the oldest round trip that is not back began.
        let mut waiting_since: Option<Instant> = None;
        let (mut outcomes, mut arrived) = (Vec::new(), Vec::new());
        let left = loop {
            if deadline.is_some() && self.queue.sent() == 0 {
                break Left::Stopped;
            }
            // Under load there is always an answer to be read below; what is new must not wait for a moment without any.
            while deadline.is_none()
                && let Ok(bundle) = lane.input.try_recv()
            {
                bundle.into_iter().for_each(|outgoing| self.queue.push(outgoing));
            }
            if deadline.is_none()
                && let Err(left) = self.send(link, &mut outcomes).await
            {
                break left;
            }
            lane.report(&mut outcomes).await;
            if self.queue.sent() == 0 {
                waiting_since = None;
            } else if waiting_since.is_none() {
                waiting_since = Some(Instant::now());
            }
            tokio::select! {
                biased;
                () = lane.stop.cancelled(), if deadline.is_none() => deadline = Some(Lane::deadline()),
                () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => break Left::Stopped,
                answer = link.answer() => {
                    let Some((token, _)) = answer else { break link.broken() };
                    outcomes.extend(self.queue.confirmed(token).map(Outcome::Forwarded));
                    waiting_since = None;
                    lane.up();
                }
                count = lane.input.recv_many(&mut arrived, 64), if deadline.is_none() => {
                    if count == 0 {
                        deadline = Some(Lane::deadline());
                    }
                    arrived.drain(..).flatten().for_each(|outgoing| self.queue.push(outgoing));
                }
                () = overdue(waiting_since, self.patience), if waiting_since.is_some() => {
                    Counters::add(&lane.board.counters.retries, 1);
                    break Left::Broken(format!("no round trip through the server within {:?}", self.patience));
                }
            }
        };
        self.queue.connection_lost();
        lane.report(&mut outcomes).await;
        left
    }

    async fn send(&mut self, link: &Link, outcomes: &mut Vec<Outcome>) -> Result<(), Left> {
        let mut unconfirmed = 0;
        while self.queue.sent() < self.in_flight {
            let Some(outgoing) = self.queue.next() else { break };
            match link.publish_plain(outgoing.subject.clone(), outgoing.headers(Ids::Plain), outgoing.payload.clone()).await {
                Ok(()) => {
                    self.queue.sent_one();
                    unconfirmed += 1;
                }
                Err(NotSent::Never(reason)) => {
                    outcomes.extend(self.queue.drop_next().map(|outgoing| Outcome::Impossible(outgoing, reason)));
                }
                Err(NotSent::Broken) => return Err(link.broken()),
            }
            if unconfirmed == BURST {
                link.echo(self.queue.mark()).await.map_err(|_| link.broken())?;
                unconfirmed = 0;
            }
        }
        if unconfirmed > 0 {
            link.echo(self.queue.mark()).await.map_err(|_| link.broken())?;
        }
        Ok(())
    }
}

async fn overdue(since: Option<Instant>, patience: Duration) {
    if let Some(since) = since {
        tokio::time::sleep_until((since + patience).into()).await;
    }
}

/// First in, first out; a front part is sent and not confirmed.
#[derive(Debug)]
struct Queue<T> {
    events: VecDeque<T>,
    sent: usize,
    /// Events confirmed or dropped so far: the number of the front one.
    gone: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { events: VecDeque::new(), sent: 0, gone: 0 }
    }
}

impl<T> Queue<T> {
    fn push(&mut self, event: T) {
        self.events.push_back(event);
    }

    fn next(&self) -> Option<&T> {
        self.events.get(self.sent)
    }

    fn sent_one(&mut self) {
        self.sent += 1;
    }

    /// Takes the next event out, which cannot be sent.
    fn drop_next(&mut self) -> Option<T> {
        self.events.remove(self.sent)
    }

    fn sent(&self) -> usize {
        self.sent
    }

    /// What a round trip that starts now will confirm.
    fn mark(&self) -> u64 {
        self.gone + self.sent as u64
    }

    /// A round trip is back: everything that was sent before it is done.
    fn confirmed(&mut self, mark: u64) -> impl Iterator<Item = T> + '_ {
        let count = usize::try_from(mark.saturating_sub(self.gone)).unwrap_or(usize::MAX).min(self.sent);
        self.sent -= count;
        self.gone += count as u64;
        self.events.drain(..count)
    }

    /// What was not confirmed is sent again.
    fn connection_lost(&mut self) {
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;

    fn send(queue: &mut Queue<u32>, count: usize) -> Vec<u32> {
        (0..count)
            .map(|_| {
                let next = *queue.next().expect("something waits");
                queue.sent_one();
                next
            })
            .collect()
    }

    #[test]
    fn what_was_not_confirmed_is_sent_again_in_order() {
        let mut queue = Queue::default();
        (1..=6).for_each(|n| queue.push(n));
        assert_eq!(send(&mut queue, 3), [1, 2, 3]);
        let mark = queue.mark();
        assert_eq!(send(&mut queue, 2), [4, 5]);
        assert_eq!(queue.confirmed(mark).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(queue.confirmed(mark).count(), 0, "a round trip counts once");
        queue.connection_lost();
        assert_eq!(queue.drop_next(), Some(4));
        assert_eq!(send(&mut queue, 2), [5, 6]);
        assert_eq!(queue.confirmed(queue.mark()).collect::<Vec<_>>(), [5, 6]);
    }
}
