//! One look at a server: a session that is opened once, and closed when everything was asked.

use std::sync::Arc;

use opcua::client::Session;
use opcua::types::StatusCode;
use tokio::time::{Instant, timeout_at};

use crate::config::Config;
use crate::connect;
use crate::convert::status_text;
use crate::diagnose::Failure;
use crate::limits::Limits;
use crate::line::Line;
use crate::run::Shared;

/// A session nobody keeps.
pub(crate) struct Visit {
    line: Line,
    pub(crate) session: Arc<Session>,
    pub(crate) limits: Limits,
}

impl Visit {
    /// Opens it. The error says in plain words why the server cannot be reached, and what to do.
    pub(crate) async fn begin(config: &Config, shared: &Shared, name: &str) -> Result<Self, String> {
        let (mut line, chosen) = connect::open(config, shared, name).await.map_err(|refusal| refusal.words)?;
        let session = line.session.clone();
        let limits = Limits::default();
        let opened = match opened(&mut line, config).await {
            Ok(()) => limits.learn(&session).await.map_err(said),
            Err(status) => Err(chosen.refusal(&Failure::from(status), config).words),
        };
        match opened {
            Ok(()) => Ok(Self { line, session, limits }),
            Err(words) => {
                // A controller has few sessions: one that nobody closes is missing until it times out.
                line.close().await;
                Err(words)
            }
        }
    }

    /// Says goodbye.
    pub(crate) async fn end(self) {
        self.line.close().await;
    }
}

/// Waits for the session.
async fn opened(line: &mut Line, config: &Config) -> Result<(), StatusCode> {
    // A channel, a session, its activation.
    let until = Instant::now() + config.session.connect_timeout + 3 * config.session.request_timeout;
    loop {
        let state = line.now();
        if state.up {
            return Ok(());
        }
        if let Some(status) = state.trouble {
            return Err(status);
        }
        if state.ended || timeout_at(until, line.changed()).await.is_err() {
            return Err(StatusCode::BadTimeout);
        }
    }
}

/// A service that the server refused as a whole.
pub(crate) fn said(status: StatusCode) -> String {
    format!("the server stopped answering: {}", status_text(status))
}
