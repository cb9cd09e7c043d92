//! One device's commands, one after the other, in the order in which they were accepted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use asset_stream::Timestamp;
use asset_stream::command::status::{Reason, State, Status};
use gateway::{Actions, Closed, Ending, Refusal, Request};
use serde_json::Value as Json;
use service::fail_point::Fuse;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::config::UntrustedClock;
use super::index::Name;
use super::teller::{Teller, Ticket};
use super::terms::{Confirm, Term, Terms, as_text};
use super::{fail_point, judgement};

/// Between two looks at the clock, which may be set meanwhile, and at a value that is to confirm an action.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AT_VALUE: Duration = Duration::from_millis(200);
/// How long a device may be away before a command whose outcome a crash hid is told to be unknown.
const SETTLE: Duration = Duration::from_secs(60);
/// What was read of the device longer ago is read again before it is asked.
const STALE: Duration = Duration::from_secs(1);

/// A device as commands see it; exchanged when its files change.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) actions: Arc<dyn Actions>,
    pub(crate) terms: Arc<Terms>,
    pub(crate) untrusted_clock: UntrustedClock,
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
    /// That it is accepted is on its way to the disk; answered when it is there.
    New(oneshot::Receiver<()>),
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
                Stage::New(accepted) => match self.stop.run_until_cancelled(accepted).await {
                    Some(Ok(())) => self.execute(&name, &request, deadline).await,
                    // The edge stops, or its log does.
                    Some(Err(_)) | None => Err(Halt::Stop),
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

    /// From its turn to its end.
    async fn execute(&self, name: &Name, request: &Request, deadline: i64) -> Result<End, Halt> {
        let Work { actions, terms, .. } = self.ready(deadline).await?;
        let none = Term::default();
        let term = terms.of(&request.method).unwrap_or(&none);
        // The device may not have been known when it was accepted.
        let checked = terms.check(request).and_then(|()| actions.check(request));
        checked.map_err(|refusal| Halt::End(State::Failed, refusal))?;
        preconditions(&*actions, term, request).await?;
        self.is_in_time(deadline, State::Expired)?;
        if self.stop.is_cancelled() {
            return Err(Halt::Stop);
        }
        let looked = Instant::now();
        self.tell(name, request, Status::new(&*name.sender, &*name.id, State::Executing, Timestamp::now())).await?;
        self.fuse.reached(fail_point::EXECUTING);
        // A log that was full or slow may have taken its time.
        self.is_in_time(deadline, State::Failed)?;
        if looked.elapsed() > STALE {
            preconditions(&*actions, term, request).await?;
        }
        // From here on nothing interrupts: the answer counts, also when the edge is stopping.
        let ending = ask(actions, request.clone()).await;
        self.fuse.reached(fail_point::ANSWERED);
        let (result, refusal) = match ending {
            Ending::NotDone(refusal) => return Ok((State::Failed, None, Some(refusal))),
            Ending::Done(result) => (Ok(result), None),
            Ending::Unknown(refusal) => (Err(()), Some(refusal)),
        };
        let Some(confirm) = &term.confirm else {
            return Ok(match result {
                Ok(result) => (State::Succeeded, result, None),
                Err(()) => (State::Unknown, None, refusal),
            });
        };
        let seen = self.confirmed(confirm, request).await?;
        Ok(match (result, refusal, seen) {
            (Ok(result), _, Ok(())) => (State::Succeeded, result, None),
            (Ok(result), _, Err(why)) => {
                let detail = format!("the device says that it is done; {why}");
                (State::Unknown, result, Some(Refusal { reason: Reason::NotConfirmed, detail }))
            }
            (Err(()), refusal, seen) => {
                let (state, more) = match seen {
                    Ok(()) => (State::Succeeded, format!("read back: {}", confirm.condition)),
                    Err(why) => (State::Unknown, why),
                };
                (state, None, refusal.map(|refusal| Refusal { detail: format!("{}; {more}", refusal.detail), ..refusal }))
            }
        })
    }

    /// A crash hid what became of it: the value that proves it is read, if there is one. It is never asked for again.
    async fn settle(&self, request: &Request) -> Result<End, Halt> {
        const WHY: &str = "the edge ended while the device was asked";
        let terms = self.work.borrow().terms.clone();
        let Some(confirm) = terms.of(&request.method).and_then(|term| term.confirm.as_ref()) else {
            let detail = format!("{WHY}; nothing in the device file says how to see whether it was done");
            return Err(end(State::Unknown, Reason::EdgeCrashed, detail));
        };
        let until = tokio::time::Instant::now() + SETTLE;
        loop {
            // The device may be exchanged while it is waited for.
            let actions = self.work.borrow().actions.clone();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Halt::Stop),
                () = actions.ready() => break,
                () = tokio::time::sleep(LOOK) => {}
            }
            if tokio::time::Instant::now() >= until {
                return Err(end(State::Unknown, Reason::EdgeCrashed, format!("{WHY}, and the device did not answer since")));
            }
        }
        let refusal = |detail| Some(Refusal { reason: Reason::EdgeCrashed, detail });
        Ok(match self.confirmed(confirm, request).await? {
            Ok(()) => (State::Succeeded, None, refusal(format!("{WHY}; read back: {}", confirm.condition))),
            Err(why) => (State::Unknown, None, refusal(format!("{WHY}; {why}"))),
        })
    }

    /// Waits for the device, at most until the deadline.
    async fn ready(&self, deadline: i64) -> Result<Work, Halt> {
        loop {
            self.is_in_time(deadline, State::Expired)?;
            // The device may be exchanged while it is waited for.
            let work = self.work.borrow().clone();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Halt::Stop),
                () = self.leave.cancelled() => {
                    return Err(end(State::Failed, Reason::UnknownAsset, "the device was taken out of the edge's config while it waited"));
                }
                () = work.actions.ready() => {}
                () = tokio::time::sleep(LOOK) => continue,
            }
            // A clock that is not synchronised, as after a power cut, may say that there is time left.
            if let Some(refusal) = judgement::clock_refusal(work.untrusted_clock) {
                return Err(Halt::End(State::Failed, refusal));
            }
            self.is_in_time(deadline, State::Expired)?;
            return Ok(work);
        }
    }

    /// `late`: what becomes of it if it is not.
    fn is_in_time(&self, deadline: i64, late: State) -> Result<(), Halt> {
        let since = Timestamp::now().millis() - deadline;
        if since < 0 {
            return Ok(());
        }
        let detail = format!("its deadline passed {:.1} s ago, while it waited; the device was not asked", since as f64 / 1000.0);
        Err(end(late, Reason::WaitedTooLong, detail))
    }

    /// Reads a value until it is as expected; why it is not, if it does not become so in time.
    async fn confirmed(&self, Confirm { condition, within }: &Confirm, request: &Request) -> Result<Result<(), String>, Halt> {
        let until = tokio::time::Instant::now() + *within;
        loop {
            let actions = self.work.borrow().actions.clone();
            let read = tokio::select! {
                biased;
                // The next life reads it again.
                () = self.stop.cancelled() => return Err(Halt::Stop),
                read = actions.read(&condition.variable) => read,
            };
            let seen = match read {
                Ok(value) if condition.holds(&value, request) => return Ok(Ok(())),
                Ok(value) => format!("expected {condition}, and it is {}", as_text(&value)),
                Err(why) => format!("expected {condition}, and it cannot be read: {why}"),
            };
            if tokio::time::Instant::now() + LOOK_AT_VALUE > until {
                return Ok(Err(seen));
            }
            tokio::time::sleep(LOOK_AT_VALUE).await;
        }
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

/// Whether everything holds that has to.
async fn preconditions(actions: &dyn Actions, term: &Term, request: &Request) -> Result<(), Halt> {
    for condition in &term.preconditions {
        let seen = match actions.read(&condition.variable).await {
            Ok(value) if condition.holds(&value, request) => continue,
            Ok(value) => format!("it is {}", as_text(&value)),
            Err(why) => format!("it cannot be read: {why}"),
        };
        return Err(end(State::Failed, Reason::Precondition, format!("expected {condition}, and {seen}")));
    }
    Ok(())
}

/// Asks the device in a task of its own: what fails in a protocol's library is an answer that nobody knows.
async fn ask(actions: Arc<dyn Actions>, request: Request) -> Ending {
    let asked = AbortOnDropHandle::new(tokio::spawn(async move { actions.execute(&request).await }));
    asked.await.unwrap_or_else(|failure| {
        let detail = format!("the gateway failed while it asked the device: {failure}");
        Ending::Unknown(Refusal { reason: Reason::NoAnswer, detail })
    })
}

#[cfg(test)]
mod tests;
