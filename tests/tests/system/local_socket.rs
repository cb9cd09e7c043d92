//! Whoever asks the running edge gets an answer, whatever others do at its socket.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use system_tests::edge::{Edge, Settings};
use system_tests::wait::{self, Look};

#[test]
fn clients_that_follow_the_events_and_do_not_read_keep_nobody_from_asking() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut edge = Edge::new(folder.path(), &Settings { id: "asked".into(), kafka: None, topic: "none".into(), more: String::new() })?;
    edge.start()?;
    edge.wait_status("the edge answers", Duration::from_secs(60), |status| status["started"].is_string())?;
    let socket = edge.config().with_file_name("edge.sock");
    let follow = || -> anyhow::Result<UnixStream> {
        let mut client = UnixStream::connect(&socket)?;
        client.write_all(b"{\"tail\":{\"assets\":[],\"last\":0}}\n")?;
        client.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(client)
    };
    let mut followers = Vec::new();
    // One of them is told that there is no place any more.
    wait::until("a follower is refused", Duration::from_secs(60), || {
        followers.push(follow()?);
        let mut told = String::new();
        for client in &mut followers {
            client.set_nonblocking(true)?;
            client.read_to_string(&mut told).ok();
        }
        Ok(if told.contains("clients follow the events already") {
            Look::Done(())
        } else {
            Look::Waiting(format!("{} follow", followers.len()))
        })
    })?;
    assert!(edge.status()?["started"].is_string());
    let (code, said, error) = edge.command(&["reload"])?;
    assert_eq!((code, said.trim()), (Some(0), "nothing has changed"), "{error}");
    drop(followers);
    edge.stop()
}
