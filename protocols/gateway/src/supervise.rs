//! One device's failure stays with that device.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use asset_stream::{GapReason, Timestamp};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, error, info_span};

use crate::{Backoff, DeviceLink};

/// A gateway at work.
pub type RunFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A device's connector, parsed and valid: it can be run, and run again.
pub trait Gateway: Send + Sync + 'static {
    /// Connects, reads and reconnects until `stop` is cancelled or the link is closed. Network failures are its own business; it
    /// reports them with [`DeviceLink::lost`]. Returning earlier than asked counts as a failure and starts it anew.
    fn run(&self, link: DeviceLink, stop: CancellationToken) -> RunFuture;
}

/// A gateway that ran this long is not blamed for its earlier failures.
const PROVEN: Duration = Duration::from_secs(60);

/// Runs a gateway until `stop`, starting it anew with backoff if it panics or ends by itself; tells `avail` at the end.
pub async fn supervise(gateway: Arc<dyn Gateway>, link: DeviceLink, stop: CancellationToken) {
    let span = info_span!("device", device = %link.name(), asset = %link.asset());
    async {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
        while !stop.is_cancelled() {
            let started = Instant::now();
            // A task of its own: a panic ends the task, not the supervisor. It ends with this future, also where it is too stuck to stop.
            let run = gateway.run(link.clone(), stop.clone()).in_current_span();
            let ended = AbortOnDropHandle::new(tokio::spawn(run)).await;
            if stop.is_cancelled() {
                break;
            }
            let reason = match ended {
                Ok(()) => "the gateway ended by itself".to_owned(),
                Err(failure) => format!("the gateway failed: {failure}"),
            };
            error!(%reason, "the gateway is started anew");
            // What it had taken from the device and not handed over yet is lost with it.
            let since = link.status().last_samples().unwrap_or_else(Timestamp::now);
            link.nobody_listens(since, GapReason::GatewayFailed, "the gateway of the device failed and was started anew");
            link.status().count_restart();
            if link.lost(reason).await.is_err() {
                return;
            }
            if started.elapsed() > PROVEN {
                backoff.reset();
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(backoff.next_delay()) => {}
            }
        }
        // When the edge is stopping and its log is closed already, there is nobody left to tell.
        link.stopped().await.ok();
    }
    .instrument(span)
    .await;
}

#[cfg(test)]
mod tests {
    use super::{Gateway, RunFuture, supervise};
    use crate::{DeviceLink, channel};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio_util::sync::CancellationToken;

    struct PanicsOnce(Arc<AtomicU32>);

    impl Gateway for PanicsOnce {
        fn run(&self, link: DeviceLink, stop: CancellationToken) -> RunFuture {
            let runs = self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                link.connected().await.expect("open");
                assert!(runs > 0, "a device answered in a way nobody expected");
                stop.cancelled().await;
            })
        }
    }

    #[tokio::test]
    async fn a_panicking_gateway_is_started_anew_and_its_asset_told_unavailable_meanwhile() {
        let (sender, mut receiver) = channel(1 << 20);
        let link = DeviceLink::new("press", "PRESS-1", sender);
        let (stop, status) = (CancellationToken::new(), link.status().clone());
        let supervisor = tokio::spawn(supervise(Arc::new(PanicsOnce(Arc::default())), link, stop.clone()));
        let mut told = Vec::new();
        while let Some(batch) = receiver.recv().await {
            told.extend(batch.samples.iter().map(|s| match format!("{:?}", s.value) {
                gap if gap.contains("gateway_failed") => "gap".to_owned(),
                value => value,
            }));
            if told.len() == 4 {
                stop.cancel();
            }
        }
        supervisor.await.expect("the supervisor itself never fails");
        assert_eq!(told, ["Text(\"AVAILABLE\")", "Text(\"UNAVAILABLE\")", "gap", "Text(\"AVAILABLE\")", "Text(\"UNAVAILABLE\")"]);
        assert_eq!(status.restarts(), 1);
    }
}
