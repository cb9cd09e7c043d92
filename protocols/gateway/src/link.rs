//! The one way from gateways to the log: bounded, ordered, never dropping.

use std::sync::{Arc, Mutex, PoisonError};

use asset_stream::facts::{self, Availability};
use asset_stream::{DataItem, Gap, GapReason, Kind, Sample, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tracing::{debug, info, warn};

use crate::status::{Connection, DeviceStatus};

/// What the journal knows these messages by; its catalog explains them.
const ANSWERS: &str = "ce2bcae9b25c4161ad45a063b0a0a1cd";
const DOES_NOT_ANSWER: &str = "30530abcc0184197b80b84b4a3dd338b";

/// Batches on their way, besides the limit in bytes.
const BATCHES: usize = 1024;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every sample is on disk.
    Durable,
    /// The log did not take all of it (full, as configured), and the gap event that tells the loss is itself on disk: the device need not
    /// keep it either. A batch is not finished so before.
    Refused,
}

/// Samples that travel together: they are appended in this order.
#[derive(Debug)]
pub struct Batch {
    /// In the order in which they were observed.
    pub samples: Vec<Sample>,
    done: oneshot::Sender<Outcome>,
    _bytes: OwnedSemaphorePermit,
}

impl Batch {
    /// Tells the gateway what became of it, and frees the batch's share of the limit.
    pub fn finish(self, outcome: Outcome) {
        // A gateway that does not wait for the outcome has dropped its receipt.
        self.done.send(outcome).ok();
    }

    /// Takes the samples out; the rest stays to be finished.
    pub fn take_samples(&mut self) -> Vec<Sample> {
        std::mem::take(&mut self.samples)
    }
}

/// Resolves when the batch's fate is known. Dropping it is fine.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Outcome>);

impl Receipt {
    /// Waits for the batch's fate; [`Closed`] when the edge stopped before it was known. Cancel safe.
    pub async fn outcome(&mut self) -> Result<Outcome, Closed> {
        (&mut self.0).await.map_err(|_| Closed)
    }

    /// The batch's fate if it is known by now; [`Closed`] as above.
    pub fn known(&mut self) -> Option<Result<Outcome, Closed>> {
        match self.0.try_recv() {
            Ok(outcome) => Some(Ok(outcome)),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(Closed)),
        }
    }
}

/// The edge is stopping: nothing more is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the edge is stopping and takes no more samples")]
pub struct Closed;

/// A channel for all gateways of an edge that holds at most `limit` bytes of samples (about: [`Sample::size_hint`]).
pub fn channel(limit: usize) -> (SampleSender, SampleReceiver) {
    let limit = limit.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
    let (tx, rx) = mpsc::channel(BATCHES);
    (SampleSender { tx, bytes: Arc::new(Semaphore::new(limit)), limit }, SampleReceiver(rx))
}

/// The gateways' end.
#[derive(Clone, Debug)]
pub struct SampleSender {
    tx: mpsc::Sender<Batch>,
    bytes: Arc<Semaphore>,
    limit: usize,
}

impl SampleSender {
    /// Hands samples over, waiting while the limit is reached. Cancel safe: a cancelled call has sent nothing.
    pub async fn send(&self, samples: Vec<Sample>) -> Result<Receipt, Closed> {
        let size: usize = samples.iter().map(Sample::size_hint).sum();
        // A batch larger than the whole limit waits until it is alone.
        let permits = u32::try_from(size.clamp(1, self.limit)).unwrap_or(u32::MAX);
        let place = self.tx.reserve().await.map_err(|_| Closed)?;
        let bytes = self.bytes.clone().acquire_many_owned(permits).await.map_err(|_| Closed)?;
        let (done, receipt) = oneshot::channel();
        place.send(Batch { samples, done, _bytes: bytes });
        Ok(Receipt(receipt))
    }
}

/// The log's end.
#[derive(Debug)]
pub struct SampleReceiver(mpsc::Receiver<Batch>);

impl SampleReceiver {
    /// The next batch; `None` when every sender is gone and everything was taken.
    pub async fn recv(&mut self) -> Option<Batch> {
        self.0.recv().await
    }
}

/// What a gateway holds of its device: a way to send, and the device's status.
#[derive(Clone, Debug)]
pub struct DeviceLink {
    name: Arc<str>,
    asset: Arc<str>,
    sender: SampleSender,
    status: Arc<DeviceStatus>,
    /// Nobody listens; taken when it is told.
    unheard: Arc<Mutex<Option<Unheard>>>,
}

