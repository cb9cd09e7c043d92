//! An OPC UA server whose variables count up fast, for tests and benchmarks of rate: 100,000 changes a second and more.
//!
//! It speaks as `tests/simulators/opcua_device.py` does: assets `OPCUA-001`, …, node ids `ns=2;s=<asset>.t<i>`, commands `go`, `pause` and `stop` on
//! stdin, each answered by a JSON line on stdout. Its journal holds a line or two a tag, written at the start, at `pause` and at `stop`: tags count without
//! holes, so the first and the last value say all.
//!
//! Promise: a value is in the journal if and only if it was given to the server, with the timestamps of the first and the last.
//! Non-goals: being a device that we did not write (asyncua is), being shipped: nothing depends on this crate.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use clap::Parser;
use opcua::nodes::VariableBuilder;
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::{SimpleNodeManager, simple_node_manager};
use opcua::server::{ANONYMOUS_USER_TOKEN_ID, ServerBuilder, ServerEndpoint, ServerHandle};
use opcua::types::{DataTypeId, DataValue, DateTime, NodeId, ObjectId, QualifiedName, Variant};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// The namespace's URI; its index is 2, as the servers' own is 1.
const NAMESPACE: &str = "urn:openfactory:simulator";

/// How often values move: fine enough that a publishing interval of 100 ms sees an even stream.
const TICK: Duration = Duration::from_millis(10);

/// Changes fast, keeps a journal.
#[derive(Parser)]
struct Arguments {
    /// TCP port on 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// Number of assets.
    #[arg(long, default_value_t = 1)]
    devices: usize,
    /// Variables of each asset.
    #[arg(long, default_value_t = 100)]
    variables: usize,
    /// Changes a second of all variables together.
    #[arg(long, default_value_t = 1000)]
    rate: usize,
    /// The file that tells what was said.
    #[arg(long)]
    journal: PathBuf,
}

struct Tag {
    asset: Arc<str>,
    item: String,
    node: NodeId,
    value: u64,
    /// When it took the values 0, 1 and `value`.
    begun_ms: u64,
    first_ms: u64,
    last_ms: u64,
}

struct Simulator {
    handle: ServerHandle,
    nodes: Arc<SimpleNodeManager>,
    tags: Vec<Tag>,
    place: usize,
}

impl Simulator {
    /// Moves the next `count` tags on by one, going round.
    fn advance(&mut self, mut count: usize) -> anyhow::Result<()> {
        let (now, stamp) = now()?;
        while count > 0 {
            // A tag at most once in a call, so that each of its values reaches its queue.
            let end = self.tags.len().min(self.place + count);
            for tag in &mut self.tags[self.place..end] {
                tag.value += 1;
                if tag.value == 1 {
                    tag.first_ms = now;
                }
                tag.last_ms = now;
            }
            self.tell(self.place..end, stamp)?;
            count -= end - self.place;
            self.place = end % self.tags.len();
        }
        Ok(())
    }

    fn tell(&self, places: std::ops::Range<usize>, stamp: DateTime) -> anyhow::Result<()> {
        let values = places.map(|place| {
            let tag = &self.tags[place];
            (&tag.node, None, value(tag.value, stamp))
        });
        self.nodes.set_values(self.handle.subscriptions(), values).map_err(|status| anyhow!("the server refused a value: {status}"))
    }

    fn said(&self) -> u64 {
        self.tags.iter().map(|tag| tag.value + 1).sum()
    }

    /// `asset item first last first_ms last_ms`, a line for each run: the value at the start, and those after `go`.
    fn write_journal(&self, path: &PathBuf) -> anyhow::Result<()> {
        let mut text = String::new();
        for Tag { asset, item, value, begun_ms, first_ms, last_ms, .. } in &self.tags {
            text.push_str(&format!("{asset}\t{item}\t0\t0\t{begun_ms}\t{begun_ms}\n"));
            if *value > 0 {
                text.push_str(&format!("{asset}\t{item}\t1\t{value}\t{first_ms}\t{last_ms}\n"));
            }
        }
        std::fs::write(path, text).with_context(|| format!("cannot write the journal {}", path.display()))
    }
}

fn now() -> anyhow::Result<(u64, DateTime)> {
    let millis = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    // Whole milliseconds, as the asset stream keeps no more; OPC UA counts 100 ns from 1601.
    Ok((millis, DateTime::from(i64::try_from(millis)? * 10_000 + 11_644_473_600 * 10_000_000)))
}

