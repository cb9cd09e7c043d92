//! What is between producers and brokers.

use crate::broker::Request;

/// Whether anybody hears the answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reply {
    Awaited,
    /// The producer is dead, or has sent the request again over another connection.
    Lost,
}

/// A request somewhere between a producer and a broker. It may stay there for ever, so a lost one needs no action of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OnWire {
    pub(crate) request: Request,
    connection: u8,
    pub(crate) reply: Reply,
}

/// Requests in no order but that of their connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wire(Vec<OnWire>);

impl Wire {
    /// What may arrive next: a connection keeps the order of its requests. Equal requests count once.
    pub(crate) fn arriving(&self) -> impl Iterator<Item = &OnWire> {
        let connection = |on_wire: &OnWire| (on_wire.request.partition, on_wire.request.life, on_wire.connection);
        let is_before =
            move |other: &OnWire, on_wire: &OnWire| connection(other) == connection(on_wire) && other.request.first < on_wire.request.first;
        let is_first = |at: usize| at == 0 || self.0[at - 1] != self.0[at];
        let is_next = move |on_wire: &OnWire| !self.0.iter().any(|other| is_before(other, on_wire));
        self.0.iter().enumerate().filter(move |(at, on_wire)| is_first(*at) && is_next(on_wire)).map(|(_, on_wire)| on_wire)
    }

    pub(crate) fn put(&mut self, requests: Vec<Request>, connection: u8) {
        self.0.extend(requests.into_iter().map(|request| OnWire { request, connection, reply: Reply::Awaited }));
        self.0.sort_unstable();
    }

    pub(crate) fn take(&mut self, on_wire: &OnWire) {
        if let Some(at) = self.0.iter().position(|other| other == on_wire) {
            self.0.remove(at);
        }
    }

    /// Nobody listens any more.
    pub(crate) fn lose_replies(&mut self, of: impl Fn(&Request) -> bool) {
        self.0.iter_mut().filter(|on_wire| of(&on_wire.request)).for_each(|on_wire| on_wire.reply = Reply::Lost);
        self.0.sort_unstable();
    }

    pub(crate) fn die_out(&mut self) {
        self.0.clear();
    }

    pub(crate) fn is_empty_for(&self, partition: usize) -> bool {
        self.0.iter().all(|on_wire| on_wire.request.partition != partition)
    }
}
