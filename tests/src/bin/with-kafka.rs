//! `with-kafka COMMAND…`: runs a command while a real Kafka runs, whose address it gets in `OPENFACTORY_KAFKA`; ends with its exit code.
//!
//! Temporary files of the command go into a folder that is removed at the end, also after Ctrl-C.

use std::process::{Command, ExitCode};

use anyhow::Context as _;
use system_tests::kafka::Kafka;

fn main() -> anyhow::Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().context("usage: with-kafka COMMAND [ARGUMENT…]")?;
    outlive_ctrl_c()?;
    let kafka = Kafka::start()?;
    // Short: sockets below it have names of at most 107 bytes.
    let folder = tempfile::Builder::new().prefix("of-").tempdir()?;
    let mut command = Command::new(&program);
    command.args(words).env("OPENFACTORY_KAFKA", kafka.bootstrap()).env("TMPDIR", folder.path());
    let status = command.status().with_context(|| format!("cannot start {}", program.to_string_lossy()))?;
    // A command that a signal ended gives no code.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The terminal sends Ctrl-C to the command too: it ends, and we clean up.
fn outlive_ctrl_c() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || runtime.block_on(async { while tokio::signal::ctrl_c().await.is_ok() {} }));
    Ok(())
}
