//! What a gateway knows of its device, across connections and sessions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use asset_stream::{Gap, GapReason, Sample, Timestamp, Value};
use gateway::{Closed, DeviceLink, Receipt};
use opcua::client::Session;
use opcua::types::{AttributeId, DateTime, NodeId, ReadValueId, StatusCode, TimestampsToReturn, VariableId, Variant};
use tracing::{info, warn};

use crate::acks::Acks;
use crate::config::Config;
use crate::convert::{convert, kind_of_value};
use crate::events::{self, EventReader};
use crate::heard::Heard;
use crate::items::{Follow, Item};
use crate::limits::{self, Limits};
use crate::meaning::read_meanings;
use crate::methods::discover_methods;
use crate::nodes::{self, Address};
use crate::offer::{Desk, Offered};
use crate::recovery::is_connection;
use crate::subscription::{self, Added, Subscription};

/// Why work with the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The server refused, or is gone.
    Server(StatusCode),
    /// The edge takes no more samples.
    Closed,
}

impl From<StatusCode> for Halt {
    fn from(status: StatusCode) -> Self {
        Self::Server(status)
    }
}

impl From<Closed> for Halt {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

/// A device: its items, its subscriptions on the server, and how far they were read.
pub(crate) struct Device {
    pub(crate) config: Arc<Config>,
    pub(crate) link: DeviceLink,
    pub(crate) limits: Limits,
    pub(crate) items: Vec<Item>,
    pub(crate) subscriptions: Vec<Subscription>,
    /// The session that has the subscriptions, by the server's id.
    pub(crate) owner: NodeId,
    pub(crate) acks: Acks,
    pub(crate) events: EventReader,
    /// Up to when everything has arrived.
    pub(crate) heard: Heard,
    /// When the server started, by its own clock.
    pub(crate) started: Option<DateTime>,
    /// The message (subscription, number) that could not be decoded when recovery asked for it, and how often.
    pub(crate) undecodable: Option<(u32, u32, u32)>,
    /// The server asked us to ask for its present alarms.
    pub(crate) needs_refresh: bool,
    /// How often subscriptions were made anew.
    pub(crate) replaced: u64,
    /// Everything that does not change while the server runs was read.
    is_known: bool,
    /// How often its subscriptions stood.
    pub(crate) times_connected: u64,
    methods: HashMap<Arc<str>, Value>,
    /// The methods as commands call them; `None`: the server could not be asked.
    pub(crate) offered: Option<Arc<Vec<Offered>>>,
    /// Where commands find what they need.
    pub(crate) desk: Desk,
}

impl Device {
    pub(crate) fn new(config: Arc<Config>, link: DeviceLink, desk: Desk) -> Self {
        Self {
            items: Item::all(&config, &link),
            events: EventReader::new(link.asset().clone()),
            config,
            link,
            limits: Limits::default(),
            subscriptions: Vec::new(),
            owner: NodeId::null(),
            acks: Acks::default(),
            heard: Heard::default(),
            started: None,
            undecodable: None,
            needs_refresh: false,
            replaced: 0,
            is_known: false,
            times_connected: 0,
            methods: HashMap::new(),
            offered: None,
            desk,
        }
    }

    /// A session is open: takes up what the server still has for us, says what is lost, and makes anew what is missing.
    pub(crate) async fn connected(&mut self, session: &Arc<Session>) -> Result<(), Halt> {
        let started = start_time(session).await?;
        if self.started.is_some() && started.is_some() && self.started != started {
            // Ids of subscriptions start anew with the server, and may be somebody else's now.
            info!("the server was restarted");
            self.abandon();
            self.tell_gap(GapReason::ConnectionLost, "the server was restarted: what it told before that is lost".to_owned()).await?;
        }
        if started.is_some() {
            self.started = started;
        }
        self.recover(session).await?;
        if !self.is_known {
            tolerate("reading the server's limits", self.limits.learn(session).await)?;
            if self.items.iter().any(|item| matches!(item.follow, Follow::Events { .. })) {
                tolerate("reading the names of event types", self.events.load_type_names(session, &self.limits).await)?;
            }
            self.read_methods(session).await?;
        }
        let all = |item: &Item| item.subscription.is_none();
        self.follow(session, all).await?;
        self.is_known = true;
        self.lay_out();
        Ok(())
    }

    /// The server knows nothing of us any more.
    fn abandon(&mut self) {
        for subscription in std::mem::take(&mut self.subscriptions) {
            self.acks.forget(subscription.id);
        }
        for item in &mut self.items {
            item.subscription = None;
            item.node = None;
        }
        self.undecodable = None;
        self.is_known = false;
    }

    /// These subscriptions are lost: their items have none.
    pub(crate) fn lose(&mut self, ids: &[u32]) {
        for id in ids {
            self.acks.forget(*id);
        }
        self.subscriptions.retain(|subscription| !ids.contains(&subscription.id));
        for item in &mut self.items {
            if item.subscription.is_some_and(|id| ids.contains(&id)) {
                item.subscription = None;
            }
        }
    }

