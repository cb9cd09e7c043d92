//! What the log lost or refused becomes gap events.
//!
//! What was dropped because the log was full is told when the mirror comes to the place: until then it may grow, some of it may arrive from the
//! mirror's memory, and the event that tells it could itself be dropped. The log keeps it durably meanwhile. Without a mirror nobody
//! misses it: then a full log is a ring.

use std::sync::Arc;
use std::time::Duration;

use asset_stream::{Gap, GapReason, Timestamp};
use edge_buffer::{Appended, Cursor, Log, Loss, LossReason};
use service::error::chain;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::ingest::entry;

/// What the journal knows this message by; its catalog explains it.
const EVENTS_LOST: &str = "a00b87ea970e4d159cadd56ef5f4474d";

/// Looks for losses until `stop`; appends their gap events, durable, then says so. A crash in between tells a gap twice, never not.
pub(crate) async fn run(log: Log, own_asset: Arc<str>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let (log, own_asset) = (log.clone(), own_asset.clone());
        if let Err(error) = tokio::task::spawn_blocking(move || tell(&log, &own_asset)).await {
            error!(%error, "losses could not be looked for");
        }
    }
}

fn tell(log: &Log, own_asset: &Arc<str>) {
    let passed = log.cursor(Cursor::MIRROR).map_or(0, |cursor| cursor.sequence);
    // No cursor comes to the place of a loss of an earlier epoch any more.
    let is_final = |loss: &Loss| loss.reason != LossReason::DroppedOldest || loss.epoch != log.epoch() || loss.last <= passed;
    for loss in log.losses().into_iter().filter(is_final) {
        let now = Timestamp::now();
        let entries = gaps(&loss, log.epoch(), own_asset).iter().map(|gap| entry(&gap.to_sample(now))).collect();
        let at = match log.append_durable(entries) {
            Ok(Appended::Durable { last, .. }) => last,
            // Still full or failing, which the log has said: it is told later.
            Ok(Appended::Refused { .. }) => return,
            Err(error) => return error!(error = %chain(&error), "a gap could not be told"),
        };
        warn!(first = loss.first, last = loss.last, count = loss.count, reason = ?loss.reason, detail = %loss.detail, message_id = EVENTS_LOST, "events were lost");
        if let Err(error) = log.told(&loss, at) {
            return error!(error = %chain(&error), "the log does not know that a gap was told, it will be told again");
        }
    }
}

/// A gap event for each asset that is known to have lost something, and one of the edge's own asset for what nobody can assign.
fn gaps(loss: &Loss, present: u64, own_asset: &Arc<str>) -> Vec<Gap> {
    let reason = match loss.reason {
        LossReason::DroppedOldest => GapReason::DroppedOldest,
        LossReason::Damaged => GapReason::Damaged,
        LossReason::Refused => GapReason::RefusedNew,
    };
    let gap = |asset: Arc<str>, count: Option<u64>, asset_sequences: Option<(u64, u64)>| Gap {
        asset,
        item: None,
        reason,
        count,
        sequences: (loss.first > 0).then_some((loss.first, loss.last)),
        asset_sequences,
        epoch: (loss.epoch != present).then_some(loss.epoch),
        from: Timestamp::from_millis(loss.from),
        to: Timestamp::from_millis(loss.to),
        detail: loss.detail.clone(),
    };
    if loss.keys.is_empty() {
        return vec![gap(own_asset.clone(), loss.count, None)];
    }
    let of_key = |key: &edge_buffer::KeyLoss| match &key.key {
        Some(asset) => gap(asset.clone(), key.count, (key.first > 0).then_some((key.first, key.last))),
        None => gap(own_asset.clone(), key.count, None),
    };
    loss.keys.iter().map(of_key).collect()
}
