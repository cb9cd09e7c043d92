//! Where the programs are that tests start: `./dev` installs them and says so in the environment.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// Says that a test is skipped, past the harness, which shows the output of tests only if they fail.
pub fn skipped(why: &str) {
    // A closed stderr changes nothing.
    writeln!(std::io::stderr(), "skipped: {why}").unwrap_or_default();
}

/// Folder of Apache Kafka's jars (`OPENFACTORY_KAFKA_LIB`).
pub fn kafka_lib() -> anyhow::Result<PathBuf> {
    from_environment("OPENFACTORY_KAFKA_LIB")
}

/// The same of Apache Kafka 3.7.1 (`OPENFACTORY_KAFKA_LIB_3_7`).
pub fn kafka_lib_3_7() -> anyhow::Result<PathBuf> {
    from_environment("OPENFACTORY_KAFKA_LIB_3_7")
}

/// Debian's NATS server (`OPENFACTORY_NATS_SERVER`).
pub fn nats_server() -> anyhow::Result<PathBuf> {
    from_environment("OPENFACTORY_NATS_SERVER")
}

/// The newest NATS server (`OPENFACTORY_NATS_SERVER_NEW`); `None`, and a word that the test is skipped, where `./dev` found nothing to build it with.
pub fn newest_nats_server() -> anyhow::Result<Option<PathBuf>> {
    let variable = "OPENFACTORY_NATS_SERVER_NEW";
    if std::env::var_os(variable).is_none() {
        skipped(&format!("{variable} is not set; ./dev sets it where there is a Go of 1.21 or newer"));
        return Ok(None);
    }
    from_environment(variable).map(Some)
}

/// An unpacked Debian 12 (`OPENFACTORY_DEBIAN`) and the apt repository of our packages (`OPENFACTORY_PACKAGES`); `None`, and a word that the test is
/// skipped, where `./dev` has made neither.
pub fn debian_and_packages() -> anyhow::Result<Option<(PathBuf, PathBuf)>> {
    if std::env::var_os("OPENFACTORY_DEBIAN").is_none() {
        skipped("OPENFACTORY_DEBIAN is not set; ./dev test sets it where it runs as root on Debian");
        return Ok(None);
    }
    Ok(Some((from_environment("OPENFACTORY_DEBIAN")?, from_environment("OPENFACTORY_PACKAGES")?)))
}

/// A Python that has asyncua and pymodbus (`OPENFACTORY_PYTHON`).
pub fn python() -> anyhow::Result<PathBuf> {
    from_environment("OPENFACTORY_PYTHON")
}

/// A Kafka that runs already and is shared by all tests of a run (`OPENFACTORY_KAFKA`: `host:port`).
pub fn shared_kafka() -> Option<String> {
    std::env::var("OPENFACTORY_KAFKA").ok()
}

/// The folder of this crate: simulators stand in it.
pub fn tests_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program of this workspace, e.g. `openfactory-edge`, from the build that this test belongs to.
pub fn built(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this process does not know its own file")?;
    // target/<profile>/demo, or target/<profile>/deps/main_path-….
    let folder = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).context("this program stands in no folder")?;
    let program = folder.join(name);
    ensure!(program.is_file(), "{} is not built: run `cargo build --workspace` first, or let ./dev do it", program.display());
    Ok(program)
}

fn from_environment(variable: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("{variable} is not set: run ./dev test, or type `eval \"$(./dev env)\"` before cargo test"))?;
    ensure!(path.exists(), "{variable} names {}, which does not exist: run ./dev tools", path.display());
    Ok(path)
}
