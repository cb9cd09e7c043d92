//! The publish loop: keeps a few Publish requests with the server and hands on what they bring back.
//!
//! Order: messages are delivered by their number; an answer that overtook another waits for it, a number that was left out is asked for
//! again first. Back-pressure: while the log is behind, the loop waits in `deliver` and no request is renewed; the server's queues fill,
//! and the line's task goes on with its keep-alives.

use std::sync::Arc;
use std::time::Duration;

use asset_stream::Timestamp;
use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use opcua::client::services::Publish;
use opcua::client::{Session, UARequest};
use opcua::types::{Error, NotificationMessage, PublishResponse, StatusCode, SubscriptionAcknowledgement};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{debug, warn};

use crate::convert;
use crate::device::{Device, Halt};
use crate::line::Line;
use crate::notifications::{self, has_data, overflow};
use crate::sequence::{previous, steps};
use crate::subscription;

/// Requests kept with the server for each subscription, and one more.
const PER_SUBSCRIPTION: usize = 2;
/// A server that does not even send its keep-alive for so many of their periods has forgotten us.
const LATE_PERIODS: u32 = 3;
/// A first message with a number up to this follows others that were missed; with any other, the server counts from somewhere else.
const FIRST_NUMBERS: i64 = 1_000;
/// Answers that are neither values nor a lost connection: so many in a row, and the connection is made anew.
const OTHER_FAILURES: u32 = 10;
/// Answers of a connection that just ended are at hand at once.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Publish requests on their way.
struct Requests<F> {
    running: FuturesUnordered<F>,
    /// How many the server takes.
    most: usize,
    failures: u32,
    /// After failures: no new request before.
    not_before: Option<Instant>,
    /// When the last answer came.
    answered: Instant,
}

/// An answer to a Publish request, with what the request was.
struct Answer {
    acks: Vec<SubscriptionAcknowledgement>,
    /// How often subscriptions had been made anew when it was asked.
    replaced: u64,
    result: Result<PublishResponse, Error>,
}

async fn publish(session: Arc<Session>, acks: Vec<SubscriptionAcknowledgement>, replaced: u64, within: Duration) -> Answer {
    let request = Publish::new(&session).acks(acks.clone()).timeout(within);
    let result = request.send(session.channel()).await;
    Answer { acks, replaced, result }
}

impl Device {
    /// Receives and hands on until the connection is lost or made anew. Cancelled at any point, it loses nothing that the server does not
    /// still have.
    pub(crate) async fn receive(&mut self, line: &mut Line, connection: u64) -> Result<(), Halt> {
        let session = line.session.clone();
        let mut requests = Requests {
            running: FuturesUnordered::new(),
            most: self.subscriptions.len() * PER_SUBSCRIPTION + 1,
            failures: 0,
            not_before: None,
            answered: Instant::now(),
        };
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = Instant::now() + self.config.session.retry_interval;
        loop {
            let may_ask = requests.not_before.is_none_or(|time| Instant::now() >= time);
            while may_ask && !self.subscriptions.is_empty() && requests.running.len() < requests.most && self.acks.has_room() {
                requests.running.push(publish(session.clone(), self.acks.take(), self.replaced, self.publish_timeout()));
            }
            tokio::select! {
                biased;
                settled = self.acks.settle() => settled?,
                state = line.changed() => {
                    if !state.up || state.connections != connection {
                        return self.drain(requests.running).await;
                    }
                }
                Some(first) = requests.running.next(), if self.acks.has_room() => {
                    // All that are here, so that they can be put in order.
                    let mut answers = vec![first];
                    while let Some(Some(more)) = requests.running.next().now_or_never() {
                        answers.push(more);
                    }
                    self.answered(&session, line, &mut requests, answers).await?;
                    requests.answered = Instant::now();
                }
                _ = tick.tick() => {
                    self.tell_due_overflows().await?;
                    if !self.acks.has_room() {
                        // It is us who are late.
                        requests.answered = Instant::now();
                    }
                    if std::mem::take(&mut self.needs_refresh) {
                        self.refresh(&session).await;
                    }
                    if !requests.running.is_empty() && requests.answered.elapsed() > self.late_after() {
                        warn!("the server published nothing, not even a keep-alive: connecting anew");
                        requests.answered = Instant::now();
                        line.cut();
                    }
                    if Instant::now() >= retry {
                        self.follow(&session, |item| item.is_refused() || (item.is_subscribed() && item.subscription.is_none())).await?;
                        retry = Instant::now() + self.config.session.retry_interval;
                        requests.most = requests.most.max(self.subscriptions.len() * PER_SUBSCRIPTION + 1);
                    }
                }
            }
        }
    }

