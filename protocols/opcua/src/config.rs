//! The `connector` section of a device whose type is `opcua`.

use std::time::Duration;

use asset_stream::Kind;
use asset_stream::device_file::{Access, ItemNames};
use asset_stream::document::{FromNode, Node, Section};
use opcua::core::comms::url::{hostname_port_from_url, is_opc_ua_binary_url};

use crate::nodes::Address;
use crate::security::{self, Security};

/// A device's connector, as the device file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the server listens: `opc.tcp://host:port/path`.
    pub uri: String,
    /// How the connection is secured and who we are.
    pub security: Security,
    /// Timeouts.
    pub session: SessionConfig,
    /// What holds for all variables.
    pub subscription: SubscriptionConfig,
    /// Read at each connect.
    pub constants: Vec<Constant>,
    /// Subscribed.
    pub variables: Vec<Variable>,
    /// Nodes that tell alarms and events.
    pub events: Vec<EventSource>,
    /// Nodes whose methods are offered.
    pub methods: Vec<MethodRoot>,
}

/// How patient the connection is.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionConfig {
    /// For the TCP connection and the first OPC UA greeting together; default 10 s.
    pub connect_timeout: Duration,
    /// For one request, as long as it is not one known to be slow; default 4 s.
    pub request_timeout: Duration,
    /// For the answer to a command: a method may take its time; default 10 s.
    pub action_timeout: Duration,
    /// How often the server is asked whether it lives; default 2 s.
    pub keep_alive_interval: Duration,
    /// After so many questions without an answer the connection counts as dead; default 2.
    pub keep_alive_failures: u32,
    /// How long the server keeps session and subscriptions while we are away; default 10 min. Servers may shorten it.
    pub session_timeout: Duration,
    /// How often nodes that the server refused are tried again; default 1 min.
    pub retry_interval: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(4),
            action_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(2),
            keep_alive_failures: 2,
            session_timeout: Duration::from_secs(600),
            retry_interval: Duration::from_secs(60),
        }
    }
}

/// How the server collects changes.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionConfig {
    /// How often the server sends what has changed; default 100 ms.
    pub publishing_interval: Duration,
    /// Values that the server keeps for each variable between two sendings, and while we are away; default 1.
    pub queue_size: u32,
    /// How often the server looks for a change, in milliseconds; 0: on each change, -1: at the publishing interval; default 0.
    pub sampling_interval: f64,
}

impl Default for SubscriptionConfig {
    fn default() -> Self {
        Self { publishing_interval: Duration::from_millis(100), queue_size: 1, sampling_interval: 0.0 }
    }
}

/// A value that does not change while the server runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Its `ID`.
    pub name: String,
    /// Its `TAG`; the name where none is given.
    pub tag: String,
    /// Where it is.
    pub address: Address,
    /// Its `TYPE`; by the data type where none is given.
    pub kind: Option<Kind>,
}

/// A value that is followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its `ID`.
    pub name: String,
    /// Its `TAG`; the name where none is given.
    pub tag: String,
    /// Where it is.
    pub address: Address,
    /// Its `TYPE`; by the data type where none is given: numbers are `Samples`, everything else is `Events`.
    pub kind: Option<Kind>,
    /// Changes smaller than this are not told, in the variable's unit.
    pub deadband: Option<f64>,
    /// As in [`SubscriptionConfig`].
    pub queue_size: u32,
    /// As in [`SubscriptionConfig`].
    pub sampling_interval: f64,
    /// Whether commands may write it.
    pub access: Access,
}

/// A node that tells events.
#[derive(Clone, Debug, PartialEq)]
pub struct EventSource {
    /// The `ID` of its events.
    pub name: String,
    /// Where it is; the server object itself tells everything.
    pub address: Address,
    /// Events that the server keeps for us between two sendings; default 1,000.
    pub queue_size: u32,
    /// Less severe events are not told: 1 to 1,000.
    pub minimum_severity: Option<u16>,
}

/// A node whose methods, at any depth, are offered.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodRoot {
    /// Its local name.
    pub name: String,
    /// Where it is.
    pub address: Address,
}

/// The two kinds that a variable can have.
struct VariableKind(Kind);

impl FromNode for VariableKind {
    fn from_node(node: &Node<'_>) -> Result<Self, String> {
        node.one_of([("Samples", Self(Kind::Samples)), ("Events", Self(Kind::Events))])
    }
}

/// Reads the `connector` section. `None`: something is wrong with it, and all of it was recorded.
pub fn parse(mut section: Section<'_>) -> Option<Config> {
    let problems = section.problems();
    let before = problems.len();
    let mut names = ItemNames::new();
    let server = section.required_section("server").map(parse_server);
    let (subscription, rest) =
        server.map_or_else(|| (SubscriptionConfig::default(), None), |(subscription, rest)| (subscription, Some(rest)));
    let constants = entries(&mut section, "constants", &mut names, |name, address, section| Constant {
        tag: tag(section, &name),
        kind: kind(section),
        name,
        address,
    });
    let variables = entries(&mut section, "variables", &mut names, |name, address, section| Variable {
        tag: tag(section, &name),
        kind: kind(section),
        deadband: deadband(section),
        queue_size: queue_size(section, subscription.queue_size),
        sampling_interval: sampling_interval(section, subscription.sampling_interval),
        access: section.or("access_level", Access::default()),
        name,
        address,
    });
    let events = entries(&mut section, "events", &mut names, |name, address, section| EventSource {
        queue_size: queue_size(section, 1_000),
        minimum_severity: minimum_severity(section),
        name,
        address,
    });
    let methods = entries(&mut section, "methods", &mut names, |name, address, _| MethodRoot { name, address });
    section.finish();
    if problems.len() > before {
        return None;
    }
    let (uri, security, session) = rest?;
    Some(Config { uri: uri?, security: security?, session, subscription, constants, variables, events, methods })
}

