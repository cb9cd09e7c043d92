//! Sending again what the log retains: after the centre lost data, or for readers that want a stretch of time once more.
//!
//! [`replay`] sends a range; [`reconcile`] compares Kafka with the log and sends what is missing. Both run beside the mirror, or without it,
//! and do not get in its way: they read the log's files without its lock and send only what lies at or before the mirror's cursor, while the
//! mirror looks only at what lies beyond. A record that is sent again has its key, value, time and numbers as before, and the header
//! `of-replay` with the run's id, so that readers drop what they had.
//!
//! A run keeps its place in a file of its own. One that ended early, in whatever way, goes on when it is asked for once more: what it sent
//! beyond that place is found in Kafka by its id. So each event stands at most once under one id.

mod compare;
mod plan;
mod progress;
mod reconcile;
mod report;
mod run;
mod send;

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;

use asset_stream::Timestamp;
use edge_buffer::{Cursor, Stored, View};

use crate::class::Failure;
use crate::{Config, Error};

pub use plan::Plan;
pub use reconcile::{Action, reconcile};
pub use report::{Comparison, Outcome, Stretch};

use plan::Survey;
use progress::Folder;
use run::Run;

/// Why events could not be sent again. What was sent until then is kept, and the same call goes on behind it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The mirror's settings cannot be used.
    #[error("the mirror's settings cannot be used")]
    Config(#[source] Error),
    /// The log's files cannot be read.
    #[error("the log cannot be read")]
    Log(#[source] edge_buffer::Error),
    /// Kafka, or the way to it.
    #[error("{0}")]
    Kafka(String),
    /// The files in which runs keep their places.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Another run is at work.
    #[error("another replay or reconcile of this edge is at work: wait for its end, or stop it ({} is locked)", .0.display())]
    Busy(PathBuf),
}

impl From<Failure> for ReplayError {
    fn from(failure: Failure) -> Self {
        Self::Kafka(failure.text)
    }
}

impl From<edge_buffer::Error> for ReplayError {
    fn from(error: edge_buffer::Error) -> Self {
        Self::Log(error)
    }
}

/// Which events of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Their record times, Unix ms.
    pub times: Range<i64>,
    /// Their assets; all where none is named.
    pub assets: BTreeSet<String>,
}

impl Selection {
    fn has_asset(&self, asset: &str) -> bool {
        self.assets.is_empty() || self.assets.contains(asset)
    }

    fn has(&self, event: &Stored) -> bool {
        self.times.contains(&event.timestamp) && self.has_asset(&event.key)
    }
}

/// What is to be done, and where.
#[derive(Debug)]
pub struct Job<'a> {
    /// The mirror's settings; its rate is the limit of the run.
    pub config: &'a Config,
    /// The log.
    pub view: &'a View,
    /// Which events.
    pub selection: Selection,
    /// The folder in which runs keep their places; made if it does not exist.
    pub folder: PathBuf,
    /// What the run was asked for: an unfinished one that was asked for the same goes on.
    pub request: String,
    /// What becomes of an unfinished run of the same request.
    pub unfinished: Unfinished,
}

/// What becomes of an unfinished run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// It goes on.
    Resume,
    /// It is forgotten, and another one begins.
    Restart,
}

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading the log: what belongs to the selection?
    Planning,
    /// Waiting until nothing of an earlier producer can be under way any more.
    Waiting,
    /// Looking what an unfinished run has sent already.
    Resuming,
    /// Reading the topic.
    Reading,
    /// Comparing it with the log.
    Comparing,
    /// Sending.
    Sending,
    /// Looking whether what was sent stands in Kafka.
    Verifying,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it is doing.
    pub phase: Phase,
    /// Done of it: events or records; of waiting, milliseconds.
    pub done: u64,
    /// Of so many, where that is known.
    pub total: Option<u64>,
}

/// Asked several times a second; to break is to stop in order.
pub type Watch<'a> = &'a mut dyn FnMut(Step) -> ControlFlow<()>;

/// Finds out what [`replay`] would send. Asks the log alone.
///
/// # Errors
/// The log cannot be read.
pub fn plan(view: &View, selection: &Selection, watch: Watch<'_>) -> Result<Plan, ReplayError> {
    Ok(Survey::take(view, selection, cursor(view), watch)?.plan)
}

/// Sends the selected events again.
///
/// # Errors
/// See [`ReplayError`].
pub fn replay(job: &Job<'_>, watch: Watch<'_>) -> Result<Outcome, ReplayError> {
    job.config.check().map_err(ReplayError::Config)?;
    let folder = Folder::open(&job.folder)?;
    let (progress, resumed) = folder.find(job)?;
    // An unfinished run keeps to its first idea of the time, and of what was acknowledged.
    let selection = Selection { times: progress.from..progress.to, assets: job.selection.assets.clone() };
    let survey = Survey::take(job.view, &selection, progress.through, watch)?;
    let mut outcome = Outcome::new(&progress, resumed, survey.plan.clone());
    if survey.plan.events == 0 || !survey.is_whole {
        outcome.is_complete = survey.is_whole;
        return Ok(outcome);
    }
    let mut run = Run::begin(job, progress, survey.plan.events)?;
    outcome.is_complete = run.send(&mut |event| selection.has(event) && !survey.is_told(event.sequence), watch)?;
    run.finish(outcome)
}

/// The id of a run that begins now.
fn new_id() -> String {
    Timestamp::now().millis().to_string()
}

/// How far the mirror has come: what lies beyond is its own business.
fn cursor(view: &View) -> u64 {
    view.cursor(Cursor::MIRROR).map_or(0, |cursor| cursor.sequence)
}