    /// Handles answers to Publish requests.
    async fn answered<F>(
        &mut self,
        session: &Arc<Session>,
        line: &Line,
        requests: &mut Requests<F>,
        answers: Vec<Answer>,
    ) -> Result<(), Halt> {
        let mut published = Vec::with_capacity(answers.len());
        for answer in answers {
            match answer.result {
                Ok(result) => {
                    (requests.failures, requests.not_before) = (0, None);
                    published.push(result);
                }
                Err(error) => {
                    self.acks.give_back(answer.acks);
                    let is_old = answer.replaced != self.replaced;
                    // Asked before there was a new subscription, answered after.
                    if !(is_old && error.status() == StatusCode::BadNoSubscription) {
                        self.publish_failed(session, line, requests, error.status()).await?;
                    }
                }
            }
        }
        self.sort(&mut published);
        for answer in published {
            self.published(session, answer).await?;
        }
        Ok(())
    }

    async fn publish_failed<F>(
        &mut self,
        session: &Arc<Session>,
        line: &Line,
        requests: &mut Requests<F>,
        status: StatusCode,
    ) -> Result<(), Halt> {
        match status {
            // Nothing was told within the time; or the answer comes too late, is dropped by the library, and its number is missed.
            StatusCode::BadTimeout => {}
            StatusCode::BadTooManyPublishRequests => {
                requests.most = requests.running.len().max(1);
                debug!(most = requests.most, "the server takes no more publish requests");
            }
            StatusCode::BadNoSubscription => {
                let all = self.subscriptions.iter().map(|s| s.id).collect();
                self.replace(session, all, "the server has no subscription of ours any more").await?;
            }
            StatusCode::BadSessionClosed | StatusCode::BadSessionIdInvalid | StatusCode::BadSessionNotActivated => line.cut(),
            // A lost connection tells itself through the line; anything else is asked again, a little later.
            status => {
                requests.failures += 1;
                requests.not_before = Some(Instant::now() + Duration::from_millis(500));
                debug!(%status, failures = requests.failures, "a publish request failed");
                if requests.failures >= OTHER_FAILURES {
                    warn!(%status, "publishing fails: connecting anew");
                    requests.failures = 0;
                    line.cut();
                }
            }
        }
        Ok(())
    }

    /// By subscription and number: answers can overtake each other.
    fn sort(&self, published: &mut [PublishResponse]) {
        published.sort_by_key(|answer| {
            let last = self.subscription(answer.subscription_id).map_or(0, |s| s.last);
            (answer.subscription_id, steps(last, answer.notification_message.sequence_number))
        });
    }

    async fn published(&mut self, session: &Arc<Session>, answer: PublishResponse) -> Result<(), Halt> {
        let (id, number) = (answer.subscription_id, answer.notification_message.sequence_number);
        let Some(known) = self.subscriptions.iter_mut().find(|s| s.id == id) else {
            warn!(id, "a subscription that is not ours is deleted");
            subscription::delete(session, &[id]).await;
            return Ok(());
        };
        if std::mem::take(&mut known.is_fresh) && !(1..=FIRST_NUMBERS).contains(&steps(0, number)) {
            // Numbers begin at 1, for most servers.
            known.last = previous(number);
        }
        let last = known.last;
        let has_data = has_data(&answer.notification_message);
        let published = convert::timestamp(&answer.notification_message.publish_time);
        if has_data && steps(last, number) <= 0 {
            debug!(id, number, last, "a message that was received before is dropped");
            self.acks.now(id, number);
            return Ok(());
        }
        // A keep-alive carries the number that the next message will have.
        if steps(last, number) > 1 {
            self.fetch_missing(session, id, number, answer.available_sequence_numbers.as_deref()).await?;
        }
        if !has_data {
            if steps(last, number) > 1 {
                self.set_last(id, previous(number));
            }
            self.heard.message(id, published, Timestamp::now());
            return Ok(());
        }
        let arrived = Timestamp::now();
        let status = self.deliver(id, answer.notification_message).await?;
        if answer.more_notifications
            && let Some(known) = self.subscription_mut(id)
        {
            known.has_more();
        }
        // Not those that had to be asked for again: when they arrive says nothing.
        self.heard.message(id, published, arrived);
        self.changed(session, id, status).await
    }

    /// The subscription itself changed.
    async fn changed(&mut self, session: &Arc<Session>, id: u32, status: Option<StatusCode>) -> Result<(), Halt> {
        match status {
            None => Ok(()),
            // We took it over ourselves, and some servers tell the new owner too.
            Some(StatusCode::GoodSubscriptionTransferred) if self.subscription(id).is_some_and(|s| s.was_transferred) => Ok(()),
            Some(StatusCode::GoodSubscriptionTransferred) => {
                self.replace(session, vec![id], "another client took the subscription over").await
            }
            Some(status) if status.is_bad() => {
                self.replace(session, vec![id], &format!("the server ended the subscription ({status})")).await
            }
            Some(_) => Ok(()),
        }
    }