type Server = (Option<String>, Option<Security>, SessionConfig);

fn parse_server(mut section: Section<'_>) -> (SubscriptionConfig, Server) {
    let uri = section.required::<String>("uri").and_then(|uri| match hostname_port_from_url(&uri, 4840) {
        Ok((host, _)) if is_opc_ua_binary_url(&uri) && !host.is_empty() => Some(uri),
        _ => {
            section.problem("uri", format!("{uri:?} is no address of an OPC UA server: write opc.tcp://<host>:<port>/<path>"));
            None
        }
    });
    let subscription = section.section("subscription").map(parse_subscription).unwrap_or_default();
    let session = section.section("session").map(parse_session).unwrap_or_default();
    let security = security::parse(section.section("security"));
    section.finish();
    (subscription, (uri, security, session))
}

fn parse_subscription(mut section: Section<'_>) -> SubscriptionConfig {
    let default = SubscriptionConfig::default();
    let config = SubscriptionConfig {
        publishing_interval: millis(&mut section, "publishing_interval", default.publishing_interval, 1..=3_600_000),
        queue_size: queue_size(&mut section, default.queue_size),
        sampling_interval: sampling_interval(&mut section, default.sampling_interval),
    };
    section.finish();
    config
}

fn parse_session(mut section: Section<'_>) -> SessionConfig {
    let default = SessionConfig::default();
    let failures = section.or("keep_alive_failures", default.keep_alive_failures);
    if failures == 0 {
        section.problem("keep_alive_failures", "must be at least 1: with 0 a dead connection would never be noticed");
    }
    let config = SessionConfig {
        connect_timeout: millis(&mut section, "connect_timeout", default.connect_timeout, 100..=600_000),
        request_timeout: millis(&mut section, "request_timeout", default.request_timeout, 100..=600_000),
        action_timeout: millis(&mut section, "action_timeout", default.action_timeout, 100..=600_000),
        keep_alive_interval: millis(&mut section, "keep_alive_interval", default.keep_alive_interval, 100..=600_000),
        keep_alive_failures: failures,
        session_timeout: millis(&mut section, "session_timeout", default.session_timeout, 10_000..=86_400_000),
        retry_interval: millis(&mut section, "retry_interval", default.retry_interval, 1_000..=86_400_000),
    };
    section.finish();
    config
}

fn entries<T>(
    section: &mut Section<'_>,
    key: &str,
    names: &mut ItemNames,
    entry: impl Fn(String, Address, &mut Section<'_>) -> T,
) -> Vec<T> {
    let mut all = Vec::new();
    for (name, mut section) in section.entries(key) {
        // Its problem is recorded; the rest of the entry is checked all the same.
        names.claim(&name, &section);
        // The other keys are checked although the address is missing.
        let address = address(&mut section);
        let missing = Address::Path(Vec::new());
        let read = entry(name, address.clone().unwrap_or(missing), &mut section);
        section.finish();
        all.extend(address.map(|_| read));
    }
    all
}

fn address(section: &mut Section<'_>) -> Option<Address> {
    let node_id = section.optional::<String>("node_id");
    let browse_path = section.optional::<String>("browse_path");
    let (key, read) = match (section.contains("node_id"), section.contains("browse_path")) {
        (true, true) => {
            section.problem("browse_path", "node_id and browse_path exclude each other: keep one of them");
            return None;
        }
        (false, false) => {
            section.problem("", "node_id or browse_path is missing: one of them says where the node is");
            return None;
        }
        (true, false) => ("node_id", Address::node_id(&node_id?)),
        (false, true) => ("browse_path", Address::browse_path(&browse_path?)),
    };
    read.map_err(|problem| section.problem(key, problem)).ok()
}

fn tag(section: &mut Section<'_>, name: &str) -> String {
    section.optional("tag").unwrap_or_else(|| name.to_owned())
}

fn kind(section: &mut Section<'_>) -> Option<Kind> {
    section.optional::<VariableKind>("type").map(|kind| kind.0)
}

fn deadband(section: &mut Section<'_>) -> Option<f64> {
    let deadband = section.optional::<f64>("deadband");
    if deadband.is_some_and(|d| d < 0.0) {
        section.problem("deadband", "must not be negative: it is the smallest change that is told");
    }
    // 0 is none.
    deadband.filter(|d| *d > 0.0)
}

fn queue_size(section: &mut Section<'_>, default: u32) -> u32 {
    let size = section.or("queue_size", default);
    if size == 0 {
        section.problem("queue_size", "must be at least 1: it counts the values that the server keeps");
        return default.max(1);
    }
    size
}

fn sampling_interval(section: &mut Section<'_>, default: f64) -> f64 {
    let interval = section.or("sampling_interval", default);
    if interval < 0.0 && interval != -1.0 {
        section.problem("sampling_interval", "must be a number of milliseconds, 0 (on each change) or -1 (the publishing interval)");
        return default;
    }
    interval
}

fn minimum_severity(section: &mut Section<'_>) -> Option<u16> {
    let severity = section.optional::<u16>("minimum_severity");
    if severity.is_some_and(|s| !(1..=1_000).contains(&s)) {
        section.problem("minimum_severity", "must be between 1 and 1000");
    }
    severity
}

fn millis(section: &mut Section<'_>, key: &str, default: Duration, range: std::ops::RangeInclusive<u64>) -> Duration {
    let Some(millis) = section.optional::<u64>(key) else { return default };
    if !range.contains(&millis) {
        section.problem(key, format!("must be between {} and {} milliseconds", range.start(), range.end()));
    }
    Duration::from_millis(millis)
}

#[cfg(test)]
mod tests;
