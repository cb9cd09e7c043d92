//! One device's commands, one after the other, in the order in which they were accepted.

use std::sync::Arc;
use std::time::Duration;

use asset_stream::Timestamp;
use asset_stream::command::status::{Reason, State, Status};
use gateway::{Actions, Closed, Ending, Refusal, Request};
use serde_json::Value as Json;
use service::fail_point::Fuse;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::fail_point;
use super::index::Name;
use super::teller::{Teller, Ticket, Told};
use super::terms::{Condition, Term, Terms, as_text};

/// Between two looks at the clock, which may be set meanwhile, and at a value that is to confirm an action.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AT_VALUE: Duration = Duration::from_millis(200);
/// How long a device may be away before a command whose outcome a crash hid is told to be unknown.
const SETTLE: Duration = Duration::from_secs(60);

/// A device as commands see it; exchanged when its files change.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) actions: Arc<dyn Actions>,
    pub(crate) terms: Arc<Terms>,
}

/// A command that waits for its turn.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) name: Name,
    pub(crate) request: Request,
    /// Unix ms, by the edge's clock.
    pub(crate) deadline: i64,
    pub(crate) stage: Stage,
}

/// How far it is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// That it is accepted is on its way to the disk.
    New(Told, Status),
    /// It was accepted in an earlier life of the edge.
    Accepted,
    /// It was being executed when an earlier life of the edge ended.
    InDoubt,
}

/// A step that is on disk, for the index.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: Name,
    pub(crate) state: State,
    pub(crate) ticket: Ticket,
}

/// The worker of one device.
pub(crate) struct Worker {
    pub(crate) work: watch::Receiver<Work>,
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) teller: Arc<Teller>,
    pub(crate) steps: mpsc::UnboundedSender<Step>,
    /// The edge stops: what was not begun stays accepted, and is gone on with later.
    pub(crate) stop: CancellationToken,
    /// The device was taken out of the config.
    pub(crate) leave: CancellationToken,
    pub(crate) fuse: Arc<Fuse>,
}

/// Why a command's way ended early.
enum Halt {
    /// The edge stops, or its log does.
    Stop,
    /// With this end.
    End(State, Refusal),
}

impl From<Closed> for Halt {
    fn from(_: Closed) -> Self {
        Self::Stop
    }
}

fn end(state: State, reason: Reason, detail: impl Into<String>) -> Halt {
    Halt::End(state, Refusal { reason, detail: detail.into() })
}

