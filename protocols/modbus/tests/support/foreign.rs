//! The device made of pymodbus, as a child process.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// The Python that has pymodbus. `None`: tests with it are to be skipped, by the wish of whoever runs them.
pub fn python() -> Option<PathBuf> {
    if std::env::var_os("OPENFACTORY_SKIP_SERVERS").is_some_and(|wish| wish == "1") {
        println!("skipped: OPENFACTORY_SKIP_SERVERS=1");
        return None;
    }
    let python = std::env::var_os("OPENFACTORY_PYTHON").map(PathBuf::from);
    assert!(
        python.is_some(),
        "OPENFACTORY_PYTHON is not set to a Python that has pymodbus: type `eval \"$(./dev env)\"`, or set OPENFACTORY_SKIP_SERVERS=1 to go without these tests"
    );
    python
}

/// A running device; killed when dropped.
pub struct Foreign {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Its port, or the path of its serial line.
    pub place: String,
}

impl Foreign {
    /// Starts a device and waits until it listens.
    pub async fn start(python: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server.py"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("OPENFACTORY_PYTHON can be run");
        let input = child.stdin.take().expect("piped");
        let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = line(&mut output).await;
        let place = ready.strip_prefix("ready ").expect("the device says `ready <place>`").to_owned();
        Self { _child: child, input, output, place }
    }

    /// Gives a command and waits for its answer.
    pub async fn tell(&mut self, command: &str) -> String {
        self.input.write_all(format!("{command}\n").as_bytes()).await.expect("the device runs");
        line(&mut self.output).await
    }
}

async fn line(output: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = timeout(super::PATIENCE, output.next_line()).await.expect("the device answers");
    line.expect("its output is text").expect("the device is still running (its errors stand above)")
}
