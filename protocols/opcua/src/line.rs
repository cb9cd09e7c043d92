//! The line to a server: one session object of the library and the task that keeps it connected.
//!
//! The task does nothing but poll the library's event loop and note what happened in a `watch`, so nothing that the gateway does (waiting
//! for the log, a slow service call) can stop keep-alives, and a flapping server cannot fill a queue. A panic in the library ends the task
//! and is seen as [`LineState::ended`].

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use gateway::Backoff;
use opcua::client::{Session, SessionActivity, SessionEventLoop, SessionPollResult};
use opcua::types::StatusCode;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{Instrument, debug, warn};

use crate::diagnose;
use crate::transport::{Cut, DialedConnector};

/// A connection that lived shorter is not proof of anything: the next attempt waits.
const PROVEN: Duration = Duration::from_secs(5);
/// Failures to open a channel or a session, on a server that answers, after which everything is asked anew (its certificate may be another).
const PATIENCE: u32 = 3;
/// Closing waits this long for the server to hear it.
const CLOSING: Duration = Duration::from_secs(3);

/// What is known of the line.
#[derive(Clone, Debug, Default)]
pub(crate) struct LineState {
    /// A session is open and active.
    pub(crate) up: bool,
    /// How often a session was activated.
    pub(crate) connections: u64,
    /// Why the last attempt failed, or the connection was lost.
    pub(crate) trouble: Option<StatusCode>,
    /// The task gave up: a new line, with endpoints asked anew, is needed.
    pub(crate) ended: bool,
}

/// One session object and its task.
pub(crate) struct Line {
    pub(crate) session: Arc<Session>,
    state: watch::Receiver<LineState>,
    cut: Cut,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// Starts to connect. `failures` keep-alives may fail in a row before the connection counts as dead.
    pub(crate) fn start(session: Arc<Session>, events: SessionEventLoop<DialedConnector>, cut: Cut, failures: u32) -> Self {
        let (tell, state) = watch::channel(LineState::default());
        let task = tokio::spawn(poll(events, tell, cut.clone(), failures).in_current_span());
        Self { session, state, cut, task }
    }

    /// Waits for the next change and returns it.
    pub(crate) async fn changed(&mut self) -> LineState {
        match self.state.changed().await {
            Ok(()) => self.now(),
            // The task is gone without a word: it panicked.
            Err(_) => LineState { up: false, ended: true, ..self.now() },
        }
    }

    /// For others who want to know.
    pub(crate) fn watch(&self) -> watch::Receiver<LineState> {
        self.state.clone()
    }

    /// What is known now.
    pub(crate) fn now(&mut self) -> LineState {
        self.state.borrow_and_update().clone()
    }

    /// Why the task ended, if it failed in a way nobody expected.
    pub(crate) async fn failure(&mut self) -> Option<String> {
        let Ok(ended) = timeout(CLOSING, &mut self.task).await else { return None };
        ended.err().filter(|e| e.is_panic()).map(|e| format!("the OPC UA library failed: {e}"))
    }

    /// Drops the connection as if the plug was pulled; the library connects again and reactivates the session.
    pub(crate) fn cut(&self) {
        self.cut.now();
    }

    /// Closes the session, its subscriptions with it. On a dead connection nobody hears it: bounded in time.
    pub(crate) async fn close(self) {
        if timeout(CLOSING, self.session.disconnect()).await.is_err() {
            debug!("the server did not confirm the end of the session");
        }
    }
}

/// The server is not to be reached, or not yet running: the library goes on trying by itself, and the session may survive.
fn is_network(status: StatusCode) -> bool {
    [
        StatusCode::BadCommunicationError,
        StatusCode::BadConnectionClosed,
        StatusCode::BadConnectionRejected,
        StatusCode::BadDisconnect,
        StatusCode::BadNotConnected,
        StatusCode::BadRequestTimeout,
        StatusCode::BadSecureChannelClosed,
        StatusCode::BadServerHalted,
        StatusCode::BadServerNotConnected,
        StatusCode::BadShutdown,
        StatusCode::BadTcpEndpointUrlInvalid,
        StatusCode::BadTcpInternalError,
        StatusCode::BadTcpNotEnoughResources,
        StatusCode::BadTcpServerTooBusy,
        StatusCode::BadTimeout,
    ]
    .contains(&status)
}

async fn poll(events: SessionEventLoop<DialedConnector>, tell: watch::Sender<LineState>, cut: Cut, failures: u32) {
    let mut events = pin!(events.enter());
    let mut pause = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    let (mut since, mut silent, mut refused) = (Instant::now(), 0, 0);
    while let Some(event) = events.next().await {
        match event {
            Ok(SessionPollResult::Reconnected(_)) => {
                (since, silent, refused) = (Instant::now(), 0, 0);
                cut.server_answered();
                tell.send_modify(|state| {
                    state.up = true;
                    state.trouble = None;
                    state.connections += 1;
                });
            }
            Ok(SessionPollResult::ConnectionLost(status)) => {
                tell.send_modify(|state| (state.up, state.trouble) = (false, Some(status)));
                // The library's first retry is immediate, however short the connection lived: an answer that cannot be decoded would
                // have it reconnect thirty times a second.
                if since.elapsed() < PROVEN {
                    tokio::time::sleep(pause.next_delay()).await;
                } else {
                    pause.reset();
                }
            }
            Ok(SessionPollResult::ReconnectFailed(status)) => {
                refused = if cut.server_answered() { refused + 1 } else { 0 };
                tell.send_modify(|state| (state.up, state.trouble) = (false, Some(status)));
                if !is_network(status) || diagnose::needs_long_backoff(status) || refused >= PATIENCE {
                    break;
                }
            }
            Ok(SessionPollResult::SessionActivity(SessionActivity::KeepAliveSucceeded)) => silent = 0,
            // The server answers, and says that it is not running: its values tell that themselves.
            Ok(SessionPollResult::SessionActivity(SessionActivity::KeepAliveFailed(StatusCode::BadServerHalted))) => silent = 0,
            Ok(SessionPollResult::SessionActivity(SessionActivity::KeepAliveFailed(status))) => {
                silent += 1;
                if silent >= failures || status != StatusCode::BadTimeout {
                    warn!(%status, failed = silent, "the server does not answer keep-alives: connecting anew");
                    cut.now();
                }
            }
            Ok(_) => {}
            Err(status) => {
                tell.send_modify(|state| (state.up, state.trouble) = (false, Some(status)));
                break;
            }
        }
    }
    tell.send_modify(|state| (state.up, state.ended) = (false, true));
}