    /// Says that what the server had to tell since it was last heard is lost, as far as anyone can know.
    pub(crate) async fn tell_gap(&mut self, reason: GapReason, detail: String) -> Result<(), Closed> {
        // Before there was a subscription there is nothing to miss.
        let Some(from) = self.heard.since() else { return Ok(()) };
        let to = Timestamp::now();
        self.heard.told(to, self.subscriptions.iter().map(|subscription| subscription.id));
        // A clock that was set between the two must not turn the gap around.
        let from = from.min(to);
        self.link.gap(&Gap::before_log(self.link.asset().clone(), reason, from, to, detail)).await
    }

    /// Finds, understands and follows the items that `which` selects. What the server refuses is told as a bad sample.
    pub(crate) async fn follow(&mut self, session: &Arc<Session>, which: impl Fn(&Item) -> bool) -> Result<(), Halt> {
        let places: Vec<usize> = (0..self.items.len()).filter(|place| which(&self.items[*place])).collect();
        if places.is_empty() {
            return Ok(());
        }
        let mut refused = Vec::new();
        let found = self.find(session, &places, &mut refused).await?;
        self.understand(session, &found).await?;
        let (subscribed, constants): (Vec<usize>, Vec<usize>) = found.into_iter().partition(|place| self.items[*place].is_subscribed());
        self.read_constants(session, &constants, &mut refused).await?;
        self.subscribe(session, subscribed, &mut refused).await?;
        self.lay_out();
        self.tell_refused(refused).await
    }

    /// Looks for the items' nodes; gives the places of those that were found.
    async fn find(&mut self, session: &Session, places: &[usize], refused: &mut Vec<(usize, StatusCode)>) -> Result<Vec<usize>, Halt> {
        let addresses: Vec<&Address> = places.iter().map(|place| &self.items[*place].address).collect();
        let nodes = nodes::resolve(session, &self.limits, &addresses).await?;
        let mut found = Vec::with_capacity(places.len());
        for (place, node) in places.iter().zip(nodes) {
            match node {
                Ok(node) => {
                    self.items[*place].node = Some(node);
                    found.push(*place);
                }
                Err(status) => refused.push((*place, status)),
            }
        }
        Ok(found)
    }

    /// Reads what the items' data types mean.
    async fn understand(&mut self, session: &Session, places: &[usize]) -> Result<(), Halt> {
        let is_value = |place: &&usize| !matches!(self.items[**place].follow, Follow::Events { .. });
        let (values, nodes): (Vec<usize>, Vec<NodeId>) =
            places.iter().filter(is_value).filter_map(|place| Some((*place, self.items[*place].node.clone()?))).unzip();
        let meanings = tolerate("reading data types", read_meanings(session, &self.limits, &nodes).await)?;
        for (place, meaning) in values.iter().zip(meanings.unwrap_or_default()) {
            self.items[*place].learn(meaning);
        }
        self.understand_writing(session, &values).await
    }

    /// Reads constants, and tells those that are new or another than before.
    async fn read_constants(&mut self, session: &Session, places: &[usize], refused: &mut Vec<(usize, StatusCode)>) -> Result<(), Halt> {
        let node = |place: &usize| self.items[*place].node.clone().unwrap_or_else(NodeId::null);
        let nodes: Vec<ReadValueId> = places.iter().map(|place| ReadValueId::from(node(place))).collect();
        let values = match limits::read(session, &self.limits, &nodes, TimestampsToReturn::Both).await {
            Ok(values) => values,
            Err(status) if is_connection(status) => return Err(status.into()),
            Err(status) => {
                refused.extend(places.iter().map(|place| (*place, status)));
                return Ok(());
            }
        };
        let (mut samples, now) = (Vec::new(), Timestamp::now());
        for (place, data) in places.iter().zip(values) {
            let item = &mut self.items[*place];
            if data.status().is_bad() {
                refused.push((*place, data.status()));
                continue;
            }
            let read = convert(&data, &item.meaning);
            item.settle_kind(kind_of_value(&read.value));
            item.accept(None, 1);
            let Follow::Constant { told } = &mut item.follow else { continue };
            if told.as_ref() == Some(&read.value) {
                continue;
            }
            *told = Some(read.value.clone());
            samples.push(Sample {
                item: item.data.clone(),
                value: read.value,
                quality: read.quality,
                timestamp: read.timestamp.unwrap_or(now),
                ingested: now,
                attributes: read.attributes,
            });
        }
        self.send(samples).await?;
        Ok(())
    }

