//! Tells the steps of commands: as events of their assets, in one chain, on disk before anything follows from them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use asset_stream::command::status::{Link, Status};
use edge_buffer::Log;
use gateway::{Closed, Outcome, Receipt, SampleSender};
use tokio_util::sync::CancellationToken;

use super::memory::Chain;

/// Before a step is told again that a full log did not take.
const AGAIN: Duration = Duration::from_secs(1);

/// The one place where steps are told.
pub(crate) struct Teller {
    sender: SampleSender,
    log: Log,
    /// Held while a step is handed over, so that the order of the numbers is that of the log.
    turn: tokio::sync::Mutex<()>,
    open: Mutex<Open>,
    stop: CancellationToken,
}

/// Steps that were handed over and that the index has not heard of.
#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// For each, what was durable before it, and the chain's end then.
    before: BTreeMap<u64, (u64, Chain)>,
    chain: Chain,
}

/// A step on its way to the disk.
#[derive(Debug)]
pub(crate) struct Told {
    receipt: Receipt,
    ticket: Ticket,
}

/// To be given back when the index has heard of the step.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Ticket(u64);

impl Teller {
    /// Goes on after the last link of the chain. When `stop` is cancelled, a log that takes nothing is not asked again.
    pub(crate) fn new(sender: SampleSender, log: Log, chain: Chain, stop: CancellationToken) -> Self {
        let open = Open { chain, ..Open::default() };
        Self { sender, log, turn: tokio::sync::Mutex::default(), open: Mutex::new(open), stop }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing panics while holding the lock; if it did, its fields are still whole.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a step over, behind all that were handed over before.
    pub(crate) async fn tell(&self, asset: &Arc<str>, method: &str, mut status: Status) -> Result<Told, Closed> {
        let _turn = self.turn.lock().await;
        let (ticket, next) = {
            let mut open = self.open();
            let n = open.chain.n + 1;
            status.chain = Some(Link { n, previous: open.chain.hash.clone() });
            open.next += 1;
            let (ticket, before) = (open.next, (self.log.durable(), open.chain.clone()));
            open.before.insert(ticket, before);
            (Ticket(ticket), Chain::ending_with(n, &status.encode()))
        };
        match self.sender.send(vec![status.to_sample(asset.clone(), method)]).await {
            Ok(receipt) => {
                self.open().chain = next;
                Ok(Told { receipt, ticket })
            }
            Err(closed) => {
                self.heard(ticket);
                Err(closed)
            }
        }
    }

    /// Waits until the step is on disk. A log that is full and takes nothing is asked again and again: what follows from the step has to wait.
    pub(crate) async fn durable(&self, told: Told, asset: &Arc<str>, method: &str, status: &Status) -> Result<Ticket, Closed> {
        let Told { mut receipt, mut ticket } = told;
        loop {
            match receipt.outcome().await? {
                Outcome::Durable => return Ok(ticket),
                Outcome::Refused => {
                    self.heard(ticket);
                    if self.stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await.is_none() {
                        return Err(Closed);
                    }
                    Told { receipt, ticket } = self.tell(asset, method, status.clone()).await?;
                }
            }
        }
    }

    /// The index has heard of the step.
    pub(crate) fn heard(&self, Ticket(ticket): Ticket) {
        self.open().before.remove(&ticket);
    }

    /// Every step up to this number of the log is in the index, and the chain ended so there.
    pub(crate) fn covered(&self) -> (u64, Chain) {
        let open = self.open();
        open.before.values().next().cloned().unwrap_or_else(|| (self.log.durable(), open.chain.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::Teller;
    use crate::commands::memory::Chain;
    use asset_stream::command::status::{State, Status};
    use asset_stream::{Timestamp, Value};
    use edge_buffer::Config;
    use gateway::Outcome;
    use sha2::{Digest, Sha256};
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn each_step_names_the_one_before_and_is_covered_only_when_the_index_has_heard_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = edge_buffer::open(Config { dir: folder.path().join("log"), ..Config::default() }).expect("a log").log;
        let (sender, mut receiver) = gateway::channel(1 << 20);
        let teller = Teller::new(sender, log.clone(), Chain { n: 7, hash: "seven".into() }, CancellationToken::new());
        let status = Status::new("S", "c", State::Accepted, Timestamp::from_millis(0));
        let (asset, mut texts, mut tickets) = ("A".into(), Vec::new(), Vec::new());
        for _ in 0..2 {
            let told = teller.tell(&asset, "Move", status.clone()).await.expect("open");
            let batch = receiver.recv().await.expect("a batch");
            let Value::Text(text) = batch.samples[0].value.clone() else { panic!("a text") };
            texts.push(text);
            batch.finish(Outcome::Durable);
            tickets.push(teller.durable(told, &asset, "Move", &status).await.expect("open"));
        }
        assert!(texts[0].contains("\"n\":8,\"previous\":\"seven\""), "{}", texts[0]);
        let previous = format!("\"n\":9,\"previous\":\"{:x}\"", Sha256::digest(&*texts[0]));
        assert!(texts[1].contains(&previous), "{} in {}", previous, texts[1]);
        log.append_durable(vec![edge_buffer::Entry { key: "A".into(), timestamp: 0, value: b"{}".to_vec() }]).expect("open");
        assert_eq!(teller.covered(), (0, Chain { n: 7, hash: "seven".into() }));
        teller.heard(tickets[1]);
        assert_eq!(teller.covered().0, 0, "the first is not in the index");
        teller.heard(tickets[0]);
        assert_eq!((teller.covered().0, teller.covered().1.n), (1, 9));
    }
}
