//! Logs: structured fields into the journal under systemd, readable lines elsewhere.

use std::fmt::{self, Debug};
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Deserializer, de::Error as _};
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::journal::Journal;

/// What is logged unless the config or `RUST_LOG` says otherwise about a part: their directives come on top. librdkafka and the OPC UA
/// library repeat at warning level what our own code tells once, in plain words.
const BASE: &str = "info,opcua=error,async_opcua=error,rdkafka=error,librdkafka=error,async_nats=warn";

/// The logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("the log filter {0:?} cannot be read; examples: \"debug\", \"warn,edge_mirror=debug\"")]
    Filter(String),
    /// Something else in this process set up logging before.
    #[error("logging was set up twice")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// For `#[serde(default, deserialize_with = "service::logging::filter")]`: a filter that [`init`] takes.
pub fn filter<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let filter = String::deserialize(from)?;
    directives(&filter).map_err(D::Error::custom)?;
    Ok(Some(filter))
}

fn directives(filter: &str) -> Result<EnvFilter, Error> {
    let is_word = |part: &str| part.chars().all(|c| c.is_alphanumeric() || c == '_');
    // The library takes a word that is no level for the name of a part, so that "debgu" would mean nothing at all.
    let has_typo = filter.split(',').map(str::trim).any(|part| is_word(part) && part.parse::<LevelFilter>().is_err());
    let directives = EnvFilter::try_new(format!("{BASE},{filter}"));
    directives.ok().filter(|_| !has_typo).ok_or_else(|| Error::Filter(filter.to_owned()))
}

/// Logging at work: what is logged can be changed.
#[derive(Clone, Debug)]
pub struct Logging(reload::Handle<EnvFilter, Registry>);

impl Logging {
    /// From now on this is logged; `None`: what is logged unless somebody asks for more.
    pub fn set(&self, filter: Option<&str>) -> Result<(), Error> {
        // It fails only where logging has ended with the process.
        self.0.reload(wanted(filter)?).ok();
        Ok(())
    }
}

fn wanted(filter: Option<&str>) -> Result<EnvFilter, Error> {
    let filter = filter.map(str::to_owned).or_else(|| std::env::var("RUST_LOG").ok()).unwrap_or_else(|| "info".into());
    directives(&filter)
}

/// Starts logging for this process. `filter` is what the user asked for, e.g. `debug`; panics are logged like errors.
pub fn init(filter: Option<&str>) -> Result<Logging, Error> {
    let (directives, logging) = reload::Layer::new(wanted(filter)?);
    let layer = match stderr_is_the_journal() {
        true => Journal::new().boxed(),
        false => tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .fmt_fields(debug_fn(write_field).delimited(" "))
            .boxed(),
    };
    tracing_subscriber::registry().with(directives).with(layer).try_init().map_err(Error::Twice)?;
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!(panic = %panic, "a task panicked; please report this");
        default(panic);
    }));
    Ok(Logging(logging))
}

/// A field on a line that a person reads: without the id by which the journal's catalog explains the message.
fn write_field(out: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(out, "{value:?}"),
        "message_id" => Ok(()),
        name => write!(out, "{name}={value:?}"),
    }
}

/// The journal, if stderr is connected to it: systemd tells its device and inode in `JOURNAL_STREAM`, so that a shell started below a
/// service is not mistaken for one.
fn stderr_is_the_journal() -> bool {
    let told = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let Some((device, inode)) = told.split_once(':') else { return false };
    let stderr = std::fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|stderr| device.parse() == Ok(stderr.dev()) && inode.parse() == Ok(stderr.ino()))
}

#[cfg(test)]
mod tests {
    use super::directives;

    fn is_logged(filter: &str) -> String {
        directives(filter).expect("a good filter").to_string()
    }

    #[test]
    fn a_filter_comes_on_top_of_what_keeps_libraries_quiet() {
        let quiet = "opcua=error,async_opcua=error,rdkafka=error,librdkafka=error,async_nats=warn";
        let of = |filter: &str| is_logged(filter).split(',').map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(of("debug"), format!("{quiet},debug").split(',').map(str::to_owned).collect());
        assert_eq!(of("edge_mirror=debug"), format!("{quiet},info,edge_mirror=debug").split(',').map(str::to_owned).collect());
        assert!(of("rdkafka=debug").contains("rdkafka=debug") && !of("rdkafka=debug").contains("rdkafka=error"));
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_told_with_examples() {
        for filter in ["debgu", "info,edge_mirror=loud"] {
            let told = directives(filter).expect_err("a bad filter").to_string();
            assert!(told.contains(&format!("{filter:?}")) && told.contains("examples"), "{told}");
        }
    }
}
