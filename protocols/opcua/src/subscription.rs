//! Creating subscriptions and their items.

use std::time::Duration;

use opcua::client::services::{CreateMonitoredItems, CreateSubscription, DeleteSubscriptions};
use opcua::client::{Session, UARequest};
use opcua::types::{
    AttributeId, DataChangeFilter, DataChangeTrigger, DeadbandType, ExtensionObject, MonitoredItemCreateRequest, MonitoredItemCreateResult,
    MonitoringMode, MonitoringParameters, NodeId, ReadValueId, StatusCode, TimestampsToReturn,
};
use tracing::{debug, warn};

use crate::config::Config;
use crate::events;
use crate::items::{Follow, Item};
use crate::limits::{Limits, SLOW, in_pieces};

/// How often the server says that it has nothing to say.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Values in one notification: keeps a backlog's messages at about a megabyte. Some servers ignore it.
pub(crate) const NOTIFICATIONS: u32 = 10_000;

/// A subscription on the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Subscription {
    /// The server's id.
    pub(crate) id: u32,
    /// The last notification message that was received; 0 before the first.
    pub(crate) last: u32,
    /// The first of the messages that one publishing was cut into, by its number, and whether there is more of it.
    publishing: (u32, bool),
    /// The server has sent nothing yet.
    pub(crate) is_fresh: bool,
    /// How often the server speaks at least.
    pub(crate) keep_alive: Duration,
    /// All its items were created.
    pub(crate) is_whole: bool,
    /// The server takes no more items into it.
    pub(crate) is_full: bool,
    /// The session is another since it was created, and it was taken over.
    pub(crate) was_transferred: bool,
}

impl Subscription {
    /// The first message of the publishing that the message `number` belongs to: a server's queues may come in several.
    pub(crate) fn publishing(&mut self, number: u32) -> u32 {
        if !self.publishing.1 {
            self.publishing.0 = number;
        }
        self.publishing = (self.publishing.0, false);
        self.publishing.0
    }

    /// The last message was cut: the next one belongs to the same publishing.
    pub(crate) fn has_more(&mut self) {
        self.publishing.1 = true;
    }
}

/// Creates an empty subscription.
pub(crate) async fn create(session: &Session, config: &Config) -> Result<Subscription, StatusCode> {
    let interval = config.subscription.publishing_interval;
    let count = |time: Duration| u32::try_from(time.as_millis() / interval.as_millis().max(1)).unwrap_or(u32::MAX).max(1);
    let keep_alives = count(KEEP_ALIVE);
    let request = CreateSubscription::new(session)
        .publishing_interval(interval)
        .max_keep_alive_count(keep_alives)
        // It outlives us as long as the session does: what the server gives again after an outage ends with it.
        .max_lifetime_count(count(config.session.session_timeout).max(keep_alives.saturating_mul(3)))
        .max_notifications_per_publish(NOTIFICATIONS)
        .timeout(SLOW);
    let answer = request.send(session.channel()).await.map_err(|e| e.status())?;
    let keep_alive = f64::from(answer.revised_max_keep_alive_count) * answer.revised_publishing_interval.max(1.0);
    debug!(
        id = answer.subscription_id,
        interval_ms = answer.revised_publishing_interval,
        keep_alive_count = answer.revised_max_keep_alive_count,
        lifetime_count = answer.revised_lifetime_count,
        "subscription created"
    );
    Ok(Subscription {
        id: answer.subscription_id,
        last: 0,
        publishing: (0, false),
        is_fresh: true,
        keep_alive: Duration::from_millis(keep_alive.clamp(100.0, 3_600_000.0) as u64),
        is_whole: false,
        is_full: false,
        was_transferred: false,
    })
}

/// Deletes subscriptions; what the server says about it does not matter, as long as it hears it.
pub(crate) async fn delete(session: &Session, ids: &[u32]) {
    if ids.is_empty() {
        return;
    }
    let request = DeleteSubscriptions::new(session).subscription_ids(ids.to_vec());
    if let Err(error) = request.send(session.channel()).await {
        debug!(?ids, status = %error.status(), "the server did not delete subscriptions");
    }
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is part of the subscription; the server keeps so many values of it.
    Yes { queue_size: u32 },
    /// The subscription is full.
    Full,
    /// The server does not take it.
    Refused(StatusCode),
}

