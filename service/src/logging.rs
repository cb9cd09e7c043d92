//! Logs: structured fields into the journal under systemd, readable lines elsewhere.

use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// What is logged when neither the command line nor `RUST_LOG` says otherwise. librdkafka and the OPC UA library repeat at warning level
/// what our own code tells once, in plain words.
const DEFAULT_FILTER: &str = "info,opcua=error,async_opcua=error,rdkafka=error,librdkafka=error,async_nats=warn";

/// The logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("the log filter {0:?} cannot be read; examples: info, debug, info,edge_mirror=debug")]
    Filter(String, #[source] tracing_subscriber::filter::ParseError),
    /// Something else in this process set up logging before.
    #[error("logging was set up twice")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Starts logging for this process. `filter` is what the user asked for, e.g. `debug`; panics are logged like errors.
pub fn init(filter: Option<&str>) -> Result<(), Error> {
    let filter = filter.map(str::to_owned).or_else(|| std::env::var("RUST_LOG").ok()).unwrap_or_else(|| DEFAULT_FILTER.into());
    let directives = EnvFilter::try_new(&filter).map_err(|source| Error::Filter(filter, source))?;
    let layer = match journal() {
        // Fields go in under their own upper-case names: DEVICE=, ASSET=.
        Some(journal) => journal.with_field_prefix(None).boxed(),
        None => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
    };
    tracing_subscriber::registry().with(directives).with(layer).try_init().map_err(Error::Twice)?;
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!(panic = %panic, "a task panicked; please report this");
        default(panic);
    }));
    Ok(())
}

/// The journal, if stderr is connected to it: systemd tells its device and inode in `JOURNAL_STREAM`, so that a shell started below a
/// service is not mistaken for one.
fn journal() -> Option<tracing_journald::Layer> {
    let told = std::env::var("JOURNAL_STREAM").ok()?;
    let (device, inode) = told.split_once(':')?;
    let stderr = std::fs::metadata("/proc/self/fd/2").ok()?;
    let is_journal = device.parse() == Ok(stderr.dev()) && inode.parse() == Ok(stderr.ino());
    is_journal.then(tracing_journald::layer)?.ok()
}
