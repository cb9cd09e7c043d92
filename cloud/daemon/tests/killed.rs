//! `openfactory-cloud forward` killed with SIGKILL under load. Needs OPENFACTORY_KAFKA (host:port) and OPENFACTORY_NATS_SERVER (a path).

#[path = "../../forwarder/tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Edge, Nats, STREAM, harm, make_topic, servers, unique, wait_until};

/// What the issue asks for; brokers let a vanished member go after 6 s at the earliest, unless configured otherwise.
const BACK: Duration = Duration::from_secs(6);

struct Daemon(Child);

impl Daemon {
    fn start(config: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_openfactory-cloud"))
            .args(["forward", "--config"])
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the daemon starts");
        Self(child)
    }

    fn kill(&mut self) {
        self.0.kill().expect("our own child");
        self.0.wait().expect("our own child");
    }

    /// SIGTERM, as systemd does; the exit code.
    fn stop(mut self) -> Option<i32> {
        // The shell's own: a small system has no program of that name.
        let killed = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.0.id())]).status().expect("a shell");
        assert!(killed.success());
        self.0.wait().expect("our own child").code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already gone after kill() and stop().
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn config(folder: &Path, kafka: &str, nats: &Nats, topic: &str, instance: &str) -> std::path::PathBuf {
    let file = folder.join(format!("{instance}.toml"));
    let text = format!(
        "[kafka]\nbrokers = [\"{kafka}\"]\n[nats.C1]\nurls = [\"{}\"]\n[forward]\ngroup = \"group-{topic}\"\ninstance = \"{instance}\"\n\
         dead_letter_topic = \"{topic}-dead\"\n[forward.routes.\"{topic}\"]\nstream = {{name = \"{STREAM}\", max_bytes = \"1 GiB\"}}\n",
        nats.url()
    );
    std::fs::write(&file, text).expect("temp file");
    file
}

fn write(edge: &mut Edge, events: usize) {
    for n in 0..events {
        edge.write(&format!("ASSET-{}", n % 60), ["temp", "speed", "load"][n % 3]);
    }
    edge.flush();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_forwarder_that_is_started_again_goes_on_within_seconds_and_repeats_nothing() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic, folder) = (Nats::start(&program), unique("killed"), tempfile::tempdir().expect("temp folder"));
    make_topic(&kafka, &topic, 3).await;
    let config = config(folder.path(), &kafka, &nats, &topic, "forwarder-1");
    let mut edge = Edge::new(&kafka, &topic);
    let mut daemon = Daemon::start(&config);
    for round in 0..6 {
        let before = nats.count(STREAM).await;
        write(&mut edge, 6_000);
        wait_until("it is at work", async || nats.count(STREAM).await, |count| *count > before + 300).await;
        daemon.kill();
        let (killed, left) = (Instant::now(), nats.count(STREAM).await);
        daemon = Daemon::start(&config);
        wait_until("it goes on", async || nats.count(STREAM).await, |count| *count > left).await;
        println!("round {round}: went on {:?} after kill -9", killed.elapsed());
        assert!(killed.elapsed() < BACK, "it took {:?}", killed.elapsed());
    }
    let written: u64 = edge.written().values().sum();
    wait_until("all are there", async || nats.count(STREAM).await, |count| *count >= written).await;
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(harm(&nats.stream(STREAM).await, edge.written()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_forwarder_takes_over_from_one_that_was_killed() {
    let Some((kafka, program)) = servers() else { return };
    let (nats, topic, folder) = (Nats::start(&program), unique("takeover"), tempfile::tempdir().expect("temp folder"));
    make_topic(&kafka, &topic, 4).await;
    let one = config(folder.path(), &kafka, &nats, &topic, "forwarder-1");
    let two = config(folder.path(), &kafka, &nats, &topic, "forwarder-2");
    let mut edge = Edge::new(&kafka, &topic);
    let mut first = Daemon::start(&one);
    write(&mut edge, 20_000);
    wait_until("the first is at work", async || nats.count(STREAM).await, |count| *count > 500).await;
    // Joins under load: partitions move.
    let second = Daemon::start(&two);
    let total = 20_000;
    wait_until("all are there", async || nats.count(STREAM).await, |count| *count >= total).await;
    write(&mut edge, 20_000);
    wait_until("both are at work", async || nats.count(STREAM).await, |count| *count > total + 500).await;
    first.kill();
    let killed = Instant::now();
    let total = 40_000;
    wait_until("all are there", async || nats.count(STREAM).await, |count| *count >= total).await;
    println!("everything was taken over {:?} after kill -9", killed.elapsed());
    assert_eq!(second.stop(), Some(0));
    assert_eq!(harm(&nats.stream(STREAM).await, edge.written()), Vec::<String>::new());
}