    /// Puts items into subscriptions, as many as the server's limits make necessary.
    async fn subscribe(&mut self, session: &Session, mut places: Vec<usize>, refused: &mut Vec<(usize, StatusCode)>) -> Result<(), Halt> {
        let mut has_events = false;
        while !places.is_empty() {
            let is_new = self.subscriptions.last().is_none_or(|subscription| subscription.is_full);
            if is_new {
                let asked = Timestamp::now();
                match subscription::create(session, &self.config).await {
                    Ok(subscription) => {
                        self.heard.begins(subscription.id, asked);
                        self.subscriptions.push(subscription);
                    }
                    // What the server gave before goes on without the rest.
                    Err(status) if !is_connection(status) && !self.subscriptions.is_empty() => {
                        refused.extend(places.drain(..).map(|place| (place, status)));
                        break;
                    }
                    Err(status) => return Err(status.into()),
                }
            }
            let Some(newest) = self.subscriptions.last_mut() else { break };
            // Should this fail, nobody knows what the server took: it is made anew as a whole.
            newest.is_whole = false;
            let id = newest.id;
            let answers = subscription::add(session, &self.limits, id, &self.items, &places).await?;
            newest.is_whole = true;
            let asked = places.len();
            let mut rest = Vec::new();
            for (place, answer) in places.into_iter().zip(answers) {
                let item = &mut self.items[place];
                match answer {
                    Added::Yes { queue_size } => {
                        item.accept(Some(id), queue_size);
                        has_events |= matches!(item.follow, Follow::Events { .. });
                    }
                    Added::Full => rest.push(place),
                    Added::Refused(status) => refused.push((place, status)),
                }
            }
            newest.is_full = !rest.is_empty();
            if is_new && rest.len() == asked {
                // Not even an empty subscription takes them: it is the server that is full.
                self.subscriptions.pop();
                self.heard.forget(id);
                subscription::delete(session, &[id]).await;
                refused.extend(rest.drain(..).map(|place| (place, StatusCode::BadTooManyMonitoredItems)));
            }
            places = rest;
        }
        if has_events {
            self.refresh(session).await;
        }
        Ok(())
    }

    /// Asks for the alarms that are present; a server without any says so in many ways.
    pub(crate) async fn refresh(&self, session: &Session) {
        let mut ids: Vec<u32> =
            self.items.iter().filter(|item| matches!(item.follow, Follow::Events { .. })).filter_map(|item| item.subscription).collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            events::condition_refresh(session, id).await;
        }
    }

    /// Finds the methods and tells those that are new or another than before.
    async fn read_methods(&mut self, session: &Session) -> Result<(), Halt> {
        let addresses: Vec<&Address> = self.config.methods.iter().map(|root| &root.address).collect();
        let nodes = nodes::resolve(session, &self.limits, &addresses).await?;
        let mut roots = Vec::new();
        for (root, node) in self.config.methods.iter().zip(nodes) {
            match node {
                Ok(node) => roots.push((root.name.clone(), node)),
                Err(status) => self.note(format!("methods below {}: {} ({status})", root.name, root.address)),
            }
        }
        let taken: HashSet<String> = self.items.iter().map(|item| item.data.id.to_string()).collect();
        let now = Timestamp::now();
        let found = tolerate("looking for methods", discover_methods(session, &self.limits, &roots, &taken).await)?;
        self.offered = match &found {
            Some(methods) => self.understand_methods(session, methods).await?.map(Arc::new),
            None => None,
        };
        let methods = found.unwrap_or_default();
        let mut samples: Vec<Sample> = methods.iter().map(|method| method.sample(self.link.asset(), now)).collect();
        samples.retain(|sample| self.methods.insert(sample.item.id.clone(), sample.value.clone()).as_ref() != Some(&sample.value));
        self.send(samples).await?;
        Ok(())
    }

    async fn tell_refused(&mut self, refused: Vec<(usize, StatusCode)>) -> Result<(), Halt> {
        let mut samples = Vec::new();
        for (place, status) in refused {
            let item = &mut self.items[place];
            if let Some(sample) = item.refuse(status) {
                let words = format!("{} ({}) cannot be read: {status}", item.data.id, item.address);
                samples.push(sample);
                self.note(words);
            }
        }
        self.send(samples).await?;
        Ok(())
    }

    /// A failure that does not end the connection: for the log and the status page.
    pub(crate) fn note(&self, words: String) {
        warn!(problem = %words, "a part of the device cannot be read");
        self.link.status().set_error(words);
    }

    /// Hands samples over; `None` if there are none.
    pub(crate) async fn send(&self, samples: Vec<Sample>) -> Result<Option<Receipt>, Closed> {
        if samples.is_empty() { Ok(None) } else { self.link.send(samples).await.map(Some) }
    }
}

/// What the server refuses is done without; a connection that is gone is not.
pub(crate) fn tolerate<T>(what: &str, result: Result<T, StatusCode>) -> Result<Option<T>, StatusCode> {
    match result {
        Ok(result) => Ok(Some(result)),
        Err(status) if is_connection(status) => Err(status),
        Err(status) => {
            warn!(%status, what, "the server refuses a service: going on without");
            Ok(None)
        }
    }
}

/// Reads when the server started; `None` if it does not say.
async fn start_time(session: &Session) -> Result<Option<DateTime>, StatusCode> {
    let node = ReadValueId {
        node_id: VariableId::Server_ServerStatus_StartTime.into(),
        attribute_id: AttributeId::Value as u32,
        ..ReadValueId::default()
    };
    let values = session.read(&[node], TimestampsToReturn::Neither, 0.0).await.map_err(|e| e.status())?;
    Ok(values.into_iter().next().and_then(|value| match value.value {
        Some(Variant::DateTime(time)) => Some(*time),
        _ => None,
    }))
}
