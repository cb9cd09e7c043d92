//! `with-kafka COMMAND…`: runs a command while a real Kafka runs, whose address it gets in `OPENFACTORY_KAFKA`; ends with its exit code.

use std::process::{Command, ExitCode};

use anyhow::Context as _;
use system_tests::kafka::Kafka;

fn main() -> anyhow::Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().context("usage: with-kafka COMMAND [ARGUMENT…]")?;
    let kafka = Kafka::start()?;
    let status = Command::new(&program).args(words).env("OPENFACTORY_KAFKA", kafka.bootstrap()).status();
    let status = status.with_context(|| format!("cannot start {}", program.to_string_lossy()))?;
    // A command that a signal ended gives no code.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
