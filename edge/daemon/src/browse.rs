//! `openfactory-edge browse`: what an OPC UA server has, for a person, a program, or as a device file.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use asset_stream::document::{Document, Environment, Problems};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use gateway_opcua::{Address, Browsed, Config as Connector, Extent, Node, Shared, propose, quoted};
use service::error::chain;

use crate::check::{self, BadConfig};
use crate::cli::{BrowseArgs, Login};
use crate::config::Config;
use crate::devices;
use crate::new_device_file;
use crate::progress::Line;

/// What the service's unit does not let it see.
const HIDDEN: [&str; 3] = ["/home", "/root", "/run/user"];

/// A value longer than this is cut in the tree.
const SHOWN: usize = 40;

/// Connects, browses, prints or writes.
pub(crate) fn run(file: &Path, args: &BrowseArgs) -> anyhow::Result<()> {
    let start = Address::node_id(&args.node).or_else(|not_an_id| Address::browse_path(&args.node).map_err(|_| not_an_id));
    let start = start.map_err(|problem| anyhow::anyhow!("--node: {problem}, or a browse path, 0:Root/0:Objects/2:Sensors"))?;
    if let (Some(file), Some(asset)) = (&args.write, &args.asset) {
        new_device_file::check(file, asset)?;
    }
    let (connector, state_dir) = connector(file, args)?;
    let shared = Shared::open(&state_dir).map_err(|error| anyhow::anyhow!("{}", chain(&error)))?;
    let extent = Extent { start, depth: args.depth, most: args.limit };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime cannot be started")?;
    let mut line = Line::new();
    let browsed =
        runtime.block_on(gateway_opcua::browse(&connector, &shared, &extent, |nodes| line.show(|| format!("{nodes} nodes found"))));
    drop(line);
    let browsed = browsed.map_err(anyhow::Error::msg)?;
    match (&args.write, &args.asset) {
        (Some(file), Some(asset)) => write(file, asset, args, &browsed)?,
        _ if args.json => service::output::print(&(serde_json::to_string_pretty(&browsed)? + "\n"))?,
        _ => service::output::print(&tree(&browsed.nodes))?,
    }
    if browsed.is_cut {
        eprintln!("openfactory-edge: there may be more nodes: the look ended at --limit {} or --depth {}", args.limit, args.depth);
    }
    Ok(())
}

/// How to talk to the server, and where the edge's certificate and the trusted ones are.
fn connector(file: &Path, args: &BrowseArgs) -> anyhow::Result<(Connector, std::path::PathBuf)> {
    if args.target.contains("://") {
        let config = Config::read(file).map_err(|problems| BadConfig::of(&problems))?;
        return Ok((parse(&server(&args.target, &args.login, Trust::AsAsked))?, config.edge.state_dir));
    }
    ensure!(args.login.is_empty(), "{:?} is a device of the config: its file says how to log in", args.target);
    ensure!(
        args.write.is_none(),
        "{:?} has a device file already; browse by the server's opc.tcp address to write another one",
        args.target
    );
    let checked = check::load(file).map_err(|problems| BadConfig::of(&problems))?;
    let device = checked.devices.into_iter().find(|device| *device.name == args.target);
    match device.map(|device| device.connector) {
        Some(devices::Connector::Opcua(connector)) => Ok((connector, checked.config.edge.state_dir)),
        Some(other) => bail!("{:?} speaks {}; only OPC UA servers can be browsed", args.target, other.protocol()),
        None => bail!("{:?} is neither an opc.tcp address nor a device of the config", args.target),
    }
}

/// Whether a certificate that was accepted unchecked for a look shall be so for good.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    AsAsked,
    Checked,
}

/// The section `server` of a device file, indented as below `connector:`.
fn server(uri: &str, login: &Login, trust: Trust) -> String {
    let mut security = Vec::new();
    security.extend(login.policy.as_ref().map(|policy| format!("policy: {policy}")));
    security.extend(login.mode.as_ref().map(|mode| format!("mode: {mode}")));
    if let (Some(user), Some(file)) = (&login.user, &login.password_file) {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        security.push(format!("identity: {{user: {}, password_file: {}}}", quoted(user), quoted(&file.to_string_lossy())));
    }
    if login.trust_any && trust == Trust::AsAsked {
        security.push("trust: any".to_owned());
    }
    let mut text = format!("      server:\n        uri: {}\n", quoted(uri));
    if !security.is_empty() {
        text.push_str(&format!("        security: {{{}}}\n", security.join(", ")));
    }
    text
}

