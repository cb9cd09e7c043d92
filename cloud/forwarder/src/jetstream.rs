//! A lane into JetStream: many assets at once, each waiting for its last acknowledgement. The rules are those of [`Window`].

use std::time::{Duration, Instant};

use async_nats::{Message, StatusCode, jetstream};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use serde::Deserialize;
use tracing::debug;

use crate::lane::{Lane, Left, Outcome};
use crate::link::{Link, NotSent};
use crate::message::{Ids, Outgoing};
use crate::search;
use crate::status::Counters;
use crate::stream::{self, Last};
use crate::window::{Entry, Limits, Step, Window};

/// After a refusal nothing is published for this long, doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// JetStream's error: the message is larger than the stream's max_msg_size.
const MESSAGE_TOO_LARGE: u64 = 10054;
/// JetStream's error: the headers are larger than it can store.
const HEADERS_TOO_LARGE: u64 = 10097;

/// What a lane remembers between two connections.
pub(crate) struct Work {
    window: Window<Outgoing>,
    pause: Pause,
    ids: Ids,
}

/// Publishing stands still after a refusal.
#[derive(Default)]
struct Pause {
    until: Option<Instant>,
    length: Duration,
    reason: String,
}

/// The answer to a publish.
#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    duplicate: bool,
    error: Option<Refusal>,
    seq: Option<u64>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

type Lookup = BoxFuture<'static, (i64, Result<Option<Last>, String>)>;

impl Work {
    pub(crate) fn new(lane: &Lane) -> Self {
        let limits = Limits { in_flight: lane.in_flight, patience: lane.ack_timeout };
        Self { window: Window::new(limits), pause: Pause::default(), ids: Ids::default() }
    }

