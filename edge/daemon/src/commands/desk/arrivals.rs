//! What comes from the topic: recognised, claimed, and judged when it is known whose it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use asset_stream::command::claim::Claim;
use asset_stream::command::signature::canonical_bytes;
use asset_stream::command::status::{Reason, State, Status};
use asset_stream::command::{self, Command, NotACommand};
use asset_stream::{Event, Timestamp};
use edge_mirror::commands::Record;
use gateway::{Closed, Refusal};
use service::error::chain;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Desk, Identity};
use crate::commands::claiming::{Owner, Pending};
use crate::commands::fail_point;
use crate::commands::index::{Entry, Known, Name};
use crate::commands::judgement::{self, Verdict};
use crate::commands::worker::{Job, Stage};

/// The longest id, sender and method, in bytes: they are remembered.
const LONGEST_NAME: usize = 256;

/// Whether a record may have to be read again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    Yes,
    No,
}

impl Desk {
    pub(super) async fn recognise(&mut self, record: Record) -> Result<Open, Closed> {
        let Ok(event) = Event::decode(&record.value) else {
            if self.lines.contains_key(&record.key) {
                warn!(asset = %record.key, partition = record.partition, offset = record.offset, "a record among the commands is no event; it is passed over");
            }
            return Ok(Open::No);
        };
        if let Some(claim) = Claim::from_event(&event) {
            if let Ok(claim) = claim {
                self.claimed(&record.key, claim).await?;
            }
            return Ok(Open::No);
        }
        let Some(method) = command::method_of(&event.id).filter(|_| self.lines.contains_key(&record.key)) else { return Ok(Open::No) };
        let (method, command) = match Command::from_event(&event) {
            Err(NotACommand::Announcement) => return Ok(Open::No),
            Ok((method, command)) => (method, fitting(command)),
            Err(why) => (method.to_owned(), Err(why)),
        };
        if method.len() > LONGEST_NAME {
            return Ok(Open::No);
        }
        let name = self.name(&record, &command);
        let pending = Pending {
            partition: record.partition,
            offset: record.offset,
            digest: command.as_ref().ok().map(|command| digest(&record.key, &method, command)),
            method,
            command,
            size: record.value.len(),
            asked: Instant::now(),
            owner: None,
        };
        match self.index.get(&name).map(|entry| (entry.known, entry.digest)) {
            Some((Known::Told(state), known)) => self.known(name, state, known, pending).await,
            Some((Known::Claimed, _)) => Ok(Open::No),
            None if self.claiming.contains(&name) => {
                self.counters.repeats.fetch_add(1, Ordering::Relaxed);
                Ok(Open::No)
            }
            None if !self.claiming.takes(pending.size) => {
                warn!(asset = %name.asset, id = %name.id, "more commands than this edge can keep wait for their claims; it does not take this one");
                self.counters.missed.fetch_add(1, Ordering::Relaxed);
                Ok(Open::No)
            }
            None => {
                self.claim(&name, &pending);
                self.records.insert(name.clone(), (pending.partition, pending.offset));
                self.claiming.insert(name, pending);
                Ok(Open::Yes)
            }
        }
    }

    /// A command that this edge handles or has handled is read again, or another one under its name.
    pub(super) async fn known(&mut self, name: Name, state: State, digest: Option<u64>, pending: Pending) -> Result<Open, Closed> {
        let is_other = digest.is_some() && pending.digest.is_some() && digest != pending.digest;
        if is_other {
            let detail = "this sender has used the correlation id for another command before";
            let refusal = Refusal { reason: Reason::IdUsedTwice, detail: detail.into() };
            self.tell_aside(&name, &pending.method, refusal).await?;
            return Ok(Open::No);
        }
        if self.earlier.contains_key(&name) {
            return self.resume(name, state, pending).await;
        }
        if self.records.get(&name) == Some(&(pending.partition, pending.offset)) {
            // The same record, by another follower: its command has no end yet.
            return Ok(Open::Yes);
        }
        self.counters.repeats.fetch_add(1, Ordering::Relaxed);
        Ok(Open::No)
    }

    pub(super) fn name(&self, record: &Record, command: &Result<Command, NotACommand>) -> Name {
        let (sender, id) = match command {
            Ok(command) => (command.header.sender_uuid.clone(), command.header.correlation_id.clone()),
            Err(_) => (String::new(), format!("{}:{}:{}", self.config.topic, record.partition, record.offset)),
        };
        Name { asset: record.key.clone(), sender, id }
    }

    pub(super) fn claim(&self, name: &Name, pending: &Pending) {
        let Identity { edge, epoch, since } = &self.identity;
        let claim = Claim {
            correlation_id: name.id.clone(),
            sender_uuid: name.sender.clone(),
            offset: pending.offset,
            edge: edge.clone(),
            epoch: *epoch,
            since: *since,
        };
        let mut value = Vec::with_capacity(256);
        claim.to_sample(name.asset.clone(), &pending.method, Timestamp::now()).encode(&mut value);
        if let Some(follower) = &self.follower {
            follower.claim(pending.partition, &name.asset, &value);
        }
        self.fuse.reached(fail_point::CLAIMED);
    }

