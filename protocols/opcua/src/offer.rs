//! What a server offers to commands, and the way to it while it is connected.
//!
//! The gateway writes here what it has learned and whether it is connected; commands read it. What was learned stays when the connection is
//! lost: it says what can never work.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use opcua::client::Session;
use opcua::types::NodeId;
use tokio::sync::watch;

use crate::arguments::Declared;
use crate::line::LineState;
use crate::meaning::Meaning;
use crate::methods::Method;

/// A method, and what its arguments are.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) method: Method,
    /// As many as it has inputs.
    pub(crate) inputs: Vec<Declared>,
    /// As many as it has outputs.
    pub(crate) outputs: Vec<Meaning>,
}

/// Where a constant or a variable of the device file was found.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) node: NodeId,
    pub(crate) meaning: Meaning,
    /// For variables that commands may write.
    pub(crate) writing: Option<Writing>,
}

/// As what a variable is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writing {
    pub(crate) declared: Declared,
    /// Why the server does not let it be written.
    pub(crate) forbidden: Option<&'static str>,
}

/// What a server offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offer {
    /// `None`: the server could not be asked for them.
    pub(crate) methods: Option<Arc<Vec<Offered>>>,
    /// By their names in the device file; without those that the server does not have.
    pub(crate) places: HashMap<String, Place>,
}

/// A session that is open.
#[derive(Clone)]
pub(crate) struct Open {
    pub(crate) session: Arc<Session>,
    line: watch::Receiver<LineState>,
    connection: u64,
}

impl Open {
    /// `connection`: which of the line's connections this is about.
    pub(crate) fn new(session: Arc<Session>, line: watch::Receiver<LineState>, connection: u64) -> Self {
        Self { session, line, connection }
    }

    /// Whether the line has not been lost since.
    pub(crate) fn is_up(&self) -> bool {
        let state = self.line.borrow();
        state.up && state.connections == self.connection
    }
}

/// What is known now.
#[derive(Clone, Default)]
pub(crate) struct Known {
    /// `None`: the server was never met.
    pub(crate) offer: Option<Arc<Offer>>,
    open: Option<Open>,
}

impl Known {
    /// The open session.
    pub(crate) fn open(&self) -> Option<&Open> {
        self.open.as_ref().filter(|open| open.is_up())
    }
}

/// Where a gateway lays out what its commands need; clones are the same desk.
#[derive(Clone, Default)]
pub(crate) struct Desk(Arc<watch::Sender<Known>>);

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("is_open", &self.now().open().is_some()).finish_non_exhaustive()
    }
}

impl Desk {
    /// Notes what the server offers.
    pub(crate) fn learn(&self, offer: Offer) {
        self.0.send_modify(|known| known.offer = Some(Arc::new(offer)));
    }

    /// Notes that the server can be asked, as long as the guard lives.
    pub(crate) fn open(&self, open: Open) -> Present {
        self.0.send_modify(|known| known.open = Some(open));
        Present(self.clone())
    }

    /// What is known now.
    pub(crate) fn now(&self) -> Known {
        self.0.borrow().clone()
    }

    /// Resolves when the server can be asked.
    pub(crate) async fn ready(&self) {
        let mut known = self.0.subscribe();
        // The sender lives as long as this.
        drop(known.wait_for(|known| known.open().is_some()).await);
    }
}

/// The server can be asked.
#[must_use]
pub(crate) struct Present(Desk);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.0.send_modify(|known| known.open = None);
    }
}
