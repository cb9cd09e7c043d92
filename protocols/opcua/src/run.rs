//! One device, from its start to its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use asset_stream::GapReason;
use gateway::{Actions, Backoff, DeviceLink, Gateway, RunFuture};
use opcua::types::StatusCode;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::actions::OpcuaActions;
use crate::config::Config;
use crate::connect::{self, Again, Chosen, Refusal};
use crate::device::{Device, Halt};
use crate::diagnose::Failure;
use crate::line::{Line, LineState};
use crate::offer::{Desk, Open};
use crate::{Error, Identity, TrustStore};

/// Between attempts to reach a server.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Between attempts that a server refused, e.g. because it does not trust our certificate yet.
const REFUSED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(300));
/// Between logins that were refused: a few wrong passwords may lock an account.
const LOGIN_REFUSED: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(900));
/// Between attempts to use a connection that works, with a server that does not do what is needed.
const UNUSABLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What all OPC UA gateways of an edge share: who the edge is, and whom it trusts.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The edge's own certificate and key.
    pub identity: Identity,
    /// The servers' certificates.
    pub trust: TrustStore,
}

impl Shared {
    /// Opens `<state>/opcua`; makes it, with a certificate that lasts, the first time (about a second).
    pub fn open(state: &Path) -> Result<Self, Error> {
        let identity = Identity::open(state).map_err(Error::Identity)?;
        let trust = TrustStore::open(state).map_err(Error::Trust)?;
        Ok(Self { identity, trust })
    }
}

/// The gateway of one OPC UA device.
#[derive(Debug)]
pub struct OpcuaGateway {
    config: Arc<Config>,
    shared: Shared,
    desk: Desk,
}

impl OpcuaGateway {
    /// A gateway for a connector of a device file.
    pub fn new(config: Config, shared: Shared) -> Self {
        Self { config: Arc::new(config), shared, desk: Desk::default() }
    }

    /// The way to ask the device to do something; the same through all runs.
    pub fn actions(&self) -> Arc<dyn Actions> {
        Arc::new(OpcuaActions::new(self.config.clone(), &self.desk))
    }
}

impl Gateway for OpcuaGateway {
    fn run(&self, link: DeviceLink, stop: CancellationToken) -> RunFuture {
        Box::pin(run(Device::new(self.config.clone(), link, self.desk.clone()), self.shared.clone(), stop))
    }
}

/// How the work with one line ended.
enum End {
    /// The edge is stopping.
    Stopped,
    /// The line gave up, or cannot be used: everything is asked anew.
    Anew(Refusal),
}

async fn run(mut device: Device, shared: Shared, stop: CancellationToken) {
    let config = device.config.clone();
    keep_connected(&mut device, &config, &shared, &stop).await;
    // Nobody takes the subscriptions up again: their ids are forgotten with this process. With a log that is closed, nobody hears it either.
    let detail = "the edge or this gateway was stopped (a stop, or a changed device file): what the server had not sent by then, and what was still on its way, is lost";
    device.tell_gap(GapReason::EdgeStopped, detail.to_owned()).await.ok();
}

/// Works with the device until the edge stops.
async fn keep_connected(device: &mut Device, config: &Config, shared: &Shared, stop: &CancellationToken) {
    let name = device.link.name().clone();
    let mut retry = Backoff::new(RETRY.0, RETRY.1);
    let mut refused = Backoff::new(REFUSED.0, REFUSED.1);
    let mut login = Backoff::new(LOGIN_REFUSED.0, LOGIN_REFUSED.1);
    loop {
        let opened = tokio::select! {
            () = stop.cancelled() => return,
            opened = connect::open(config, shared, &name) => opened,
        };
        let refusal = match opened {
            Ok((line, chosen)) => {
                let times = device.times_connected;
                match serve(device, line, &chosen, stop).await {
                    End::Stopped => return,
                    End::Anew(refusal) => {
                        if device.times_connected != times {
                            retry.reset();
                            refused.reset();
                            login.reset();
                        }
                        refusal
                    }
                }
            }
            Err(refusal) => refusal,
        };
        let delay = match refusal.again {
            Again::Soon => retry.next_delay(),
            Again::Later => refused.next_delay(),
            Again::MuchLater => login.next_delay(),
        };
        debug!(again_in_s = delay.as_secs_f32(), "not connected");
        if device.link.lost(refusal.words).await.is_err() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(delay) => {}
        }
    }
}

/// Works with a line until it gives up or the edge stops.
async fn serve(device: &mut Device, mut line: Line, chosen: &Chosen, stop: &CancellationToken) -> End {
    let end = tokio::select! {
        () = stop.cancelled() => End::Stopped,
        end = follow(device, &mut line, chosen) => end,
    };
    if matches!(end, End::Stopped) {
        line.close().await;
    }
    end
}

async fn follow(device: &mut Device, line: &mut Line, chosen: &Chosen) -> End {
    let mut unusable = Backoff::new(UNUSABLE.0, UNUSABLE.1);
    loop {
        let state = match wait_up(device, line, chosen).await {
            Ok(state) => state,
            Err(end) => return end,
        };
        let session = line.session.clone();
        let worked = match device.connected(&session).await {
            Ok(()) => {
                device.times_connected += 1;
                debug!(connection = state.connections, session = %device.owner, "connected");
                if device.link.connected().await.is_err() {
                    return End::Stopped;
                }
                unusable.reset();
                let _present = device.desk.open(Open::new(session, line.watch(), state.connections));
                device.receive(line, state.connections).await
            }
            Err(halt) => Err(halt),
        };
        match worked {
            Ok(()) => {}
            Err(Halt::Closed) => return End::Stopped,
            Err(Halt::Server(status)) => {
                debug!(%status, "work with the server ended");
                let now = line.now();
                // A connection that was lost may be back already: then there is nothing wrong with the new one.
                if now.up && now.connections == state.connections {
                    // The connection works, and what is needed does not: a pause, and from the start.
                    if device.link.lost(words(&Failure::from(status), device, chosen)).await.is_err() {
                        return End::Stopped;
                    }
                    tokio::time::sleep(unusable.next_delay()).await;
                    line.cut();
                    wait_down(line, state.connections).await;
                }
            }
        }
    }
}

/// Waits for a session; tells meanwhile why there is none.
async fn wait_up(device: &Device, line: &mut Line, chosen: &Chosen) -> Result<LineState, End> {
    let mut state = line.now();
    loop {
        if state.up {
            return Ok(state);
        }
        if state.ended {
            let failure = match line.failure().await {
                Some(panic) => Failure::Status(StatusCode::BadUnexpectedError, panic),
                None => Failure::from(state.trouble.unwrap_or(StatusCode::BadUnexpectedError)),
            };
            return Err(End::Anew(chosen.refusal(&failure, &device.config)));
        }
        if let Some(status) = state.trouble
            && device.link.lost(words(&Failure::from(status), device, chosen)).await.is_err()
        {
            return Err(End::Stopped);
        }
        state = line.changed().await;
    }
}

/// Waits until a connection that was cut is seen to be gone.
async fn wait_down(line: &mut Line, connection: u64) {
    loop {
        let state = line.changed().await;
        if !state.up || state.ended || state.connections != connection {
            return;
        }
    }
}

fn words(failure: &Failure, device: &Device, chosen: &Chosen) -> String {
    chosen.refusal(failure, &device.config).words
}
