//! `openfactory-edge replay` and `reconcile`: what the log retains, sent again.

mod meter;
mod summary;

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use edge_buffer::View;
use edge_mirror::replay::{self, Action, Job, Outcome, Selection, Step, Unfinished};
use service::signals::{Request, Signals};
use tokio_util::sync::CancellationToken;

use crate::cli::{AgainArgs, ReconcileArgs, ReplayArgs};
use crate::config::Config;
use crate::{BAD_CONFIG, check};
use meter::Meter;

/// A run that did not come to its end.
const INCOMPLETE: u8 = 1;

/// What was asked for.
enum Task {
    Plan,
    Replay,
    Reconcile(Action),
}

/// Sends a range again, or says what that would be.
pub(crate) fn replay(file: &Path, args: &ReplayArgs) -> ExitCode {
    let task = if args.again.dry_run { Task::Plan } else { Task::Replay };
    let (from, to) = (&args.from, &args.to);
    let request = format!("replay --from {} --to {}", from.text, to.text);
    run(file, task, request, (from.millis, to.millis), &args.again)
}

/// Sends what Kafka has lost, or says what that is.
pub(crate) fn reconcile(file: &Path, args: &ReconcileArgs) -> ExitCode {
    let action = if args.again.dry_run { Action::Report } else { Action::Send };
    let text = |when: &Option<crate::when::When>| when.as_ref().map_or("-", |when| when.text.as_str()).to_owned();
    let request = format!("reconcile --from {} --to {}", text(&args.from), text(&args.to));
    let from = args.from.as_ref().map_or(i64::MIN, |when| when.millis);
    let to = args.to.as_ref().map_or(i64::MAX, |when| when.millis);
    run(file, Task::Reconcile(action), request, (from, to), &args.again)
}

fn run(file: &Path, task: Task, mut request: String, (from, to): (i64, i64), args: &AgainArgs) -> ExitCode {
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(problems) => return check::refuse(&problems.iter().map(ToString::to_string).collect::<Vec<_>>()),
    };
    let Some(mut mirror) = config.mirror() else {
        eprintln!(
            "openfactory-edge: {} has no [kafka] section: nothing was ever mirrored, so there is nothing to send again",
            file.display()
        );
        return ExitCode::from(BAD_CONFIG);
    };
    mirror.rate = args.rate.or(mirror.rate);
    let mut assets = args.asset.clone();
    assets.sort_unstable();
    assets.iter().for_each(|asset| request.push_str(&format!(" --asset {asset}")));
    let order = Order {
        task,
        mirror,
        log: config.buffer().dir,
        folder: config.edge.state_dir.join("replay"),
        selection: Selection { times: from..to, assets: assets.into_iter().collect() },
        request,
        unfinished: if args.restart { Unfinished::Restart } else { Unfinished::Resume },
    };
    match carry_out(order) {
        Ok(Some(outcome)) => {
            let text = if args.json { summary::json(&outcome) } else { summary::text(&outcome) };
            match service::output::print(&text) {
                Ok(()) if outcome.is_complete() => ExitCode::SUCCESS,
                Ok(()) => ExitCode::from(INCOMPLETE),
                Err(error) => fail(&error.into()),
            }
        }
        Ok(None) => fail(&anyhow::anyhow!("stopped at once; the same command goes on with it")),
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("openfactory-edge: {error:#}");
    ExitCode::FAILURE
}

/// All that a run needs, on its way to a thread of its own.
struct Order {
    task: Task,
    mirror: edge_mirror::Config,
    log: std::path::PathBuf,
    folder: std::path::PathBuf,
    selection: Selection,
    request: String,
    unfinished: Unfinished,
}

/// What came of it.
pub(crate) enum Done {
    Planned(replay::Plan),
    Replayed(Outcome),
    Reconciled(Outcome, Action),
}

impl Done {
    fn is_complete(&self) -> bool {
        match self {
            Self::Planned(_) => true,
            Self::Replayed(outcome) => outcome.is_complete,
            // What was sent and does not stand is missing again.
            Self::Reconciled(outcome, _) => outcome.is_complete && outcome.verified.is_none_or(|verified| verified >= outcome.sent),
        }
    }
}

/// Works until it is done or told to stop; a second request to stop is obeyed at once (`None`).
fn carry_out(order: Order) -> anyhow::Result<Option<Done>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime cannot be started")?;
    let done = runtime.block_on(async {
        let mut signals = Signals::install().context("signals cannot be taken over")?;
        let stop = CancellationToken::new();
        let mut work = tokio::task::spawn_blocking({
            let stop = stop.clone();
            move || work(&order, &stop)
        });
        loop {
            tokio::select! {
                done = &mut work => return done?.map(Some),
                request = signals.next() => match request {
                    Request::Stop if stop.is_cancelled() => return Ok(None),
                    Request::Stop => stop.cancel(),
                    Request::Reload => {}
                }
            }
        }
    });
    // A blocking call into a library that hangs must not keep the process alive.
    runtime.shutdown_background();
    done
}

fn work(order: &Order, stop: &CancellationToken) -> anyhow::Result<Done> {
    let Order { task, mirror, log, folder, selection, request, unfinished } = order;
    let view = View::open(log)?;
    let mut meter = Meter::start();
    let watch = &mut |step: Step| {
        meter.show(step);
        if stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let job = Job {
        config: mirror,
        view: &view,
        selection: selection.clone(),
        folder: folder.clone(),
        request: request.clone(),
        unfinished: *unfinished,
    };
    let done = match task {
        Task::Plan => replay::plan(&view, selection, watch).map(Done::Planned),
        Task::Replay => replay::replay(&job, watch).map(Done::Replayed),
        Task::Reconcile(action) => replay::reconcile(&job, *action, watch).map(|outcome| Done::Reconciled(outcome, *action)),
    };
    meter.end();
    Ok(done?)
}