/// Reads a connector as a device file has it.
fn parse(text: &str) -> anyhow::Result<Connector> {
    let (problems, environment) = (Problems::new(), Environment::empty());
    let document = Document::parse("command line", format!("connector:\n{text}").as_bytes(), &problems);
    let connector = document.as_ref().and_then(|document| {
        let mut root = document.root(&environment, &problems);
        root.required_section("connector").and_then(gateway_opcua::parse)
    });
    let told: Vec<String> = problems.into_vec().iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect();
    connector.with_context(|| told.join("\n"))
}

fn write(file: &Path, asset: &str, args: &BrowseArgs, browsed: &Browsed) -> anyhow::Result<()> {
    let server = server(&args.target, &args.login, Trust::Checked);
    let connector = format!("{server}{}", propose(browsed, &args.node));
    let variables = parse(&connector).context("the server has something that no device file can say")?.variables.len();
    ensure!(variables > 0, "no variable was found; nothing is written");
    let name = asset.to_lowercase();
    let text = format!(
        "# {variables} variables of {}: delete what nobody needs. Reference: /usr/share/doc/openfactory-edge/opcua.md\n\ndevices:\n  {}:\n    uuid: {}\n    connector:\n      type: opcua\n{connector}",
        args.target,
        quoted(&name),
        quoted(asset),
    );
    new_device_file::write(file, &text)?;
    if let Some(secret) = args.login.password_file.as_deref().filter(|file| HIDDEN.iter().any(|hidden| file.starts_with(hidden))) {
        eprintln!(
            "openfactory-edge: the service cannot see {}: put the password into /etc/openfactory-edge/credentials/NAME (mode 600) and write password_file: credential:NAME",
            secret.display()
        );
    }
    service::output::print(&format!("{}: {variables} variables; {}\n", file.display(), new_device_file::NEXT))?;
    Ok(())
}

fn tree(nodes: &[Node]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["node", "type", "access", "node id", "value"]);
    let mut variables = 0;
    for node in nodes {
        let depth = node.path.len().saturating_sub(1);
        let name = format!("{}{}", "  ".repeat(depth), node.path.last().map_or("", String::as_str));
        let (kind, access, value) = match &node.variable {
            None => (node.class.to_owned(), "", String::new()),
            Some(variable) => {
                variables += 1;
                let value = variable.value.clone().or_else(|| variable.status.clone()).unwrap_or_default();
                (variable.data_type.clone(), if variable.writable { "rw" } else { "ro" }, cut(&value))
            }
        };
        table.add_row([name.as_str(), &kind, access, &node.node_id, &value]);
    }
    let mut text = String::new();
    // Writing into a string cannot fail.
    writeln!(text, "{}", table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")).ok();
    writeln!(text, "{} nodes, {variables} of them variables", nodes.len()).ok();
    text
}

fn cut(value: &str) -> String {
    if value.chars().count() <= SHOWN {
        return value.to_owned();
    }
    value.chars().take(SHOWN).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::{Trust, parse, server};
    use crate::cli::Login;

    #[test]
    fn what_the_command_line_says_of_a_server_is_read_as_a_device_file_is() {
        let mut login = Login { policy: None, mode: None, user: None, password_file: None, trust_any: true };
        parse(&server("opc.tcp://h:4840", &login, Trust::AsAsked)).expect("valid");
        assert!(!server("opc.tcp://h:4840", &login, Trust::Checked).contains("any"), "accepted once is not accepted for good");
        login.user = Some("a \"b\" ${C}".into());
        login.password_file = Some("/nowhere/password".into());
        let connector = parse(&server("opc.tcp://h:4840", &login, Trust::AsAsked)).expect("valid");
        assert!(format!("{:?}", connector.security.identity).contains(r#"a \"b\" ${C}"#), "{:?}", connector.security.identity);
        let error = parse(&server("opc.tcp://", &login, Trust::AsAsked)).expect_err("no host").to_string();
        assert!(error.contains("server.uri") && error.contains("opc.tcp://<host>"), "{error}");
    }
}