/// Nobody listens to a device.
#[derive(Clone, Copy, Debug)]
struct Unheard {
    since: Timestamp,
    reason: GapReason,
    /// A sentence.
    why: &'static str,
}

impl DeviceLink {
    /// A link for the device `name` (the key in its device file) whose asset is `asset`.
    pub fn new(name: impl Into<Arc<str>>, asset: impl Into<Arc<str>>, sender: SampleSender) -> Self {
        let (status, unheard) = (Arc::new(DeviceStatus::default()), Arc::default());
        Self { name: name.into(), asset: asset.into(), sender, status, unheard }
    }

    /// What the device says from `since` on is not heard, because of `reason`, and `why` in a sentence; told as a gap when it answers, or when the edge stops.
    pub fn nobody_listens(&self, since: Timestamp, reason: GapReason, why: &'static str) {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(Unheard { since, reason, why });
    }

    /// The device's key in its device file.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The asset's UUID.
    pub fn asset(&self) -> &Arc<str> {
        &self.asset
    }

    /// Counters and connection state, shared with the status page.
    pub fn status(&self) -> &Arc<DeviceStatus> {
        &self.status
    }

    /// A data item of this device.
    pub fn item(&self, id: impl Into<Arc<str>>, tag: impl Into<Arc<str>>, kind: Kind) -> Arc<DataItem> {
        Arc::new(DataItem { asset: self.asset.clone(), id: id.into(), tag: tag.into(), kind })
    }

    /// Hands samples over in order, waiting while the edge is behind. Cancel safe: a cancelled call has sent nothing.
    pub async fn send(&self, samples: Vec<Sample>) -> Result<Receipt, Closed> {
        let count = samples.len() as u64;
        self.status.look_at(&samples);
        let receipt = self.sender.send(samples).await?;
        self.status.count_samples(count);
        Ok(receipt)
    }

    /// The device answers: `avail` becomes AVAILABLE if it was not.
    pub async fn connected(&self) -> Result<(), Closed> {
        match self.status.set(Connection::Connected) {
            Some(Connection::Connected) => Ok(()),
            _ => {
                info!(message_id = ANSWERS, "the device answers");
                self.tell_unheard().await?;
                self.tell(Availability::Available).await
            }
        }
    }

    /// The device does not answer, and why, in plain words: `avail` becomes UNAVAILABLE if it was not. This logs it, gateways need not.
    pub async fn lost(&self, reason: impl Into<String>) -> Result<(), Closed> {
        let reason = reason.into();
        let was_lost = self.status.set(Connection::Lost) == Some(Connection::Lost);
        // Retries go on for as long as it takes, mostly for the same reason.
        if was_lost && self.status.last_error().is_some_and(|(last, _)| last == reason) {
            debug!(%reason, "the device still does not answer");
        } else {
            warn!(%reason, message_id = DOES_NOT_ANSWER, "the device does not answer");
        }
        self.status.set_error(reason);
        if was_lost { Ok(()) } else { self.tell(Availability::Unavailable).await }
    }

    /// Nobody asks the device any more: `avail` becomes UNAVAILABLE if it was not.
    pub(crate) async fn stopped(&self) -> Result<(), Closed> {
        self.tell_unheard().await?;
        match self.status.set(Connection::Lost) {
            Some(Connection::Lost) => Ok(()),
            _ => self.tell(Availability::Unavailable).await,
        }
    }

