//! The Python server as a child process.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    pub port: u16,
}

/// What a server tells about itself.
#[derive(Debug)]
pub struct Stats {
    pub subscriptions: u32,
    pub logins: u32,
    pub largest_create: u32,
    pub refused: u32,
    pub count: i64,
}

impl Server {
    /// Starts a server and waits until it listens.
    pub async fn start(python: &Path, arguments: &[&str]) -> Self {
        Self::start_script(python, "server.py", arguments).await
    }

    /// As [`Self::start`], with another script of this folder.
    pub async fn start_script(python: &Path, script: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(python)
            .arg(super::folder().join(script))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("OPENFACTORY_PYTHON can be run");
        let input = child.stdin.take().expect("piped");
        let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = line(&mut output).await;
        let port = ready.strip_prefix("ready ").and_then(|port| port.parse().ok()).expect("the server says `ready <port>`");
        Self { child, input, output, port }
    }

    /// Gives a command and waits for its answer.
    pub async fn tell(&mut self, command: &str) -> String {
        self.input.write_all(format!("{command}\n").as_bytes()).await.expect("the server runs");
        line(&mut self.output).await
    }

    pub async fn stats(&mut self) -> Stats {
        let answer = self.tell("stats").await;
        let numbers: Vec<i64> = answer.split(' ').map(|n| n.parse().expect("a number")).collect();
        let small = |at: usize| u32::try_from(numbers[at]).expect("small");
        Stats { subscriptions: small(0), logins: small(1), largest_create: small(2), refused: small(3), count: numbers[4] }
    }

    /// Waits until the counters have come to `count`.
    pub async fn reach(&mut self, count: i64) {
        self.tell(&format!("reach {count}")).await;
    }

    /// Waits until the server was asked to read something so many more times; a keep-alive is such a question.
    pub async fn be_read(&mut self, times: u32) {
        self.tell(&format!("be-read {times}")).await;
    }

    /// Ends it without a word, as a power cut would.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it was running");
    }
}

async fn line(output: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = timeout(Duration::from_secs(60), output.next_line()).await.expect("the server answers within a minute");
    line.expect("its output is text").expect("the server is still running (its errors stand above)")
}
