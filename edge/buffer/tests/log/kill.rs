//! SIGKILL, for real: a process that appends is killed again and again, and the next one finds all it had said was durable.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use edge_buffer::{Appended, Config, Entry, Log, Read, open};

const DIR: &str = "EDGE_BUFFER_KILL_DIR";

/// Kills the process when the test ends, however it ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn config(dir: PathBuf) -> Config {
    Config {
        dir,
        segment_bytes: 64 << 10,
        max_bytes: 64 << 20,
        block_bytes: 4 << 10,
        min_free: 0,
        linger: Duration::from_micros(200),
        ..Config::default()
    }
}

fn entry(sequence: u64) -> Entry {
    let value = format!("{sequence} {}", "x".repeat(sequence as usize % 300)).into_bytes();
    Entry { key: format!("asset-{}", sequence % 17).into(), timestamp: sequence as i64, value }
}

fn check(log: &Log) {
    let (mut reader, mut next) = (log.reader(0), 1);
    loop {
        let block = reader.next_block(1000).expect("readable");
        if block.is_empty() {
            break;
        }
        for read in block {
            let Read::Entry(stored) = read else { panic!("lost: {read:?}") };
            let expected = entry(next);
            assert_eq!((stored.sequence, &stored.key, &stored.value[..]), (next, &expected.key, &expected.value[..]));
            next += 1;
        }
    }
    assert_eq!(next, log.durable() + 1);
}

#[test]
fn a_process_that_is_killed_leaves_all_that_it_said_was_durable() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut said = 0;
    for round in 0..12 {
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "kill::the_process_that_is_killed", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut child = Killed(child);
        let lines = BufReader::new(child.0.stdout.take().expect("its output")).lines();
        let told = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("durable ")?.parse::<u64>().ok());
        // At another place each time.
        said = told.take(3 + round * 17 % 40).last().expect("something durable");
        drop(child);
        let opened = open(config(dir.path().to_owned())).expect("the log opens");
        assert_eq!(opened.recovery.losses, [], "{:?}", opened.recovery);
        assert!(opened.log.durable() >= said, "{said} was durable, {} is", opened.log.durable());
        check(&opened.log);
        // A kill leaves nothing half: the kernel has all that was written.
        opened.log.close().expect("closed");
    }
    assert!(said > 100, "only {said} entries");
}

#[test]
#[ignore = "started by the test above, to be killed"]
fn the_process_that_is_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let log = open(config(dir.into())).expect("the log").log;
    loop {
        let first = log.durable() + 1;
        let size = 1 + first % 60;
        match log.append_durable((first..first + size).map(entry).collect()) {
            Ok(Appended::Durable { last, .. }) => println!("durable {last}"),
            other => panic!("not durable: {other:?}"),
        }
    }
}