impl Worker {
    /// Works until the edge stops, or until the device has left and everything that waited for it was told so.
    pub(crate) async fn run(mut self) {
        loop {
            let job = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                job = self.jobs.recv() => match job {
                    Some(job) => job,
                    None => return,
                },
            };
            let Job { name, request, deadline, stage } = job;
            let ended = match stage {
                Stage::InDoubt => self.settle(&request).await,
                Stage::New(told, status) => match self.accepted(&name, &request, told, &status).await {
                    Ok(()) => self.execute(&name, &request, deadline).await,
                    Err(halt) => Err(halt),
                },
                Stage::Accepted => self.execute(&name, &request, deadline).await,
            };
            let told = match ended {
                Ok((state, result, refusal)) => self.tell_end(&name, &request, state, result, refusal).await,
                Err(Halt::End(state, refusal)) => self.tell_end(&name, &request, state, None, Some(refusal)).await,
                Err(Halt::Stop) => return,
            };
            if told.is_err() {
                return;
            }
        }
    }

    async fn accepted(&self, name: &Name, request: &Request, told: Told, status: &Status) -> Result<(), Halt> {
        let ticket = self.teller.durable(told, &name.asset, &request.method, status).await?;
        self.heard(name, State::Accepted, ticket);
        self.fuse.reached(fail_point::ACCEPTED);
        Ok(())
    }

    /// From its turn to its end.
    async fn execute(&self, name: &Name, request: &Request, deadline: i64) -> Result<End, Halt> {
        self.ready(deadline).await?;
        let Work { actions, terms } = self.work.borrow().clone();
        let none = Term::default();
        let term = terms.of(&request.method).unwrap_or(&none);
        // The device may not have been known when it was accepted.
        let checked = terms.check(request).and_then(|()| actions.check(request));
        checked.map_err(|refusal| Halt::End(State::Failed, refusal))?;
        for condition in &term.preconditions {
            match actions.read(&condition.variable).await {
                Ok(value) if condition.holds(&value, request) => {}
                Ok(value) => {
                    let detail = format!("expected {condition}, and it is {}", as_text(&value));
                    return Err(end(State::Failed, Reason::Precondition, detail));
                }
                Err(why) => {
                    return Err(end(State::Failed, Reason::Precondition, format!("expected {condition}, and it cannot be read: {why}")));
                }
            }
        }
        self.is_in_time(deadline)?;
        if self.stop.is_cancelled() {
            return Err(Halt::Stop);
        }
        self.tell(name, request, Status::new(&*name.sender, &*name.id, State::Executing, Timestamp::now())).await?;
        self.fuse.reached(fail_point::EXECUTING);
        // From here on nothing interrupts: the answer counts, also when the edge is stopping.
        let ending = actions.execute(request).await;
        self.fuse.reached(fail_point::ANSWERED);
        Ok(match ending {
            Ending::NotDone(refusal) => (State::Failed, None, Some(refusal)),
            Ending::Done(result) => match &term.confirm {
                None => (State::Succeeded, result, None),
                Some(confirm) => match confirmed(&*actions, &confirm.condition, request, confirm.within).await {
                    Ok(()) => (State::Succeeded, result, None),
                    Err(why) => (
                        State::Unknown,
                        result,
                        Some(Refusal { reason: Reason::NotConfirmed, detail: format!("the device says that it is done; {why}") }),
                    ),
                },
            },
            Ending::Unknown(refusal) => match &term.confirm {
                None => (State::Unknown, None, Some(refusal)),
                Some(confirm) => match confirmed(&*actions, &confirm.condition, request, confirm.within).await {
                    Ok(()) => (
                        State::Succeeded,
                        None,
                        Some(Refusal { detail: format!("{}; read back: {}", refusal.detail, confirm.condition), ..refusal }),
                    ),
                    Err(why) => (State::Unknown, None, Some(Refusal { detail: format!("{}; {why}", refusal.detail), ..refusal })),
                },
            },
        })
    }

    /// A crash hid what became of it: the value that proves it is read, if there is one. It is never asked for again.
    async fn settle(&self, request: &Request) -> Result<End, Halt> {
        const WHY: &str = "the edge ended while the device was asked";
        let Work { actions, terms } = self.work.borrow().clone();
        let Some(confirm) = terms.of(&request.method).and_then(|term| term.confirm.as_ref()) else {
            return Err(end(
                State::Unknown,
                Reason::EdgeCrashed,
                format!("{WHY}; nothing in the device file says how to see whether it was done"),
            ));
        };
        let is_ready = tokio::select! {
            () = self.stop.cancelled() => return Err(Halt::Stop),
            ready = tokio::time::timeout(SETTLE, actions.ready()) => ready.is_ok(),
        };
        let refusal = |detail| Some(Refusal { reason: Reason::EdgeCrashed, detail });
        if !is_ready {
            return Err(end(State::Unknown, Reason::EdgeCrashed, format!("{WHY}, and the device did not answer since")));
        }
        Ok(match confirmed(&*actions, &confirm.condition, request, confirm.within).await {
            Ok(()) => (State::Succeeded, None, refusal(format!("{WHY}; read back: {}", confirm.condition))),
            Err(why) => (State::Unknown, None, refusal(format!("{WHY}; {why}"))),
        })
    }

    /// Waits for the device, at most until the deadline.
    async fn ready(&self, deadline: i64) -> Result<(), Halt> {
        loop {
            self.is_in_time(deadline)?;
            // The device may be exchanged while it is waited for.
            let actions = self.work.borrow().actions.clone();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Halt::Stop),
                () = self.leave.cancelled() => {
                    return Err(end(State::Failed, Reason::UnknownAsset, "the device was taken out of the edge's config while it waited"));
                }
                () = actions.ready() => return self.is_in_time(deadline),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn is_in_time(&self, deadline: i64) -> Result<(), Halt> {
        let late = Timestamp::now().millis() - deadline;
        if late < 0 {
            return Ok(());
        }
        Err(end(State::Expired, Reason::WaitedTooLong, format!("its deadline passed {:.1} s ago, while it waited", late as f64 / 1000.0)))
    }

    async fn tell_end(
        &self,
        name: &Name,
        request: &Request,
        state: State,
        result: Option<Json>,
        refusal: Option<Refusal>,
    ) -> Result<(), Closed> {
        let (reason, detail) = refusal.map(|Refusal { reason, detail }| (reason, detail)).unzip();
        match state {
            State::Succeeded => info!(asset = %name.asset, method = %request.method, id = %name.id, "command succeeded"),
            _ => {
                warn!(asset = %name.asset, method = %request.method, id = %name.id, detail = detail.as_deref().unwrap_or_default(), "command {state}")
            }
        }
        let status = Status { reason, detail, result, ..Status::new(&*name.sender, &*name.id, state, Timestamp::now()) };
        self.tell(name, request, status).await?;
        self.fuse.reached(fail_point::ENDED);
        Ok(())
    }

    /// Tells a step; it is on disk when this returns.
    async fn tell(&self, name: &Name, request: &Request, status: Status) -> Result<(), Closed> {
        let told = self.teller.tell(&name.asset, &request.method, status.clone()).await?;
        let ticket = self.teller.durable(told, &name.asset, &request.method, &status).await?;
        self.heard(name, status.state, ticket);
        Ok(())
    }

    fn heard(&self, name: &Name, state: State, ticket: Ticket) {
        // Without a reader the edge has stopped, and its next life reads the log.
        self.steps.send(Step { name: name.clone(), state, ticket }).ok();
    }
}

/// An end: its state, what the device gave back, and what there is to say.
type End = (State, Option<Json>, Option<Refusal>);

/// Reads a value until it is as expected; why it is not, if it does not become so in time.
async fn confirmed(actions: &dyn Actions, condition: &Condition, request: &Request, within: Duration) -> Result<(), String> {
    let until = tokio::time::Instant::now() + within;
    loop {
        let seen = match actions.read(&condition.variable).await {
            Ok(value) if condition.holds(&value, request) => return Ok(()),
            Ok(value) => format!("expected {condition}, and it is {}", as_text(&value)),
            Err(why) => format!("expected {condition}, and it cannot be read: {why}"),
        };
        if tokio::time::Instant::now() + LOOK_AT_VALUE > until {
            return Err(seen);
        }
        tokio::time::sleep(LOOK_AT_VALUE).await;
    }
}

#[cfg(test)]
mod tests;