    async fn tell_unheard(&self) -> Result<(), Closed> {
        let unheard = self.unheard.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Unheard { since, reason, why }) = unheard else { return Ok(()) };
        let now = Timestamp::now();
        // A clock that was set between the two must not turn the gap around.
        self.gap(&Gap::before_log(self.asset.clone(), reason, since.min(now), now, why.to_owned())).await
    }

    /// The device lost something, or the gateway could not get it: says so as an event.
    pub async fn gap(&self, gap: &Gap) -> Result<(), Closed> {
        self.send_after(std::slice::from_ref(gap), Vec::new()).await.map(drop)
    }

    /// As [`Self::send`], with what the device lost before these samples: one batch, so that its receipt stands for both.
    pub async fn send_after(&self, gaps: &[Gap], samples: Vec<Sample>) -> Result<Receipt, Closed> {
        if gaps.is_empty() {
            return self.send(samples).await;
        }
        let now = Timestamp::now();
        let receipt = self.send(gaps.iter().map(|gap| gap.to_sample(now)).chain(samples).collect()).await?;
        self.status.count_gaps(gaps.len() as u64);
        Ok(receipt)
    }

    async fn tell(&self, availability: Availability) -> Result<(), Closed> {
        self.send(vec![facts::availability(self.asset.clone(), availability, Timestamp::now())]).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::{DeviceLink, Outcome, channel};
    use asset_stream::{GapReason, Kind, Quality, Sample, Timestamp};

    #[tokio::test]
    async fn data_items_without_a_value_are_known_until_they_have_one() {
        let (sender, _receiver) = channel(1 << 20);
        let link = DeviceLink::new("press", "PRESS-1", sender);
        let (now, item) = (Timestamp::now(), |id: &str| link.item(id, "T", Kind::Samples));
        let refused = |id: &str| Sample::bad(item(id), "BadNodeIdUnknown".to_owned(), now, now);
        link.send(vec![refused("b"), refused("a"), refused("b")]).await.expect("open");
        assert_eq!(link.status().without_value(), Some((2, "a".into(), "BadNodeIdUnknown".into())));
        let mut good = refused("a");
        good.quality = Quality::Good;
        link.send(vec![good, refused("b")]).await.expect("open");
        assert_eq!(link.status().without_value(), Some((1, "b".into(), "BadNodeIdUnknown".into())));
    }

    #[tokio::test]
    async fn avail_is_told_on_change_only() {
        let (sender, mut receiver) = channel(1 << 20);
        let link = DeviceLink::new("press", "PRESS-1", sender);
        for _ in 0..2 {
            link.lost("no route to host").await.expect("open");
        }
        for _ in 0..2 {
            link.connected().await.expect("open");
        }
        link.lost("reset").await.expect("open");
        drop(link);
        let mut told = Vec::new();
        while let Some(batch) = receiver.recv().await {
            told.extend(batch.samples.iter().map(|s| format!("{:?}", s.value)));
        }
        assert_eq!(told, ["Text(\"UNAVAILABLE\")", "Text(\"AVAILABLE\")", "Text(\"UNAVAILABLE\")"]);
    }

    #[tokio::test]
    async fn what_nobody_heard_is_told_once_before_the_device_is_available() {
        let (sender, mut receiver) = channel(1 << 20);
        let link = DeviceLink::new("press", "PRESS-1", sender);
        link.nobody_listens(Timestamp::from_millis(1_000), GapReason::EdgeCrashed, "the edge crashed");
        link.connected().await.expect("open");
        link.lost("reset").await.expect("open");
        link.connected().await.expect("open");
        drop(link);
        let mut ids = Vec::new();
        while let Some(batch) = receiver.recv().await {
            ids.extend(batch.samples.iter().map(|sample| sample.item.id.to_string()));
        }
        assert_eq!(ids, ["gap", "avail", "avail", "avail"]);
    }

    #[tokio::test]
    async fn what_nobody_heard_is_told_when_the_edge_stops_before_the_device_answers() {
        let (sender, mut receiver) = channel(1 << 20);
        let link = DeviceLink::new("press", "PRESS-1", sender);
        link.lost("the gateway failed").await.expect("open");
        link.nobody_listens(Timestamp::from_millis(1_000), GapReason::GatewayFailed, "the gateway failed");
        link.stopped().await.expect("open");
        drop(link);
        let mut ids = Vec::new();
        while let Some(batch) = receiver.recv().await {
            ids.extend(batch.samples.iter().map(|sample| sample.item.id.to_string()));
        }
        assert_eq!(ids, ["avail", "gap"]);
    }

    #[tokio::test]
    async fn a_sender_waits_while_the_limit_is_reached() {
        let (sender, mut receiver) = channel(1);
        let link = DeviceLink::new("press", "PRESS-1", sender);
        link.connected().await.expect("open");
        {
            let mut second = std::pin::pin!(link.lost("reset"));
            let waited = tokio::select! { biased; _ = &mut second => false, () = tokio::task::yield_now() => true };
            assert!(waited, "the second batch went through although the first fills the limit");
            receiver.recv().await.expect("first").finish(Outcome::Durable);
            second.await.expect("open");
        }
    }
}
