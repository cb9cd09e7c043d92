//! Child processes that cannot outlive their owner.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal};

use crate::wait::{self, Look};

/// A child process in a group of its own. Dropping it kills the group; if this process dies, or the thread that started the child ends, the kernel kills the child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` with `arguments`; what it prints is appended to the file `log`.
    pub fn start(name: &str, program: &Path, arguments: &[String], environment: &[(&str, String)], log: &Path) -> anyhow::Result<Self> {
        let mut command = command(program, arguments, environment);
        command.stdout(appended(log)?);
        Self::spawn(name, command, log, Stdio::null())
    }

    fn spawn(name: &str, mut command: Command, log: &Path, stdin: Stdio) -> anyhow::Result<Self> {
        let child = command.stdin(stdin).stderr(appended(log)?).spawn().with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory that it has now (resident set).
    pub fn memory(&self) -> anyhow::Result<u64> {
        self.bytes_of("VmRSS:")
    }

    /// The most bytes of memory that it has had (resident set).
    pub fn peak_memory(&self) -> anyhow::Result<u64> {
        self.bytes_of("VmHWM:")
    }

    fn bytes_of(&self, field: &str) -> anyhow::Result<u64> {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.id())).with_context(|| format!("{} does not run", self.name))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("the kernel tells no {field}"))?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().with_context(|| format!("{field} is no number"))?;
        Ok(kibibytes << 10)
    }

    /// The file with everything it printed.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot ask after {}", self.name))
    }

    /// An error with the end of its log if it has ended.
    pub fn expect_alive(&mut self) -> anyhow::Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}); the end of {}:\n{}", self.name, self.log.display(), self.log_tail()),
        }
    }

    /// Waits until its log holds `text`; an error if it ends before.
    pub fn wait_for_log(&mut self, text: &str, max: Duration) -> anyhow::Result<()> {
        let what = format!("{} says {text:?}", self.name);
        wait::until(&what, max, || {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            if log.contains(text) {
                return Ok(Look::Done(()));
            }
            self.expect_alive()?;
            Ok(Look::Waiting(log.lines().last().unwrap_or("it said nothing").to_owned()))
        })
    }

    /// The last lines of its log, for error messages.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// SIGKILL for the whole group; returns when it is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if self.ended()?.is_none() {
            self.signal(Signal::KILL)?;
            self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        }
        Ok(())
    }

    /// SIGTERM, then waits; an error if it has not ended after `max`.
    pub fn terminate(&mut self, max: Duration) -> anyhow::Result<ExitStatus> {
        if self.ended()?.is_none() {
            self.signal(Signal::TERM)?;
        }
        self.wait_ended(max)
    }

    /// Waits for its end.
    pub fn wait_ended(&mut self, max: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + max;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "{} did not end within {max:?}; the end of its log:\n{}", self.name, self.log_tail());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Any signal, for the whole group.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("the process id is no number of the kernel's")?;
        rustix::process::kill_process_group(id, signal).with_context(|| format!("cannot signal {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{} may still run: {error:#}", self.name);
        }
    }
}

/// A child that is told what to do on its stdin, a word a line, and answers on its stdout, a JSON object a line.
#[derive(Debug)]
pub struct Talking {
    process: Process,
    stdin: ChildStdin,
    lines: mpsc::Receiver<serde_json::Value>,
}

impl Talking {
    /// Starts it and waits for its first line; returns that too.
    pub fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &[(&str, String)],
        log: &Path,
        max: Duration,
    ) -> anyhow::Result<(Self, serde_json::Value)> {
        let mut command = command(program, arguments, environment);
        command.stdout(Stdio::piped());
        let mut process = Process::spawn(name, command, log, Stdio::piped())?;
        let stdin = process.child.stdin.take().context("no stdin")?;
        let stdout = process.child.stdout.take().context("no stdout")?;
        let (sender, lines) = mpsc::sync_channel(1024);
        // Ends with the child's stdout.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(json) = serde_json::from_str(&line) else { continue };
                if sender.send(json).is_err() {
                    break;
                }
            }
        });
        let mut talking = Self { process, stdin, lines };
        let first = talking.answer("be ready", max)?;
        Ok((talking, first))
    }

    /// Says `word` and waits for the answer.
    pub fn say(&mut self, word: &str, max: Duration) -> anyhow::Result<serde_json::Value> {
        writeln!(self.stdin, "{word}")
            .and_then(|()| self.stdin.flush())
            .with_context(|| format!("{} does not listen", self.process.name))?;
        self.answer(word, max)
    }

    /// The process itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn answer(&mut self, word: &str, max: Duration) -> anyhow::Result<serde_json::Value> {
        self.lines.recv_timeout(max).map_err(|_| {
            anyhow::anyhow!(
                "{} did not answer {word:?} within {max:?}; the end of its log:\n{}",
                self.process.name,
                self.process.log_tail()
            )
        })
    }
}

fn appended(log: &Path) -> anyhow::Result<File> {
    OpenOptions::new().create(true).append(true).open(log).with_context(|| format!("cannot write {}", log.display()))
}

/// `setpriv` asks the kernel to kill the child when we die, which this process cannot ask for the child without unsafe code. The shell then
/// looks whether we died before the kernel was asked, and becomes the program if not.
fn command(program: &Path, arguments: &[String], environment: &[(&str, String)]) -> Command {
    let mut command = Command::new("setpriv");
    let guard = r#"[ "$PPID" = "$0" ] && exec "$@""#;
    command
        .args(["--pdeathsig", "KILL", "--", "sh", "-c", guard])
        .arg(std::process::id().to_string())
        .arg(program)
        .args(arguments)
        .process_group(0);
    for (name, value) in environment {
        command.env(name, value);
    }
    command
}

/// Runs a program to its end; returns its exit code and what it printed (stdout, stderr).
pub fn run(program: &Path, arguments: &[&str], max: Duration) -> anyhow::Result<(Option<i32>, String, String)> {
    let folder = tempfile::tempdir()?;
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
    let mut command = command(program, &arguments, &[]);
    command.stdout(File::create(&out)?);
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut process = Process::spawn(&name, command, &err, Stdio::null())?;
    let status = process.wait_ended(max)?;
    let text = |path| anyhow::Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned());
    Ok((status.code(), text(&out)?, text(&err)?))
}
