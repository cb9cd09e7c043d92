//! The local socket: `status`, `tail` and `reload` ask here. Only users that may write to the socket file get an answer.
//!
//! One JSON line asks, JSON lines answer: `{"status":{}}` and `{"reload":{}}` get one line, `{"tail":{"assets":[],"last":0}}` one for each durable event
//! until the client hangs up. Every client has its own reader of the log; a slow one holds up nobody.

use std::collections::VecDeque;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use edge_buffer::{Log, Read, Stored};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::look_back;
use crate::reload::Reloads;
use crate::status::Sources;

/// A request line longer than this is no request.
const LONGEST_REQUEST: u64 = 64 * 1024;
/// Clients at the same time; a monitoring script gone wild must not take all file descriptors.
const CLIENTS: usize = 32;
/// Of them, so many may follow the events: whoever does not read keeps his place, and must not keep others from asking.
const FOLLOWERS: usize = 16;
/// How long a client may take to ask, and the daemon to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// `tail` looks back over at most so many events for the last ones of its assets.
const LOOK_BACK: u64 = 1_000_000;

/// What a client may ask.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// The picture of the edge.
    Status {},
    /// Read the config again.
    Reload {},
    /// Durable events, live.
    Tail {
        /// Only these assets; empty: all.
        assets: Vec<String>,
        /// Start with this many events that the log holds already.
        last: u64,
    },
}

/// One event as `tail` prints it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TailLine {
    pub(crate) asset: String,
    pub(crate) seq: u64,
    pub(crate) asset_seq: u64,
    /// The record's value, byte for byte.
    pub(crate) event: Box<RawValue>,
}

/// Removes the socket file when the daemon stops.
pub(crate) struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Listener {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

/// Binds the socket; a file left by a crash is replaced, one that answers is not.
pub(crate) async fn bind(path: &Path) -> anyhow::Result<Listener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("the folder of the socket, {}, cannot be made", folder.display()))?;
    }
    if UnixStream::connect(path).await.is_ok() {
        bail!("another openfactory-edge answers at {}; stop it first, or set edge.socket", path.display());
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            bail!("{} is there and is no socket; set edge.socket to another place", path.display())
        }
        Ok(_) => std::fs::remove_file(path).with_context(|| format!("the old socket {} cannot be removed", path.display()))?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("the socket {} cannot be made", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).context("the socket's permissions cannot be set")?;
    Ok(Listener { listener, path: path.to_owned() })
}

