//! Taking up subscriptions after a connection was lost.
//!
//! The order is what makes it lossless: the subscriptions are taken over by the new session (if it is a new one), then every message that
//! the server sent into the void is asked for again by its number, and only then publishing goes on. Nothing publishes meanwhile: the
//! library knows of no subscription.
//!
//! What cannot be had again becomes a gap event, and the subscription is made anew.

use std::sync::Arc;

use asset_stream::GapReason;
use opcua::client::services::{Republish, TransferSubscriptions};
use opcua::client::{Session, UARequest};
use opcua::types::{NotificationMessage, StatusCode};
use tracing::{debug, info, warn};

use crate::device::{Device, Halt};
use crate::notifications::has_data;
use crate::sequence::{next, steps};
use crate::subscription::{self, Subscription};

/// A message whose delivery ended the connection so often is given up (it cannot be decoded).
const ATTEMPTS: u32 = 3;
/// Messages that are asked for one by one when a number was left out; more than any server keeps.
const RANGE: i64 = 10_000;

/// What a server answers to Republish.
#[derive(Debug)]
pub(crate) enum Again {
    /// The message.
    Message(Box<NotificationMessage>),
    /// It has no such message (any more, or yet).
    Nothing,
    /// It has no such subscription.
    NoSubscription,
}

/// The connection is of no use any more: whatever was asked has no answer, which is no answer.
pub(crate) fn is_connection(status: StatusCode) -> bool {
    [
        StatusCode::BadCommunicationError,
        StatusCode::BadConnectionClosed,
        StatusCode::BadDecodingError,
        StatusCode::BadEncodingLimitsExceeded,
        StatusCode::BadInvalidState,
        StatusCode::BadNotConnected,
        StatusCode::BadRequestTimeout,
        StatusCode::BadSecureChannelClosed,
        StatusCode::BadSecureChannelIdInvalid,
        StatusCode::BadSecurityChecksFailed,
        StatusCode::BadSequenceNumberInvalid,
        StatusCode::BadServerHalted,
        StatusCode::BadServerNotConnected,
        StatusCode::BadSessionClosed,
        StatusCode::BadSessionIdInvalid,
        StatusCode::BadSessionNotActivated,
        StatusCode::BadShutdown,
        StatusCode::BadTcpInternalError,
        StatusCode::BadTcpMessageTooLarge,
        StatusCode::BadTcpSecureChannelUnknown,
        StatusCode::BadTimeout,
    ]
    .contains(&status)
}

/// Asks for a message again.
pub(crate) async fn republish(session: &Session, subscription: u32, number: u32) -> Result<Again, StatusCode> {
    match Republish::new(subscription, number, session).send(session.channel()).await {
        Ok(answer) if answer.notification_message.sequence_number == number && has_data(&answer.notification_message) => {
            Ok(Again::Message(Box::new(answer.notification_message)))
        }
        // Some servers mark the end with an empty message instead of a status.
        Ok(_) => Ok(Again::Nothing),
        Err(error) => match error.status() {
            StatusCode::BadSubscriptionIdInvalid | StatusCode::BadNoSubscription | StatusCode::BadUserAccessDenied => {
                Ok(Again::NoSubscription)
            }
            status if is_connection(status) => Err(status),
            // BadMessageNotAvailable; or it does not know the service at all.
            _ => Ok(Again::Nothing),
        },
    }
}

impl Device {
    /// Takes up the subscriptions; those that are lost are forgotten, and told as a gap.
    pub(crate) async fn recover(&mut self, session: &Arc<Session>) -> Result<(), Halt> {
        let present = session.server_session_id();
        let known: Vec<u32> = self.subscriptions.iter().map(|s| s.id).collect();
        if known.is_empty() {
            self.owner = present;
            return Ok(());
        }
        // Not known to be complete: made anew.
        let mut lost: Vec<u32> = self.subscriptions.iter().filter(|s| !s.is_whole).map(|s| s.id).collect();
        if self.owner != present {
            lost.extend(self.transfer(session).await?);
            self.owner = present;
        }
        for id in known {
            if !lost.contains(&id) && !self.republish_all(session, id).await? {
                lost.push(id);
            }
        }
        self.replace(session, lost, "the server did not keep the subscription while the connection was away").await
    }

    /// Has the new session take over the subscriptions of the old one; gives those that it does not get.
    async fn transfer(&mut self, session: &Session) -> Result<Vec<u32>, StatusCode> {
        let ids: Vec<u32> = self.subscriptions.iter().map(|s| s.id).collect();
        let request = TransferSubscriptions::new(session).subscription_ids(ids.clone()).send_initial_values(false);
        let results = match request.send(session.channel()).await {
            Ok(answer) => answer.results.unwrap_or_default().into_iter().map(|r| (r.status_code, r.available_sequence_numbers)).collect(),
            Err(error) if is_connection(error.status()) => return Err(error.status()),
            // The server does not know the service, or does not allow it.
            Err(error) => vec![(error.status(), None); ids.len()],
        };
        let mut lost = Vec::new();
        for (subscription, (status, available)) in self.subscriptions.iter_mut().zip(results) {
            debug!(id = subscription.id, %status, last = subscription.last, ?available, "subscription taken over");
            // "Nothing to do": the session has it already.
            if status.is_bad() && status != StatusCode::BadNothingToDo {
                lost.push(subscription.id);
            } else {
                subscription.was_transferred = true;
            }
        }
        Ok(lost)
    }

