//! How fast it is, measured by hand:
//! `OPENFACTORY_OPCUA_SIMULATOR=target/debug/opcua-simulator cargo test -p gateway-opcua --test rate -- --ignored --nocapture`

mod support;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{Edge, wait_until};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

const VARIABLES: usize = 10_000;
const RATE: usize = 100_000;
const SECONDS: u64 = 20;

/// Processor seconds of this process so far.
fn used() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // User and system time, in hundredths of a second.
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("a number") / 100.0).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement; needs the simulator's binary and a machine that does nothing else"]
async fn a_hundred_thousand_changes_a_second_arrive_complete() {
    let simulator = std::env::var_os("OPENFACTORY_OPCUA_SIMULATOR").expect("the path of the simulator's binary");
    let folder = tempfile::tempdir().expect("a folder");
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port").local_addr().expect("bound").port();
    let mut child = Command::new(simulator)
        .args(["--port", &free.to_string(), "--variables", &VARIABLES.to_string(), "--rate", &RATE.to_string(), "--journal"])
        .arg(folder.path().join("journal"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the simulator runs");
    let mut input = child.stdin.take().expect("piped");
    let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
    output.next_line().await.expect("text").expect("ready");
    let mut yaml = format!("server: {{uri: 'opc.tcp://127.0.0.1:{free}/', subscription: {{queue_size: 50}}}}\nvariables:\n");
    for i in 0..VARIABLES {
        yaml += &format!("  t{i}: {{node_id: 'ns=2;s=OPCUA-001.t{i}'}}\n");
    }
    let started = Instant::now();
    let edge = Edge::start_counting(&yaml);
    let count = |least: u64| {
        let edge = &edge;
        move || match edge.status.samples() {
            n if n >= least => Ok(()),
            n => Err((n, edge.status.last_error())),
        }
    };
    // One more: `avail`.
    wait_until("the first values", Duration::from_secs(60), count(VARIABLES as u64 + 1)).await;
    println!("10,000 first values after {:?}", started.elapsed());
    let (since, before) = (Instant::now(), used());
    input.write_all(b"go\n").await.expect("it runs");
    output.next_line().await.expect("text").expect("an answer");
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    input.write_all(b"pause\n").await.expect("it runs");
    let answer = output.next_line().await.expect("text").expect("an answer");
    let said = answer.split("\"said\":").nth(1).and_then(|t| t.trim_end_matches('}').parse::<u64>().ok()).expect("a count");
    wait_until("all values", Duration::from_secs(60), count(said + 1)).await;
    let (took, cpu) = (since.elapsed().as_secs_f64(), used() - before);
    println!("{said} values, {:.0}/s, {:.1} % of a core, gaps {}", said as f64 / took, 100.0 * cpu / took, edge.status.gaps());
    assert_eq!((edge.status.samples(), edge.status.gaps()), (said + 1, 0));
}
