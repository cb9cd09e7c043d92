//! What is shipped for Prometheus and Grafana asks for metrics that exist, and every alert says in the docs what to do.

use std::collections::BTreeSet;
use std::time::Duration;

use system_tests::devices::{Devices, Make, Plan};
use system_tests::kafka::Broker;
use system_tests::plant::Plant;
use system_tests::{http, ports, tools};

/// Every word that begins like a metric of ours.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("openfactory_edge_") || word.starts_with("openfactory_forwarder_")).map(str::to_owned).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist_and_alerts_are_explained() -> anyhow::Result<()> {
    let port = ports::free()?;
    let mut plant = Plant::new("metrics", Broker::shared()?, "")?;
    let config = plant.edge.config().to_owned();
    let listening = std::fs::read_to_string(&config)?.replace("[edge]\n", &format!("[edge]\nstatus_listen = \"127.0.0.1:{port}\"\n"));
    std::fs::write(config, listening)?;
    let devices = Devices::start(Plan::new(Make::PymodbusTcp, 1, 2), plant.folder())?;
    plant.add(devices)?;
    plant.start_nats()?;
    plant.start()?;
    plant.run_for(Duration::from_secs(1))?;
    let forwarder = plant.forwarder.as_ref().expect("it was started").metrics()?;
    let exist = metrics_in(&(http::get(port, "/metrics")?.1 + &forwarder));

    assert_eq!(http::get(port, "/readyz")?.0, 200);

    let folder = tools::tests_folder().join("..");
    let read = |file: &str| std::fs::read_to_string(folder.join(file));
    let (alerts, dashboard, docs) =
        (read("config/monitoring/alerts.yaml")?, read("config/monitoring/dashboard.json")?, read("docs/operations.md")?);
    serde_json::from_str::<serde_json::Value>(&dashboard)?;
    let asked = metrics_in(&(alerts.clone() + &dashboard));
    assert!(asked.len() > 15, "only {asked:?}");
    let unknown: Vec<_> = asked.difference(&exist).collect();
    assert!(unknown.is_empty(), "nobody tells {unknown:?}; there is {exist:#?}");
    let names: Vec<_> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");
    let unexplained: Vec<_> = names.into_iter().filter(|name| !docs.contains(&format!("| `{name}` |"))).collect();
    assert!(unexplained.is_empty(), "docs/operations.md does not say what to do about {unexplained:?}");
    plant.stop()
}

#[test]
fn the_journals_catalog_explains_every_message_that_has_an_id_and_no_other() -> anyhow::Result<()> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let catalog = std::fs::read_to_string(root.join("packaging/debian/openfactory-edge.catalog"))?;
    let explained: BTreeSet<String> = catalog.lines().filter_map(|line| line.strip_prefix("-- ")).map(str::to_owned).collect();
    let mut folders: Vec<_> = ["edge", "protocols", "service"].iter().map(|folder| root.join(folder)).collect();
    let mut used = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(path)?;
                let is_id = |text: &&str| text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                let consts = text.lines().filter_map(|line| line.split_once(": &str = \"")?.1.strip_suffix("\";"));
                used.extend(consts.filter(is_id).map(str::to_owned));
            }
        }
    }
    anyhow::ensure!(!used.is_empty() && used == explained, "in the sources: {used:#?}\nin the catalog: {explained:#?}");
    Ok(())
}