    /// Asks for a message again, in the session that has the subscription: while a message waited for the log, the connection may have been
    /// lost and come back with another session, to which the server gives nothing yet.
    async fn ask_again(&self, session: &Session, id: u32, number: u32) -> Result<Again, StatusCode> {
        match republish(session, id, number).await? {
            Again::Nothing | Again::NoSubscription if session.server_session_id() != self.owner => Err(StatusCode::BadSessionIdInvalid),
            again => Ok(again),
        }
    }

    /// Fetches everything that a subscription sent since its last message; `false` if the server does not have it any more.
    async fn republish_all(&mut self, session: &Session, id: u32) -> Result<bool, Halt> {
        let (mut fetched, mut given_up) = (0_u32, false);
        while let Some(number) = self.subscription(id).map(|s| next(s.last)) {
            // A message that ends the connection each time it is asked for would keep us here for ever.
            let attempts = self.undecodable.filter(|known| (known.0, known.1) == (id, number)).map_or(0, |known| known.2);
            if attempts >= ATTEMPTS {
                warn!(id, number, "a message that cannot be decoded is given up");
                self.set_last(id, number);
                given_up = true;
                continue;
            }
            let again = self.ask_again(session, id, number).await;
            if matches!(
                again,
                Err(StatusCode::BadDecodingError | StatusCode::BadEncodingLimitsExceeded | StatusCode::BadTcpMessageTooLarge)
            ) {
                self.undecodable = Some((id, number, attempts + 1));
            }
            match again? {
                Again::Message(message) => {
                    self.deliver(id, *message).await?;
                    fetched += 1;
                }
                Again::Nothing => break,
                Again::NoSubscription => return Ok(false),
            }
        }
        if given_up {
            self.undecodable = None;
            self.tell_gap(GapReason::ConnectionLost, "a message of the server could not be decoded, whenever it was asked for".to_owned())
                .await?;
        }
        info!(id, messages = fetched, "subscription taken up");
        Ok(true)
    }

    /// Fetches the messages from the one after the last up to, not including, `end`. What is missing becomes a gap.
    pub(crate) async fn fetch_missing(&mut self, session: &Session, id: u32, end: u32, available: Option<&[u32]>) -> Result<(), Halt> {
        let (mut missing, mut fetched) = (0_u64, 0_u64);
        while let Some(number) = self.subscription(id).map(|s| next(s.last)) {
            let distance = steps(number, end);
            if distance <= 0 {
                break;
            }
            if distance > RANGE {
                missing += u64::try_from(distance - RANGE).unwrap_or_default();
                let skipped = u64::from(number) + u64::try_from(distance - RANGE).unwrap_or_default() - 1;
                self.set_last(id, u32::try_from(skipped % u64::from(u32::MAX)).unwrap_or_default());
                continue;
            }
            let is_kept = available.is_none_or(|numbers| numbers.is_empty() || numbers.contains(&number));
            match if is_kept { self.ask_again(session, id, number).await? } else { Again::Nothing } {
                Again::Message(message) => {
                    self.deliver(id, *message).await?;
                    fetched += 1;
                }
                Again::Nothing | Again::NoSubscription => {
                    self.set_last(id, number);
                    missing += 1;
                }
            }
        }
        info!(id, fetched, missing, "messages were left out and asked for again");
        if missing > 0 {
            self.tell_gap(GapReason::ConnectionLost, format!("the server could not give {missing} notification messages again")).await?;
        }
        Ok(())
    }

    /// Forgets lost subscriptions, says what that means, and has their items followed anew.
    pub(crate) async fn replace(&mut self, session: &Arc<Session>, lost: Vec<u32>, why: &str) -> Result<(), Halt> {
        if lost.is_empty() {
            return Ok(());
        }
        warn!(subscriptions = ?lost, why, "subscriptions are made anew");
        // A server that still has one of them would send it into this session for ever.
        subscription::delete(session, &lost).await;
        self.lose(&lost);
        self.replaced += 1;
        self.tell_gap(GapReason::ConnectionLost, format!("{why}: what it told meanwhile is lost")).await?;
        self.follow(session, |item| item.is_subscribed() && item.subscription.is_none() && !item.is_refused()).await
    }

    pub(crate) fn subscription(&self, id: u32) -> Option<&Subscription> {
        self.subscriptions.iter().find(|s| s.id == id)
    }

    pub(crate) fn subscription_mut(&mut self, id: u32) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|s| s.id == id)
    }

    pub(crate) fn set_last(&mut self, id: u32, number: u32) {
        if let Some(subscription) = self.subscription_mut(id) {
            subscription.last = number;
        }
    }
}