#[expect(clippy::cast_precision_loss, reason = "counters stay far below 2^53")]
fn value(counter: u64, stamp: DateTime) -> DataValue {
    DataValue {
        value: Some(Variant::Double(counter as f64)),
        source_timestamp: Some(stamp),
        server_timestamp: Some(stamp),
        ..Default::default()
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (server, handle) = builder(arguments.port).build().map_err(|problem| anyhow!("the server's settings: {problem}"))?;
    let namespace = handle.get_namespace_index(NAMESPACE).context("the namespace was not registered")?;
    let nodes = handle.node_managers().get_of_type::<SimpleNodeManager>().context("the node manager was not registered")?;
    let tags = add_nodes(&nodes, namespace, &arguments)?;
    let mut simulator = Simulator { handle: handle.clone(), nodes, tags, place: 0 };
    simulator.tell(0..simulator.tags.len(), now()?.1)?;
    simulator.write_journal(&arguments.journal)?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", arguments.port))
        .await
        .with_context(|| format!("cannot listen on port {}", arguments.port))?;
    let serving = tokio::spawn(server.run_with(listener));
    tell(&serde_json::json!({"ready": true, "assets": names(arguments.devices)}))?;
    let outcome = obey(&mut simulator, &arguments).await;
    handle.cancel();
    serving.await?.map_err(|problem| anyhow!("the server failed: {problem}"))?;
    outcome
}

/// Follows stdin, and moves the values on in between.
async fn obey(simulator: &mut Simulator, arguments: &Arguments) -> anyhow::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut running: Option<(Instant, usize)> = None;
    loop {
        tokio::select! {
            line = lines.next_line() => {
                let word = line?.unwrap_or_else(|| "stop".to_owned());
                running = match word.as_str() {
                    "go" => Some((Instant::now(), 0)),
                    "pause" | "stop" => {
                        simulator.write_journal(&arguments.journal)?;
                        None
                    }
                    other => {
                        tell(&serde_json::json!({"error": format!("unknown command {other:?}")}))?;
                        continue;
                    }
                };
                tell(&serde_json::json!({"done": word, "said": simulator.said()}))?;
                if word == "stop" {
                    return Ok(());
                }
            }
            _ = tick.tick() => {
                if let Some((since, moved)) = &mut running {
                    let due = usize::try_from(since.elapsed().as_millis())? * arguments.rate / 1000;
                    // Behind by more than a tenth of a second: the machine was busy; no burst beyond what a client's queues are made for.
                    let count = due.saturating_sub(*moved).min(arguments.rate / 10);
                    simulator.advance(count)?;
                    *moved += count;
                }
            }
        }
    }
}

/// Anonymous and unencrypted, with limits that do not get in the way of 10,000 items at 10 changes a second each.
fn builder(port: u16) -> ServerBuilder {
    let mut builder = ServerBuilder::new()
        .application_name("OpenFactory rate simulator")
        .application_uri("urn:openfactory:simulator:server")
        .product_uri("urn:openfactory:simulator:product")
        .host("127.0.0.1")
        .port(port)
        .discovery_urls(vec!["/".to_owned()])
        .add_endpoint("none", ServerEndpoint::new_none("/", &[ANONYMOUS_USER_TOKEN_ID.to_owned()]))
        .with_node_manager(simple_node_manager(
            NamespaceMetadata { namespace_uri: NAMESPACE.to_owned(), ..Default::default() },
            "simulator",
        ))
        .subscription_poll_interval_ms(20)
        .max_session_timeout_ms(3_600_000);
    let limits = builder.limits_mut();
    limits.max_array_length = 1_000_000;
    limits.max_message_size = 64 << 20;
    limits.max_chunk_count = 2000;
    limits.subscriptions.max_monitored_items_per_sub = 0;
    limits.subscriptions.max_monitored_item_queue_size = 1000;
    limits.subscriptions.max_queued_notifications = 10_000;
    // 0: an item reports every value, not one in each sampling interval.
    limits.subscriptions.min_sampling_interval_ms = 0.0;
    limits.subscriptions.min_publishing_interval_ms = 20.0;
    limits.operational.max_monitored_items_per_call = 10_000;
    limits.operational.max_nodes_per_translate_browse_paths_to_node_ids = 10_000;
    builder
}

fn names(devices: usize) -> Vec<String> {
    (1..=devices).map(|number| format!("OPCUA-{number:03}")).collect()
}

fn add_nodes(nodes: &SimpleNodeManager, namespace: u16, arguments: &Arguments) -> anyhow::Result<Vec<Tag>> {
    let (now, _) = now()?;
    let mut tags = Vec::with_capacity(arguments.devices * arguments.variables);
    let mut space = nodes.address_space().write();
    for asset in names(arguments.devices).into_iter().map(Arc::<str>::from) {
        let folder = NodeId::new(namespace, asset.to_string());
        space.add_folder(&folder, QualifiedName::new(namespace, &*asset), &*asset, &ObjectId::ObjectsFolder.into());
        for index in 0..arguments.variables {
            let item = format!("t{index}");
            let node = NodeId::new(namespace, format!("{asset}.{item}"));
            VariableBuilder::new(&node, QualifiedName::new(namespace, item.as_str()), item.as_str())
                .data_type(DataTypeId::Double)
                .value(Variant::Double(0.0))
                .component_of(folder.clone())
                .insert(&mut *space);
            tags.push(Tag { asset: asset.clone(), item, node, value: 0, begun_ms: now, first_ms: now, last_ms: now });
        }
    }
    Ok(tags)
}

fn tell(facts: &serde_json::Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{facts}")?;
    Ok(out.flush()?)
}