    /// Publishes over this link until it breaks or the lane stops.
    pub(crate) async fn run(&mut self, lane: &mut Lane, link: &mut Link) -> Left {
        let mut lookups: FuturesUnordered<Lookup> = FuturesUnordered::new();
        let (mut outcomes, mut arrived) = (Vec::new(), Vec::new());
        let mut deadline: Option<tokio::time::Instant> = None;
        let mut last_turn = Instant::now();
        let left = loop {
            let now = Instant::now();
            // Another forwarder may have taken over meanwhile, and the stream may have forgotten the ids of what it did: look before going on.
            if now.duration_since(std::mem::replace(&mut last_turn, now)) > lane.ack_timeout {
                break Left::Broken("this process stood still; looking again at what the stream holds".into());
            }
            if self.pause.is_at_its_longest(now) {
                break Left::Broken(std::mem::take(&mut self.pause.reason));
            }
            let expired = self.window.expire(now);
            if expired > 0 {
                Counters::add(&lane.board.counters.retries, expired);
                lane.waiting(format!("JetStream has not answered within {:?}{}", lane.ack_timeout, link.complaint()));
            }
            if deadline.is_some() && self.window.under_way() == 0 {
                break Left::Stopped;
            }
            // Under load there is always an answer to be read below; what is new must not wait for a moment without any.
            while deadline.is_none()
                && let Ok(bundle) = lane.input.try_recv()
            {
                bundle.into_iter().for_each(|outgoing| self.window.push(outgoing));
            }
            if deadline.is_none()
                && self.pause.is_over(now)
                && let Err(left) = self.send(lane, link, &mut lookups, &mut outcomes).await
            {
                break left;
            }
            lane.report(&mut outcomes).await;
            let wake = [self.window.next_expiry(), self.pause.until].into_iter().flatten().fold(now + lane.ack_timeout / 2, Instant::min);
            tokio::select! {
                biased;
                () = lane.stop.cancelled(), if deadline.is_none() => deadline = Some(Lane::deadline()),
                () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => break Left::Stopped,
                answer = link.answer() => {
                    let Some((token, message)) = answer else { break link.broken() };
                    self.answered(lane, token, &message, &mut outcomes);
                    while let Some((token, message)) = link.waiting_answer() {
                        self.answered(lane, token, &message, &mut outcomes);
                    }
                }
                Some((offset, told)) = lookups.next(), if !lookups.is_empty() => self.looked_up(lane, offset, told, &mut outcomes),
                count = lane.input.recv_many(&mut arrived, 64), if deadline.is_none() => {
                    if count == 0 {
                        deadline = Some(Lane::deadline());
                    }
                    arrived.drain(..).flatten().for_each(|outgoing| self.window.push(outgoing));
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        };
        self.window.connection_lost();
        self.pause = Pause::default();
        lane.report(&mut outcomes).await;
        left
    }

    /// Sends everything that may go now.
    async fn send(
        &mut self,
        lane: &Lane,
        link: &Link,
        lookups: &mut FuturesUnordered<Lookup>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), Left> {
        let now = Instant::now();
        while let Some(step) = self.window.next(now) {
            match step {
                Step::LookUp(outgoing) => {
                    let (offset, subject) = (outgoing.record.offset, outgoing.subject.clone());
                    let (context, stream) = (jetstream::new(link.client().clone()), lane.route.stream.name.clone());
                    let late = outgoing.is_resent().then(|| outgoing.id.clone());
                    lookups.push(Box::pin(async move {
                        let told = match late {
                            Some(id) => search::itself_or_last(context, stream, subject, id).await,
                            None => stream::last_message(context, stream, subject).await,
                        };
                        (offset, told)
                    }));
                }
                Step::Publish(outgoing) => {
                    let offset = outgoing.record.offset;
                    let (subject, headers, payload) = (outgoing.subject.clone(), outgoing.headers(self.ids), outgoing.payload.clone());
                    match link.publish(subject, headers, payload, offset.unsigned_abs()).await {
                        Ok(()) => {}
                        Err(NotSent::Never(reason)) => {
                            outcomes.extend(self.window.finished(offset).map(|outgoing| Outcome::Impossible(outgoing, reason)));
                        }
                        Err(NotSent::Broken) => return Err(link.broken()),
                    }
                }
            }
        }
        Ok(())
    }

    fn answered(&mut self, lane: &mut Lane, token: u64, message: &Message, outcomes: &mut Vec<Outcome>) {
        let Ok(offset) = i64::try_from(token) else { return };
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            let reason = format!("no stream takes the message: is JetStream up, and the stream {} there?", lane.route.stream.name);
            return self.refused(lane, offset, reason);
        }
        let ack: Ack = match serde_json::from_slice(&message.payload) {
            Ok(ack) => ack,
            // Something that is no stream listens on the subject and replies: not an acknowledgement.
            Err(error) => return self.refused(lane, offset, format!("the answer is none of JetStream's: {error}")),
        };
        match ack {
            Ack { error: Some(Refusal { err_code: MESSAGE_TOO_LARGE | HEADERS_TOO_LARGE, description }), .. } => {
                let reason = format!("the stream {} refuses it for good: {description}", lane.route.stream.name);
                outcomes.extend(self.window.finished(offset).map(|outgoing| Outcome::Impossible(outgoing, reason)));
            }
            Ack { error: Some(refusal), .. } => {
                self.refused(lane, offset, format!("JetStream refuses: {} ({})", refusal.description, refusal.err_code));
            }
            Ack { seq: None, .. } => self.refused(lane, offset, "the answer is none of JetStream's".into()),
            Ack { duplicate: true, .. } if self.is_id_of_another(offset) => self.window.unknown(offset),
            Ack { duplicate, .. } => {
                self.recovered(lane);
                let outcome = if duplicate { Outcome::Duplicate } else { Outcome::Forwarded };
                outcomes.extend(self.window.finished(offset).map(outcome));
            }
        }
    }

    fn looked_up(&mut self, lane: &mut Lane, offset: i64, told: Result<Option<Last>, String>, outcomes: &mut Vec<Outcome>) {
        let last = match told {
            Ok(last) => last,
            Err(reason) => {
                self.window.unknown(offset);
                return self.hold(lane, format!("JetStream does not tell what the stream {} holds: {reason}", lane.route.stream.name));
            }
        };
        // Without an entry a late answer settled it meanwhile.
        let Some(outgoing) = self.window.get_mut(offset) else { return };
        match last {
            Some(last) if last.proves(outgoing) => {
                debug!(id = outgoing.id, ?last, "stands in the stream already");
                self.recovered(lane);
                outcomes.extend(self.window.finished(offset).map(Outcome::Duplicate));
            }
            last => {
                let told = last.as_ref().is_some_and(|last| last.is_of_another_life(outgoing) || last.is_of_a_later_life());
                if outgoing.life.is_some() && (told || outgoing.is_doubted) {
                    self.ids = Ids::OfALaterLife;
                }
                outgoing.newest = last.and_then(|last| last.newest_behind(outgoing));
                self.window.absent(offset);
            }
        }
    }

    /// Whether the id that the stream knows may be that of a record in another life of the topic; the event is then looked up.
    fn is_id_of_another(&mut self, offset: i64) -> bool {
        let ids = self.ids;
        let outgoing = self.window.get_mut(offset).filter(|outgoing| outgoing.life.is_some() && ids == Ids::Plain);
        outgoing.is_some_and(|outgoing| !std::mem::replace(&mut outgoing.is_doubted, true))
    }

    fn refused(&mut self, lane: &mut Lane, offset: i64, reason: String) {
        self.window.refused(offset);
        self.hold(lane, reason);
    }

    fn hold(&mut self, lane: &mut Lane, reason: String) {
        Counters::add(&lane.board.counters.retries, 1);
        if self.pause.until.is_none() {
            self.pause.begin(Instant::now(), reason.clone());
        }
        lane.waiting(reason);
    }

    fn recovered(&mut self, lane: &mut Lane) {
        self.pause.length = Duration::ZERO;
        lane.up();
    }
}

impl Pause {
    fn begin(&mut self, now: Instant, reason: String) {
        self.length = (self.length * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.until = Some(now + self.length);
        self.reason = reason;
    }

    /// After the longest pause it is time for another server, and for another look at the stream.
    fn is_at_its_longest(&self, now: Instant) -> bool {
        self.length == LONGEST_PAUSE && self.until.is_some_and(|until| now >= until)
    }

    fn is_over(&mut self, now: Instant) -> bool {
        if self.until.is_some_and(|until| now < until) {
            return false;
        }
        self.until = None;
        true
    }
}