/// Answers clients until `stop`.
pub(crate) async fn serve(listener: Listener, sources: Arc<Sources>, reloads: Reloads, stop: CancellationToken) {
    let (places, followers) = (Arc::new(Semaphore::new(CLIENTS)), Arc::new(Semaphore::new(FOLLOWERS)));
    let mut clients = tokio::task::JoinSet::new();
    loop {
        let place = tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = clients.join_next() => continue,
            place = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.listener.accept() => accepted,
        };
        match accepted {
            Ok((client, _)) => {
                let (sources, reloads, followers, stop) = (sources.clone(), reloads.clone(), followers.clone(), stop.clone());
                clients.spawn(async move {
                    if let Err(error) = answer(client, sources, reloads, &followers, stop).await {
                        debug!("a local client went away: {error:#}");
                    }
                    drop(place);
                });
            }
            // Out of file descriptors: the next try must not come at once.
            Err(error) => {
                debug!(%error, "a local client could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(
    client: UnixStream,
    sources: Arc<Sources>,
    reloads: Reloads,
    followers: &Semaphore,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (mut read, mut write) = client.into_split();
    let mut line = String::new();
    let mut request = BufReader::new((&mut read).take(LONGEST_REQUEST));
    tokio::time::timeout(PATIENCE, request.read_line(&mut line)).await.context("no request came")??;
    match serde_json::from_str(&line) {
        Ok(Request::Status {}) => {
            // The log looks at its files for it.
            let status = tokio::task::spawn_blocking(move || sources.status()).await?;
            let mut answer = serde_json::to_vec(&status)?;
            answer.push(b'\n');
            write.write_all(&answer).await?;
        }
        Ok(Request::Reload {}) => {
            let (reply, answer) = oneshot::channel();
            reloads.send(reply).await.context("the edge is stopping")?;
            let mut answer = serde_json::to_vec(&answer.await.context("the edge is stopping")?)?;
            answer.push(b'\n');
            write.write_all(&answer).await?;
        }
        Ok(Request::Tail { assets, last }) => {
            let Ok(_place) = followers.try_acquire() else {
                let told = format!("{FOLLOWERS} clients follow the events already: end one of them");
                write.write_all(format!("{{\"error\":{}}}\n", serde_json::to_string(&told)?).as_bytes()).await?;
                return Ok(());
            };
            let (tx, mut rx) = mpsc::channel::<Vec<u8>>(16);
            let log = sources.log.clone();
            // The log is read by blocking calls; the thread ends when the client's end of the channel is gone.
            let follower = tokio::task::spawn_blocking(move || follow(&log, &assets, last, &tx, &stop));
            let mut hung_up = [0];
            loop {
                tokio::select! {
                    lines = rx.recv() => match lines {
                        Some(lines) => write.write_all(&lines).await?,
                        None => break,
                    },
                    // A client has nothing more to say: whatever comes is its end.
                    _ = read.read(&mut hung_up) => break,
                }
            }
            drop(rx);
            follower.await??;
        }
        Err(error) => write.write_all(format!("{{\"error\":{}}}\n", serde_json::to_string(&error.to_string())?).as_bytes()).await?,
    }
    Ok(())
}

fn follow(log: &Log, assets: &[String], last: u64, tx: &mpsc::Sender<Vec<u8>>, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut reader = log.reader(start(log, assets, last)?);
    while !stop.is_cancelled() && !tx.is_closed() {
        let block = reader.next_block(500)?;
        if block.is_empty() {
            log.wait_durable(reader.position(), Duration::from_millis(200));
            continue;
        }
        let mut lines = Vec::new();
        for read in block {
            if let Read::Entry(stored) = read
                && is_wanted(assets, &stored)
            {
                write_line(&stored, &mut lines)?;
            }
        }
        if !lines.is_empty() && tx.blocking_send(lines).is_err() {
            break;
        }
    }
    Ok(())
}

fn is_wanted(assets: &[String], stored: &Stored) -> bool {
    assets.is_empty() || assets.iter().any(|asset| **asset == *stored.key)
}

/// The sequence behind which the `last` events of the assets stand, as far as they are found.
fn start(log: &Log, assets: &[String], last: u64) -> anyhow::Result<u64> {
    let end = log.durable();
    if assets.is_empty() || last == 0 {
        return Ok(end.saturating_sub(last));
    }
    let mut back = last;
    loop {
        back = back.saturating_mul(16).min(LOOK_BACK).min(end);
        let mut found = VecDeque::new();
        look_back::entries(log, back, |stored| {
            if is_wanted(assets, &stored) {
                found.push_back(stored.sequence);
                if found.len() as u64 > last {
                    found.pop_front();
                }
            }
        })?;
        if found.len() as u64 == last || back == end || back == LOOK_BACK {
            return Ok(found.front().map_or(end, |first| first - 1));
        }
    }
}

fn write_line(stored: &Stored, lines: &mut Vec<u8>) -> anyhow::Result<()> {
    let event = RawValue::from_string(String::from_utf8_lossy(&stored.value).into_owned())?;
    let line = TailLine { asset: stored.key.to_string(), seq: stored.sequence, asset_seq: stored.key_sequence, event };
    serde_json::to_writer(&mut *lines, &line)?;
    lines.push(b'\n');
    Ok(())
}

/// Asks the running daemon; the answer is read line by line.
pub(crate) fn ask(socket: &Path, request: &Request) -> anyhow::Result<std::io::BufReader<std::os::unix::net::UnixStream>> {
    use std::io::Write;
    let mut stream = std::os::unix::net::UnixStream::connect(socket).map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "run this as root, or as a member of the group openfactory-edge: adduser USER openfactory-edge"
            }
            _ => "is it running? systemctl status openfactory-edge",
        };
        anyhow::anyhow!("the edge does not answer at {}: {error}; {advice}", socket.display())
    })?;
    if matches!(request, Request::Status {}) {
        stream.set_read_timeout(Some(PATIENCE))?;
    }
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(std::io::BufReader::new(stream))
}