    /// Hands a message on, in order, and has it acknowledged once it is durable. Waits while the log is behind.
    pub(crate) async fn deliver(&mut self, id: u32, message: NotificationMessage) -> Result<Option<StatusCode>, Halt> {
        let (number, now) = (message.sequence_number, Timestamp::now());
        let publishing = self.subscription_mut(id).map_or(number, |subscription| subscription.publishing(number));
        let told = notifications::read(message, publishing, &mut self.items, &mut self.events, now);
        let is_cut = told.samples.len() >= subscription::NOTIFICATIONS as usize;
        // Not received before it was handed over: a cancelled call leaves the message to be asked for again.
        if told.gaps.is_empty() && told.samples.is_empty() {
            self.acks.now(id, number);
        } else {
            let receipt = self.link.send_after(&told.gaps, told.samples).await?;
            self.acks.after(id, number, receipt);
        }
        self.set_last(id, number);
        // Also of a message that was asked for again, which says no more than that.
        if is_cut && let Some(subscription) = self.subscription_mut(id) {
            subscription.has_more();
        }
        self.needs_refresh |= told.needs_refresh;
        Ok(told.status_change)
    }

    /// The connection is gone: what had arrived is handed on, what was acknowledged into the void is acknowledged again.
    async fn drain<F: Future<Output = Answer>>(&mut self, mut running: FuturesUnordered<F>) -> Result<(), Halt> {
        let mut published = Vec::new();
        while let Ok(Some(answer)) = timeout(LAST_ANSWERS, running.next()).await {
            match answer.result {
                Ok(result) => published.push(result),
                Err(_) => self.acks.give_back(answer.acks),
            }
        }
        self.sort(&mut published);
        for answer in published {
            let (id, number) = (answer.subscription_id, answer.notification_message.sequence_number);
            // Only what follows without a hole: the rest is asked for again, in order.
            let follows = self.subscription(id).is_some_and(|s| steps(s.last, number) == 1);
            if follows && has_data(&answer.notification_message) {
                self.deliver(id, answer.notification_message).await?;
            }
        }
        Ok(())
    }

    async fn tell_due_overflows(&mut self) -> Result<(), Halt> {
        let now = std::time::Instant::now();
        for place in 0..self.items.len() {
            if let Some((from, to)) = self.items[place].due_overflow(now) {
                let gap = overflow(&self.items[place], from, to);
                self.link.gap(&gap).await?;
            }
        }
        Ok(())
    }

    /// The slowest keep-alive of all subscriptions.
    fn keep_alive(&self) -> Duration {
        self.subscriptions.iter().map(|s| s.keep_alive).max().unwrap_or(Duration::from_secs(5))
    }

    /// A Publish request waits for its turn behind the others, each of which may wait for a keep-alive.
    fn publish_timeout(&self) -> Duration {
        let waiting = u32::try_from(self.subscriptions.len() * PER_SUBSCRIPTION + 1).unwrap_or(u32::MAX);
        self.keep_alive() * (waiting + LATE_PERIODS) + self.config.session.request_timeout
    }

    fn late_after(&self) -> Duration {
        self.keep_alive() * LATE_PERIODS + self.config.session.request_timeout
    }
}

#[cfg(test)]
mod tests {
    use crate::config;
    use crate::device::Device;
    use asset_stream::document::{Document, Environment, Problems};
    use gateway::{DeviceLink, Outcome, channel};
    use opcua::types::{
        DateTime, EventFieldList, EventNotificationList, ExtensionObject, NodeId, NotificationMessage, ObjectTypeId, Variant,
    };
    use std::sync::Arc;

    #[tokio::test]
    async fn a_message_that_only_tells_a_loss_is_acknowledged_when_the_log_has_the_gap() {
        let (problems, environment) = (Problems::new(), Environment::empty());
        let yaml = b"server: {uri: opc.tcp://plc}\nevents: {alarms: {node_id: i=2253}}\n";
        let document = Document::parse("plc.yaml", yaml, &problems).expect("valid YAML");
        let config = config::parse(document.root(&environment, &problems)).expect("a valid connector");
        let (sender, mut log) = channel(1 << 20);
        let mut device = Device::new(Arc::new(config), DeviceLink::new("plc", "PLC-1", sender), crate::offer::Desk::default());

        let overflow = Variant::from(NodeId::from(ObjectTypeId::EventQueueOverflowEventType));
        let event = EventFieldList { client_handle: 1, event_fields: Some(vec![Variant::Empty, overflow]) };
        let part = ExtensionObject::from_message(EventNotificationList { events: Some(vec![event]) });
        let message = NotificationMessage { sequence_number: 1, publish_time: DateTime::now(), notification_data: Some(vec![part]) };
        device.deliver(7, message).await.expect("open");

        assert!(device.acks.take().is_empty(), "acknowledged before the log had the gap");
        log.recv().await.expect("the gap").finish(Outcome::Durable);
        device.acks.settle().await.expect("open");
        assert_eq!(device.acks.take().len(), 1);
        assert_eq!(device.link.status().gaps(), 1);
    }
}
