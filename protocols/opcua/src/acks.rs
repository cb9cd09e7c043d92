//! Acknowledgements to the server: each waits until the samples of its message are durable.

use std::collections::VecDeque;

use gateway::{Closed, Receipt};
use opcua::types::SubscriptionAcknowledgement;

/// Messages that may wait for the log. More would only sit in memory: the server keeps the rest.
const MOST: usize = 32;

/// What the log still has to confirm, and what may be told to the server.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    waiting: VecDeque<(SubscriptionAcknowledgement, Receipt)>,
    ready: Vec<SubscriptionAcknowledgement>,
}

impl Acks {
    /// Whether another message may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < MOST
    }

    /// To be acknowledged once the log has the samples, or has refused them and has the gap event that says so.
    pub(crate) fn after(&mut self, subscription_id: u32, sequence_number: u32, receipt: Receipt) {
        self.waiting.push_back((SubscriptionAcknowledgement { subscription_id, sequence_number }, receipt));
    }

    /// To be acknowledged as soon as possible: there was nothing to keep, or it was handed over before. A repeated message whose first
    /// copy still waits for the log waits with it.
    pub(crate) fn now(&mut self, subscription_id: u32, sequence_number: u32) {
        let ack = SubscriptionAcknowledgement { subscription_id, sequence_number };
        if !self.waiting.iter().any(|(waiting, _)| *waiting == ack) {
            self.ready.push(ack);
        }
    }

    /// What the next Publish request tells.
    pub(crate) fn take(&mut self) -> Vec<SubscriptionAcknowledgement> {
        std::mem::take(&mut self.ready)
    }

    /// A Publish request failed: what it told is told again.
    pub(crate) fn give_back(&mut self, told: Vec<SubscriptionAcknowledgement>) {
        self.ready.extend(told);
    }

    /// Nothing of this subscription needs to be told any more.
    pub(crate) fn forget(&mut self, subscription_id: u32) {
        self.waiting.retain(|(ack, _)| ack.subscription_id != subscription_id);
        self.ready.retain(|ack| ack.subscription_id != subscription_id);
    }

    /// Waits until the oldest message's fate is known; for ever if there is none. Cancel safe.
    pub(crate) async fn settle(&mut self) -> Result<(), Closed> {
        let Some((_, receipt)) = self.waiting.front_mut() else { return std::future::pending().await };
        receipt.outcome().await?;
        self.ready.extend(self.waiting.pop_front().map(|(ack, _)| ack));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Acks;
    use asset_stream::{Kind, Sample, Timestamp};
    use gateway::{DeviceLink, Outcome, SampleReceiver, channel};

    fn numbers(acks: &mut Acks) -> Vec<u32> {
        acks.take().iter().map(|ack| ack.sequence_number).collect()
    }

    /// Messages 7 and 8 of subscription 1, and the log that has neither yet.
    async fn two_waiting() -> (Acks, SampleReceiver) {
        let (sender, receiver) = channel(1 << 20);
        let link = DeviceLink::new("press", "PRESS-1", sender);
        let at = Timestamp::from_millis(0);
        let mut acks = Acks::default();
        for number in [7, 8] {
            let sample = Sample::good(link.item("temp", "Temperature", Kind::Samples), 1.0, at, at);
            acks.after(1, number, link.send(vec![sample]).await.expect("open"));
        }
        (acks, receiver)
    }

    #[tokio::test]
    async fn a_message_is_acknowledged_only_when_the_log_has_it() {
        let (mut acks, mut log) = two_waiting().await;
        let waited = tokio::select! { biased; _ = acks.settle() => false, () = tokio::task::yield_now() => true };
        assert!(waited && numbers(&mut acks).is_empty(), "acknowledged before the log had it");
        log.recv().await.expect("first").finish(Outcome::Durable);
        acks.settle().await.expect("open");
        assert_eq!(numbers(&mut acks), [7], "the second message is not durable yet");
    }

    #[tokio::test]
    async fn a_repeated_message_is_acknowledged_only_when_the_log_has_its_first_copy() {
        let (mut acks, mut log) = two_waiting().await;
        acks.now(1, 7);
        acks.now(2, 7);
        assert_eq!(acks.take().iter().map(|ack| ack.subscription_id).collect::<Vec<_>>(), [2], "only the other subscription's may go");
        log.recv().await.expect("first").finish(Outcome::Durable);
        acks.settle().await.expect("open");
        acks.now(1, 7);
        assert_eq!(numbers(&mut acks), [7, 7], "the server may forget it, and hears so again when it repeats it");
    }
}