/// Adds items (places in `items`) to a subscription, each with an answer of its own, in order. A deadband that the server does not know is
/// left out.
pub(crate) async fn add(
    session: &Session,
    limits: &Limits,
    subscription: u32,
    items: &[Item],
    places: &[usize],
) -> Result<Vec<Added>, StatusCode> {
    let requests: Vec<MonitoredItemCreateRequest> = places.iter().map(|&place| request(place, &items[place])).collect();
    let mut answers = create_items(session, limits, subscription, &requests).await?;
    let is_filter = |created: &Created| {
        [
            StatusCode::BadDeadbandFilterInvalid,
            StatusCode::BadFilterNotAllowed,
            StatusCode::BadMonitoredItemFilterInvalid,
            StatusCode::BadMonitoredItemFilterUnsupported,
        ]
        .contains(&created.status)
    };
    let with_deadband = |at: &usize| matches!(items[places[*at]].follow, Follow::Variable { deadband: Some(_), .. });
    let again: Vec<usize> = (0..places.len()).filter(|at| is_filter(&answers[*at]) && with_deadband(at)).collect();
    if !again.is_empty() {
        let names: Vec<&str> = again.iter().take(10).map(|at| &*items[places[*at]].data.id).collect();
        warn!(count = again.len(), first = ?names, "the server knows no deadband for these variables: they are told at each change");
        let plain: Vec<MonitoredItemCreateRequest> = again.iter().map(|at| without_filter(requests[*at].clone())).collect();
        let second = create_items(session, limits, subscription, &plain).await?;
        again.iter().zip(second).for_each(|(at, answer)| answers[*at] = answer);
    }
    tell_small_queues(items, places, &requests, &answers);
    let added = |created: Created| match created.status {
        StatusCode::BadTooManyMonitoredItems => Added::Full,
        status if status.is_bad() => Added::Refused(status),
        _ => Added::Yes { queue_size: created.queue_size },
    };
    Ok(answers.into_iter().map(added).collect())
}

/// What the server made of a request.
#[derive(Clone, Copy)]
struct Created {
    status: StatusCode,
    /// As the server revised it; 0 where it does not say.
    queue_size: u32,
}

/// Outages cost more than the device file says where the server keeps less than it asks for.
fn tell_small_queues(items: &[Item], places: &[usize], requests: &[MonitoredItemCreateRequest], answers: &[Created]) {
    let is_small = |at: &usize| {
        let (asked, created) = (requests[*at].requested_parameters.queue_size, answers[*at]);
        !created.status.is_bad() && (1..asked).contains(&created.queue_size)
    };
    let small: Vec<usize> = (0..answers.len()).filter(is_small).collect();
    if let Some(&at) = small.first() {
        let (first, asked, kept) = (&items[places[at]].data.id, requests[at].requested_parameters.queue_size, answers[at].queue_size);
        warn!(count = small.len(), %first, asked, kept, "the server keeps fewer values than queue_size asks for: shorter outages lose values");
    }
}

async fn create_items(
    session: &Session,
    limits: &Limits,
    subscription: u32,
    requests: &[MonitoredItemCreateRequest],
) -> Result<Vec<Created>, StatusCode> {
    in_pieces(limits.monitored_items(), requests, |requests| async move {
        let request = CreateMonitoredItems::new(subscription, session)
            .timestamps_to_return(TimestampsToReturn::Both)
            .items_to_create(requests)
            .timeout(SLOW);
        let created = request.send(session.channel()).await?.results;
        let of = |item: MonitoredItemCreateResult| Created { status: item.status_code, queue_size: item.revised_queue_size };
        Ok(created.into_iter().map(|item| of(item.result)).collect())
    })
    .await
}

/// The client handle of an item: its place, from 1, because the library replaces 0.
fn handle(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX - 1) + 1
}

/// The place of the item with this client handle.
pub(crate) fn place(handle: u32) -> Option<usize> {
    (handle as usize).checked_sub(1)
}

fn request(place: usize, item: &Item) -> MonitoredItemCreateRequest {
    let (attribute, sampling_interval, queue_size, filter) = match item.follow {
        Follow::Variable { deadband, queue_size, sampling_interval } => {
            (AttributeId::Value, sampling_interval, queue_size, deadband.map_or_else(ExtensionObject::null, absolute))
        }
        Follow::Events { queue_size, minimum_severity } => (AttributeId::EventNotifier, 0.0, queue_size, events::filter(minimum_severity)),
        Follow::Constant { .. } => (AttributeId::Value, -1.0, 1, ExtensionObject::null()),
    };
    MonitoredItemCreateRequest {
        item_to_monitor: ReadValueId {
            node_id: item.node.clone().unwrap_or_else(NodeId::null),
            attribute_id: attribute as u32,
            ..ReadValueId::default()
        },
        monitoring_mode: MonitoringMode::Reporting,
        requested_parameters: MonitoringParameters {
            client_handle: handle(place),
            sampling_interval,
            filter,
            queue_size,
            discard_oldest: true,
        },
    }
}

fn absolute(deadband: f64) -> ExtensionObject {
    ExtensionObject::from_message(DataChangeFilter {
        trigger: DataChangeTrigger::StatusValue,
        deadband_type: DeadbandType::Absolute as u32,
        deadband_value: deadband,
    })
}

fn without_filter(mut request: MonitoredItemCreateRequest) -> MonitoredItemCreateRequest {
    request.requested_parameters.filter = ExtensionObject::null();
    request
}
