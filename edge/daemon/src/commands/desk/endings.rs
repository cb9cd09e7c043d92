//! What the desk tells itself, and what it does about commands of an earlier life.

use asset_stream::Timestamp;
use asset_stream::command::status::{Reason, State, Status};
use gateway::{Closed, Refusal, Request};
use tokio::sync::oneshot;
use tracing::warn;

use super::Desk;
use super::arrivals::Open;
use crate::commands::claiming::Pending;
use crate::commands::index::{Known, Name};
use crate::commands::teller::Told;
use crate::commands::worker::{Job, Stage, Step};
use crate::commands::{fail_point, judgement};

impl Desk {
    /// Tells the end of a command that no worker has.
    pub(super) async fn end_here(
        &mut self,
        name: Name,
        method: String,
        digest: Option<u64>,
        state: State,
        refusal: Refusal,
    ) -> Result<(), Closed> {
        if self.index.get(&name).is_none() && !self.index.is_full() {
            self.fresh.insert(name.clone());
            self.remember(name.clone(), method.clone(), Known::Told(state), digest);
        }
        let Refusal { reason, detail } = refusal;
        warn!(asset = %name.asset, %method, id = %name.id, sender = %name.sender, detail, "command {state}");
        let status =
            Status { reason: Some(reason), detail: Some(detail), ..Status::new(&*name.sender, &*name.id, state, Timestamp::now()) };
        let told = self.teller.tell(&name.asset, &method, status.clone()).await?;
        self.wait_aside(name, method, status, told, None);
        Ok(())
    }

    /// Rejects another command under the name of one that is known, of which that changes nothing.
    pub(super) async fn tell_aside(&mut self, name: &Name, method: &str, refusal: Refusal) -> Result<(), Closed> {
        let Refusal { reason, detail } = refusal;
        let told_now = Status::new(&*name.sender, &*name.id, State::Rejected, Timestamp::now());
        let status = Status { reason: Some(reason), detail: Some(detail), ..told_now };
        let told = self.teller.tell(&name.asset, method, status.clone()).await?;
        let (teller, asset, method) = (self.teller.clone(), name.asset.clone(), method.to_owned());
        self.asides.spawn(async move {
            if let Ok(ticket) = teller.durable(told, &asset, &method, &status).await {
                teller.heard(ticket);
            }
        });
        Ok(())
    }

    /// The desk does not wait for the disk: other commands may be urgent. `then` is answered when the step is there.
    pub(super) fn wait_aside(&mut self, name: Name, method: String, status: Status, told: Told, then: Option<oneshot::Sender<()>>) {
        let (teller, steps, fuse) = (self.teller.clone(), self.steps.clone(), self.fuse.clone());
        self.asides.spawn(async move {
            let Ok(ticket) = teller.durable(told, &name.asset, &method, &status).await else { return };
            // Without a reader the edge has stopped, and its next life reads the log.
            steps.send(Step { name, state: status.state, ticket }).ok();
            if let Some(then) = then {
                fuse.reached(fail_point::ACCEPTED);
                // A worker that is gone leaves it accepted.
                then.send(()).ok();
            }
        });
    }

    /// Goes on with a command of an earlier life that was read again. A record that would not be allowed now is none of it: anybody may have written
    /// one under its name.
    pub(super) async fn resume(&mut self, name: Name, state: State, pending: Pending) -> Result<Open, Closed> {
        let Pending { partition, offset, method, command, .. } = pending;
        let Ok(command) = command else { return Ok(Open::No) };
        let Some(deadline) = judgement::still_allows(&name.asset, &method, &command, &self.policy, &self.config) else {
            return Ok(Open::No);
        };
        self.earlier.remove(&name);
        self.records.insert(name.clone(), (partition, offset));
        let stage = if state == State::Executing { Stage::InDoubt } else { Stage::Accepted };
        let request = Request { method: method.clone(), arguments: command.arguments };
        let job = Job { name: name.clone(), request, deadline, stage };
        // There were never more of them than have a place, but the config may have changed.
        let is_taken = self.lines.get(&name.asset).is_some_and(|line| line.jobs.try_send(job).is_ok());
        if !is_taken {
            self.give_up(name, method, state).await?;
        }
        Ok(Open::Yes)
    }

    /// Ends a command of an earlier life that cannot be gone on with.
    pub(super) async fn give_up(&mut self, name: Name, method: String, state: State) -> Result<(), Closed> {
        let (state, reason, detail) = if state == State::Executing {
            (State::Unknown, Reason::EdgeCrashed, "the edge ended while the device was asked; nothing tells whether it was done")
        } else {
            (State::Expired, Reason::WaitedTooLong, "the edge ended while it waited, and it cannot be read again")
        };
        self.end_here(name, method, None, state, Refusal { reason, detail: detail.into() }).await
    }
}