    /// A claim was read. The first of a command counts.
    pub(super) async fn claimed(&mut self, asset: &Arc<str>, claim: Claim) -> Result<(), Closed> {
        let name = Name { asset: asset.clone(), sender: claim.sender_uuid, id: claim.correlation_id };
        let owner = match claim.edge == self.identity.edge && claim.epoch == self.identity.epoch {
            true if claim.since == self.identity.since => Owner::Ours,
            true => Owner::Earlier,
            false => Owner::Theirs,
        };
        if !self.claiming.claimed(&name, owner) {
            let is_new = owner == Owner::Theirs && self.lines.contains_key(asset) && self.index.get(&name).is_none();
            if is_new && name.id.len() <= LONGEST_NAME && name.sender.len() <= LONGEST_NAME && !self.index.is_full() {
                self.remember(name, String::new(), Known::Claimed, None);
            }
            return Ok(());
        }
        while let Some((name, pending, owner)) = self.claiming.take_first(asset) {
            if owner == Owner::Theirs {
                info!(asset = %name.asset, id = %name.id, "another edge, or an earlier log of this one, has the command");
                self.remember(name.clone(), pending.method, Known::Claimed, None);
                self.done(&name);
            } else {
                self.judge(name, pending, owner).await?;
            }
        }
        Ok(())
    }

    pub(super) fn remember(&mut self, name: Name, method: String, known: Known, digest: Option<u64>) {
        let until = Timestamp::now().millis() + self.remember_ms();
        self.index.note(name, Entry { known, method, digest, until });
    }

    pub(super) fn remember_ms(&self) -> i64 {
        judgement::millis(self.config.longest_deadline)
    }

    /// The command is this edge's to handle.
    pub(super) async fn judge(&mut self, name: Name, pending: Pending, owner: Owner) -> Result<(), Closed> {
        let Pending { method, command, digest, .. } = pending;
        let deadline = command.as_ref().map_or(Ok(0), |command| judgement::deadline(command, &self.config));
        let now = Timestamp::now();
        if owner == Owner::Earlier && self.has_holes {
            let detail = "an earlier life of the edge claimed it, and what became of it is lost with a part of the log";
            let refusal = Refusal { reason: Reason::EdgeCrashed, detail: detail.into() };
            // If it is too late by now, its end was most likely told long ago.
            if deadline.as_ref().is_ok_and(|deadline| now.millis() < *deadline) {
                return self.end_here(name, method, digest, State::Unknown, refusal).await;
            }
            self.remember(name.clone(), method, Known::Claimed, digest);
            self.done(&name);
            return Ok(());
        }
        let reject = |reason, detail: &str| Verdict::Refuse(State::Rejected, Refusal { reason, detail: detail.into() });
        let (asset, line) = (name.asset.clone(), self.lines.get(&name.asset));
        let verdict = match (&command, line) {
            (_, None) => reject(Reason::UnknownAsset, "the device was taken out of the edge's config"),
            (_, Some(_)) if self.index.is_full() => {
                reject(Reason::QueueFull, "the edge can remember no more commands whose time is not over")
            }
            (Err(why), Some(_)) => reject(Reason::Malformed, &chain(why)),
            (Ok(command), Some(line)) => {
                let work = line.work.borrow().clone();
                judgement::judge(&asset, &method, command, deadline, &mut self.policy, &self.config, &work)
            }
        };
        let (request, deadline) = match verdict {
            Verdict::Accept { request, deadline } => (request, deadline),
            Verdict::Refuse(state, refusal) => return self.end_here(name, method, digest, state, refusal).await,
        };
        let Some(place) = self.lines.get(&asset).and_then(|line| line.jobs.clone().try_reserve_owned().ok()) else {
            let detail = format!("{} commands wait for the device already, which is as many as are kept", self.config.queue);
            return self.end_here(name, method, digest, State::Rejected, Refusal { reason: Reason::QueueFull, detail }).await;
        };
        self.fresh.insert(name.clone());
        self.remember(name.clone(), method, Known::Told(State::Accepted), digest);
        let status = Status::new(&*name.sender, &*name.id, State::Accepted, now);
        let told = self.teller.tell(&asset, &request.method, status.clone()).await?;
        let (accepted, waits) = oneshot::channel();
        self.wait_aside(name.clone(), request.method.clone(), status, told, Some(accepted));
        place.send(Job { name, request, deadline, stage: Stage::New(waits) });
        Ok(())
    }
}

/// The command, if what is remembered of it is short enough.
fn fitting(command: Command) -> Result<Command, NotACommand> {
    let header = &command.header;
    if header.correlation_id.len() > LONGEST_NAME || header.sender_uuid.len() > LONGEST_NAME {
        let problem = format!("header.correlation_id and header.sender_uuid may have {LONGEST_NAME} bytes each");
        return Err(NotACommand::Event { problem });
    }
    Ok(command)
}

/// What a command asks for, in a number.
fn digest(asset: &str, method: &str, command: &Command) -> u64 {
    let hash = Sha256::digest(canonical_bytes(asset, method, command));
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
